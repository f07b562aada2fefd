//! Large messages in memory that is used again: the sender's pool, and what the receiver has mapped
//! of it.
//!
//! A fresh memfd for each large message costs its pages each time, which for 1 MiB is ten times the
//! copy. A segment is allocated, sent and mapped once. A message in it is announced by a frame in
//! the ring, and the segment is free again when the receiver has released that frame.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sinew_core::{Error, ErrorKind};
use sinew_memory::Segment;

use crate::wire::{MAX_SEGMENT_BYTES, MAX_SEGMENTS};

/// The smallest segment, bytes.
const LEAST: usize = 64 << 10;

/// The segments of a sender.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Vec<Slot>,
    limit: usize,
    /// How many were sent so far, which is the number of the next.
    sent: u64,
}

#[derive(Debug)]
struct Slot {
    segment: Segment,
    sent: Sent,
    /// The receiver's cursor from which on it is free.
    busy: u64,
}

#[derive(Debug)]
enum Sent {
    No(OwnedFd),
    /// With its number.
    Yes(u64),
}

/// Where a message goes, or what has to be done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// This one is free.
    At(usize),
    /// One of so many bytes is to be made.
    Create(usize),
    /// This one, which is too small, is to make room for a larger one.
    Retire(usize),
    /// One is free once the receiver's cursor has come so far.
    Busy(u64),
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            limit: limit.min(MAX_SEGMENT_BYTES),
            sent: 0,
        }
    }

    /// The longest message that a segment can hold, bytes.
    pub(crate) fn most(&self) -> usize {
        // A power of two, since segments are.
        match self.limit {
            limit if limit < LEAST => 0,
            limit => 1 << limit.ilog2(),
        }
    }

    /// Where a message of `len` bytes, at most [`most`](Self::most), goes, if the receiver's cursor
    /// is `released`.
    pub(crate) fn place(&self, len: usize, released: u64) -> Place {
        let size = len.next_power_of_two().max(LEAST);
        let free = || {
            let slots = self.slots.iter().enumerate();
            slots.filter(|(_, slot)| slot.busy <= released)
        };
        let fits = |slot: &Slot| slot.segment.len() >= len;
        let used: usize = self.slots.iter().map(|slot| slot.segment.len()).sum();
        let may_create = self.slots.len() < MAX_SEGMENTS && used + size <= self.limit;
        let is_alone = self.slots.iter().filter(|slot| fits(slot)).count() < 2;
        // The one that was released longest ago, of two at least: the receiver's cache holds what
        // it has just read, and each write there would have to take a line back from it. Round
        // trips of 1 MiB take 0.8 of iceoryx2's time that way, and 1.15 with one segment.
        let longest = free().filter(|(_, slot)| fits(slot));
        match longest.min_by_key(|(_, slot)| slot.busy) {
            Some((at, _)) if !(is_alone && may_create) => return Place::At(at),
            _ if may_create => return Place::Create(size),
            _ => {}
        }
        if let Some((at, _)) = free().min_by_key(|(_, slot)| slot.busy) {
            return Place::Retire(at);
        }
        let first = self.slots.iter().map(|slot| slot.busy).min();
        Place::Busy(first.unwrap_or(released))
    }

    pub(crate) fn create(&mut self, size: usize) -> Result<(), Error> {
        let (segment, fd) = Segment::create(size)?;
        self.slots.push(Slot {
            segment,
            sent: Sent::No(fd),
            busy: 0,
        });
        Ok(())
    }

    /// What is to be sent to the peer before it hears of this segment.
    pub(crate) fn unsent(&self, at: usize) -> Option<&OwnedFd> {
        match &self.slots.get(at)?.sent {
            Sent::No(fd) => Some(fd),
            Sent::Yes(_) => None,
        }
    }

    pub(crate) fn set_sent(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.sent = Sent::Yes(self.sent);
            self.sent += 1;
        }
    }

    /// The number by which the peer knows this one, if it does.
    pub(crate) fn number(&self, at: usize) -> Option<u64> {
        match self.slots.get(at)?.sent {
            Sent::No(_) => None,
            Sent::Yes(number) => Some(number),
        }
    }

    /// Takes a message into account whose frame ends at `end`.
    pub(crate) fn set_busy(&mut self, at: usize, end: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.busy = end;
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.slots.swap_remove(at);
    }

    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        let slot = self.slots.get(at);
        let bytes = slot.and_then(|slot| slot.segment.as_slice());
        bytes.and_then(|bytes| bytes.get(..len)).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        let slot = self.slots.get_mut(at);
        let bytes = slot.and_then(|slot| slot.segment.as_mut_slice());
        bytes
            .and_then(|bytes| bytes.get_mut(..len))
            .unwrap_or_default()
    }
}

