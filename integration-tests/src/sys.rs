//! The unsafe code of the tests: memory that a peer shares.
#![allow(unsafe_code, reason = "mappings")]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// A shared mapping of a file, reached through atomics only.
#[derive(Debug)]
pub struct SharedMap {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, and is reached through atomics only.
unsafe impl Send for SharedMap {}
// SAFETY: likewise.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Maps the first `len` bytes of a file, for reading or also for writing.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub fn new(fd: BorrowedFd<'_>, len: usize, writable: bool) -> rustix::io::Result<Self> {
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let null = std::ptr::null_mut();
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let start = unsafe { rustix::mm::mmap(null, len, protection, MapFlags::SHARED, fd, 0)? };
        Ok(Self {
            start: NonNull::new(start.cast()).expect("not at zero"),
            len,
        })
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The word at this offset.
    ///
    /// A store to memory that was mapped for reading ends the process.
    #[track_caller]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: in bounds, aligned, mapped for as long as `self` lives, and reached by atomics only.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Stores bytes at this offset.
    #[track_caller]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: as for `word`.
            let place = unsafe { AtomicU8::from_ptr(self.start.as_ptr().add(offset + index)) };
            place.store(*byte, Ordering::Relaxed);
        }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own, and whoever borrowed from it is gone.
        unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) }.expect("it was mapped");
    }
}
