//! Waiting for room: in a task, or on a thread.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use sinew_core::{Error, ErrorKind, Looked, Looks, give_way};
use sinew_memory::Frozen;
use sinew_ring::{Corruption, Producer, PushError, State};

use super::{Blocked, Sender};
use crate::link::{Half, Parker};
use crate::sys::{Lent, Memory};
use crate::wire::{FRAME_DATA, MAX_MEMORY_IN_FLIGHT};

impl Sender {
    #[inline]
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        // The common case by itself.
        if self.is_free()
            && let Ok(ring) = self.producer.send(FRAME_DATA, payload)
        {
            if ring {
                self.ring();
            }
            self.spin.succeed();
            self.count(payload.len());
            return Poll::Ready(Ok(()));
        }
        self.poll_send_slowly(cx, payload)
    }

    /// Whether nothing is in the way of a message, but perhaps room.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        !self.armed
            && !self.closed
            && self.pending.is_none()
            && self.failed.is_none()
            && !self.link.has_event(Half::Sender)
    }

    #[inline]
    pub(super) fn poll_reserve(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        if self.is_free() && self.producer.has_room(len) == Ok(true) {
            return Poll::Ready(Ok(()));
        }
        self.check_open()?;
        self.poll_room(cx, len)
    }

    #[cold]
    pub(super) fn poll_send_slowly(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<Result<(), Error>> {
        self.take_event()?;
        loop {
            let Some(blocked) = self.stage(payload)? else {
                self.spin.succeed();
                self.publish();
                return Poll::Ready(Ok(()));
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    pub(super) fn poll_send_frozen(
        &mut self,
        cx: &mut Context<'_>,
        memory: &Frozen,
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.take_event()?;
        loop {
            let Some(blocked) = self.stage_frozen(memory, Some(cx))? else {
                self.spin.succeed();
                self.publish();
                return Poll::Ready(Ok(()));
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    /// Publishes a message of as many of the bytes as the threshold and the room allow, at least one.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let total = slices
            .iter()
            .fold(0usize, |sum, slice| sum.saturating_add(slice.len()));
        let len = total.min(self.threshold).max(usize::from(total > 0));
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        self.check_open()?;
        ready!(self.poll_room(cx, len))?;
        let lent = match Lent::new(&mut self.producer, len) {
            Ok(Some(lent)) => Some(lent),
            Err(PushError::Corrupted(corruption)) => {
                return Poll::Ready(Err(self.corrupted(corruption)));
            }
            Ok(None) | Err(_) => None,
        };
        let Some(mut lent) = lent else {
            let error = Error::new(ErrorKind::LimitExceeded, "write");
            return Poll::Ready(Err(self.link.error(error)));
        };
        let mut rest = lent.as_mut_slice();
        for slice in slices {
            let count = slice.len().min(rest.len());
            let (here, after) = rest.split_at_mut(count);
            here.copy_from_slice(&slice[..count]);
            rest = after;
        }
        self.commit_ring(len)?;
        Poll::Ready(Ok(len))
    }

    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.take_event()?;
        loop {
            let blocked = match self.stage_pending(Some(cx))? {
                Some(blocked) => blocked,
                None if self.has_room(len, false)? => {
                    self.spin.succeed();
                    return Poll::Ready(Ok(()));
                }
                None => Blocked::Room { len, memory: false },
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.take_event()?;
        while let Some(blocked) = self.stage_pending(Some(cx))? {
            ready!(self.poll_blocked(cx, blocked))?;
        }
        self.spin.succeed();
        self.publish();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Where nothing is left to send, it does not matter that nobody receives.
        let left = self.pending.is_some() || self.producer.has_staged();
        if left && !self.closed {
            let sent = ready!(self.poll_pending(cx));
            if sent.is_err() && self.failed.is_none() {
                return Poll::Ready(sent);
            }
            self.close_now(State::Closed);
            return Poll::Ready(sent);
        }
        Poll::Ready(self.finish())
    }

    /// Closes, where nothing is left to be sent.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let lost = self.unreceived_by_the_dead();
        self.close_now(State::Closed);
        lost.map_or(Ok(()), Err)
    }

    /// Why what was published is not received any more: the receiver's process has died before it
    /// has.
    fn unreceived_by_the_dead(&mut self) -> Option<Error> {
        if self.closed {
            return None;
        }
        let _what_is_amiss_is_no_death = self.link.drain_now(Half::Sender);
        let error = self.fate().filter(Error::is_peer_crashed)?;
        let received = self.producer.refresh().ok()?;
        (received < self.producer.position()).then_some(error)
    }

    /// Waits until what is blocked may go on; ready may be early.
    #[cold]
    pub(super) fn poll_blocked(
        &mut self,
        cx: &mut Context<'_>,
        blocked: Blocked,
    ) -> Poll<Result<(), Error>> {
        self.publish();
        if blocked != Blocked::Socket {
            match self.look(blocked) {
                Looked::Ready => return Poll::Ready(Ok(())),
                Looked::Yield => {
                    // A sender that never parks is never rung: it learns here that its peer has closed.
                    if let Some(error) = self.fate() {
                        return Poll::Ready(Err(error));
                    }
                    give_way(cx);
                    return Poll::Pending;
                }
                Looked::Park => {}
            }
        }
        self.link.register(Half::Sender, cx.waker());
        // Before it arms: a ring that comes after that is for what this end waits for, and is not
        // taken in here.
        self.link.poll_events(Half::Sender)?;
        self.arm(blocked)?;
        let room = match blocked {
            Blocked::Socket => self.link.poll_writable(cx)?.is_ready(),
            _ => self.may_go_on(blocked)?,
        };
        if room {
            self.disarm();
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.fate() {
            self.disarm();
            return Poll::Ready(Err(error));
        }
        self.stats.parks += 1;
        tracing::trace!(parent: &self.link.span, "sender parks");
        Poll::Pending
    }

    pub(super) fn block_on(
        &mut self,
        mut stage: impl FnMut(&mut Self) -> Result<Option<Blocked>, Error>,
    ) -> Result<(), Error> {
        loop {
            let Some(blocked) = stage(self)? else {
                self.spin.succeed();
                self.publish();
                return Ok(());
            };
            self.publish();
            if blocked != Blocked::Socket {
                match self.look(blocked) {
                    Looked::Ready => continue,
                    Looked::Yield => {
                        self.look_now_and_then()?;
                        std::thread::yield_now();
                        continue;
                    }
                    Looked::Park => {}
                }
            }
            let parker = match self.parker.take() {
                Some(parker) => parker,
                None => Parker::new(&self.link)?,
            };
            self.link.register(Half::Sender, parker.waker());
            // As in a task.
            self.link.drain_now(Half::Sender)?;
            self.arm(blocked)?;
            let room = match blocked {
                Blocked::Socket => false,
                _ => self.may_go_on(blocked)?,
            };
            if !room {
                if let Some(error) = self.fate() {
                    return Err(error);
                }
                self.stats.parks += 1;
                tracing::trace!(parent: &self.link.span, "sender parks");
                parker.park(None)?;
            }
            self.disarm();
            self.parker = Some(parker);
        }
    }

    #[inline]
    pub(super) fn look(&mut self, blocked: Blocked) -> Looked {
        let Self {
            spin,
            producer,
            memories,
            ..
        } = self;
        // A corrupt cursor ends the look, and is reported by the next stage.
        spin.look(Looks::SHARED, || {
            may_go_on(producer, memories, blocked).unwrap_or(true)
        })
    }

    /// Whether the receiver has done what this end waits for.
    fn may_go_on(&mut self, blocked: Blocked) -> Result<bool, Error> {
        may_go_on(&mut self.producer, &mut self.memories, blocked)
            .map_err(|corruption| self.corrupted(corruption))
    }

    pub(super) fn has_room(&mut self, len: usize, memory: bool) -> Result<bool, Error> {
        has_room(&mut self.producer, &mut self.memories, len, memory)
            .map_err(|corruption| self.corrupted(corruption))
    }
}

fn may_go_on(
    producer: &mut Producer<Memory>,
    memories: &mut VecDeque<u64>,
    blocked: Blocked,
) -> Result<bool, Corruption> {
    match blocked {
        Blocked::Room { len, memory } => has_room(producer, memories, len, memory),
        Blocked::Released(cursor) => Ok(producer.refresh()? >= cursor),
        Blocked::Socket => Ok(false),
    }
}

/// Whether a payload fits, and, if it announces memory, whether that may be under way too.
fn has_room(
    producer: &mut Producer<Memory>,
    memories: &mut VecDeque<u64>,
    len: usize,
    memory: bool,
) -> Result<bool, Corruption> {
    if !producer.has_room(len)? {
        return Ok(false);
    }
    if memory && memories.len() >= MAX_MEMORY_IN_FLIGHT {
        let released = producer.refresh()?;
        while memories.front().is_some_and(|end| *end <= released) {
            memories.pop_front();
        }
        return Ok(memories.len() < MAX_MEMORY_IN_FLIGHT);
    }
    Ok(true)
}
