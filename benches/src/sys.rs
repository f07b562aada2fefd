//! The shared memory of the limits: one message slot in each direction, mapped by both processes.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::Result;
use crate::payload::Stamp;

/// Two slots in shared memory, each for one message, of which each process writes one.
///
/// The first word of a message is its flag as well: the writer stores it last, and the reader
/// waits until it changes. A message of a cache line thus moves one line and no other.
///
/// Both processes are this program and take turns: nobody writes a slot whose message has not been
/// answered.
#[derive(Debug)]
pub(crate) struct Mailbox {
    base: NonNull<u64>,
    /// Words of a slot.
    words: usize,
    /// Whether this process writes the first slot.
    first: bool,
    seen: u64,
}

impl Mailbox {
    /// Memory for two slots of `len` bytes, to be opened by both processes.
    pub(crate) fn create(len: usize) -> Result<OwnedFd> {
        let fd = memfd_create("sinew-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, 2 * slot_size(len) as u64)?;
        Ok(fd)
    }

    /// Maps `memory`; one of the two processes is `first`.
    pub(crate) fn open(memory: impl AsFd, len: usize, first: bool) -> Result<Self> {
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
        );
        // SAFETY: a null address lets the kernel choose a range that nothing else uses.
        let base = unsafe { mmap(null_mut(), 2 * slot_size(len), access, flags, memory, 0) }?;
        let base = NonNull::new(base.cast()).ok_or("mmap returned null")?;
        Ok(Self {
            base,
            words: len / 8,
            first,
            seen: 0,
        })
    }

    fn slot(&self, own: bool) -> NonNull<u64> {
        if own == self.first {
            self.base
        } else {
            // SAFETY: the mapping holds two slots, so the second one is inside.
            unsafe { self.base.add(slot_size(8 * self.words) / 8) }
        }
    }

    /// Where the payload of a slot lies: behind the flag.
    fn payload(&self, own: bool) -> NonNull<u64> {
        // SAFETY: a slot holds its flag and `words` words.
        unsafe { self.slot(own).add(1) }
    }

    /// Writes a message into the own slot; its flag comes last.
    #[inline]
    pub(crate) fn put(&mut self, stamp: Stamp) {
        // SAFETY: `words` words are mapped there until `self` is dropped, and by the alternation the
        // peer reads none of them before the flag is stored.
        let payload =
            unsafe { std::slice::from_raw_parts_mut(self.payload(true).as_ptr(), self.words) };
        stamp.fill_words(payload);
        self.flag(true).store(stamp.word(), Ordering::Release);
    }

    /// Whether the peer's slot holds a message that has not been taken.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.flag(false).load(Ordering::Acquire) != self.seen
    }

    /// The message in the peer's slot, if it is a new one.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&[u64]> {
        let flag = self.flag(false).load(Ordering::Acquire);
        if flag == self.seen {
            return None;
        }
        self.seen = flag;
        // SAFETY: `words` words are mapped there until `self` is dropped; the flag was acquired, and by
        // the alternation the peer writes the slot only after our next `put`, which the borrow of
        // `self` excludes while the message is in use.
        Some(unsafe { std::slice::from_raw_parts(self.payload(false).as_ptr(), self.words) })
    }

    fn flag(&self, own: bool) -> &AtomicU64 {
        // SAFETY: a slot's first word is mapped until `self` is dropped, aligned to 8, and only ever
        // accessed by atomics.
        unsafe { AtomicU64::from_ptr(self.slot(own).as_ptr()) }
    }
}

/// Bytes of a slot: a flag, and a payload that may be anything and so cannot be its own flag. Slots share
/// no cache line, nor a pair of them.
fn slot_size(len: usize) -> usize {
    (8 + len).next_multiple_of(128)
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `open`, and no borrow of it outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), 2 * slot_size(8 * self.words)) };
        debug_assert!(unmapped.is_ok(), "the range is a mapping");
    }
}