/// The segments of the peer that a receiver has mapped.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    segments: VecDeque<(u64, Arc<Segment>)>,
    /// The number of the next one that comes.
    next: u64,
}

fn violation(reason: String) -> Error {
    Error::new(ErrorKind::Protocol, "recv").with_reason(reason)
}

impl Mapped {
    /// Whether this is the number of a segment that must have come over the socket, and was not
    /// mapped yet.
    pub(crate) fn is_next(&self, number: u64) -> bool {
        self.next == number
    }

    /// Bytes that the next segment may have.
    pub(crate) fn room(&self) -> usize {
        let used: usize = self.segments.iter().map(|(_, segment)| segment.len()).sum();
        match self.segments.len() < MAX_SEGMENTS {
            true => MAX_SEGMENT_BYTES.saturating_sub(used),
            false => 0,
        }
    }

    pub(crate) fn add(&mut self, segment: Segment) {
        self.segments.push_back((self.next, Arc::new(segment)));
        self.next += 1;
    }

    /// The segment of this number, with a message of `len` bytes.
    pub(crate) fn get(&self, number: u64, len: usize) -> Result<&Arc<Segment>, Error> {
        let found = self.segments.iter().find(|(known, _)| *known == number);
        match found {
            Some((_, segment)) if len <= segment.len() => Ok(segment),
            Some((_, segment)) => Err(violation(format!(
                "a message of {len} bytes in a segment of {}",
                segment.len()
            ))),
            None => Err(violation(format!(
                "a message in segment {number}, which is none"
            ))),
        }
    }

    /// Unmaps a segment that the sender has given up.
    pub(crate) fn remove(&mut self, number: u64) -> Result<(), Error> {
        let at = self.segments.iter().position(|(known, _)| *known == number);
        let removed = at.and_then(|at| self.segments.remove(at));
        match removed {
            Some(_) => Ok(()),
            None => Err(violation(format!(
                "the end of segment {number}, which is none"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_reused_and_adapts_to_larger_messages() {
        let mut pool = Pool::new(1 << 20);
        assert_eq!(pool.most(), 1 << 20);
        let mut cursor = 0;
        // As many as there may be, all busy.
        for at in 0..8 {
            assert_eq!(pool.place(100_000, 0), Place::Create(128 << 10));
            pool.create(128 << 10).unwrap();
            assert!(pool.unsent(at).is_some());
            pool.set_sent(at);
            assert_eq!(pool.number(at), Some(at as u64));
            cursor += 24;
            pool.set_busy(at, cursor);
        }
        assert_eq!(pool.place(100_000, 0), Place::Busy(24));
        // The one that was released first.
        assert_eq!(pool.place(100_000, 24), Place::At(0));
        assert_eq!(pool.place(100_000, 72), Place::At(0));
        assert_eq!(pool.place(400_000, 0), Place::Busy(24));
        // Four small ones make room for a large one.
        for _ in 0..4 {
            let Place::Retire(at) = pool.place(400_000, cursor) else {
                panic!("{:?}", pool.place(400_000, cursor));
            };
            pool.remove(at);
        }
        assert_eq!(pool.place(400_000, cursor), Place::Create(512 << 10));
    }

    #[test]
    fn two_take_turns_and_one_does_where_there_is_no_room_for_another() {
        let mut pool = Pool::new(1 << 20);
        pool.create(512 << 10).unwrap();
        pool.set_busy(0, 24);
        assert_eq!(pool.place(300_000, 24), Place::Create(512 << 10));
        pool.create(512 << 10).unwrap();
        pool.set_busy(1, 48);
        assert_eq!(pool.place(300_000, 48), Place::At(0));
        pool.set_busy(0, 72);
        assert_eq!(pool.place(300_000, 72), Place::At(1));

        let mut pool = Pool::new(1 << 20);
        pool.create(1 << 20).unwrap();
        pool.set_busy(0, 24);
        assert_eq!(pool.place(1 << 20, 24), Place::At(0));
        assert_eq!(pool.place(1 << 20, 16), Place::Busy(24));
    }

    #[test]
    fn a_pool_without_memory_holds_nothing() {
        assert_eq!(Pool::new(0).most(), 0);
        assert_eq!(Pool::new(usize::MAX).most(), MAX_SEGMENT_BYTES);
    }
}
