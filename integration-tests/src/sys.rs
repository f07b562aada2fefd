//! The unsafe code of the tests: memory that a peer shares, and fork(2).
#![allow(unsafe_code, reason = "mappings, and a system call")]

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

/// A child of fork(2), killed and reaped on drop.
#[derive(Debug)]
pub struct Forked(Option<libc::pid_t>);

impl Forked {
    /// Forks a child that does `work` and ends, in 20 seconds at most.
    ///
    /// The child has no thread but the one that forks, so the work must not wait for others.
    pub fn new(work: impl FnOnce()) -> Self {
        // SAFETY: the child does what glibc allows it after a fork: it allocates, and makes system
        // calls.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: without a handler, the signal ends the process.
                unsafe { libc::alarm(20) };
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                // SAFETY: it ends the process, and runs nothing of the parent's.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            pid => Self(Some(pid)),
        }
    }

    /// Waits for its end, and fails unless the work was done.
    #[track_caller]
    pub fn join(mut self) {
        assert_eq!(self.reap(), 0, "the child's status");
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(pid) = self.0 {
            // SAFETY: it sends a signal to a child that was not reaped.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            self.reap();
        }
    }

    fn reap(&mut self) -> libc::c_int {
        let mut status = 0;
        if let Some(pid) = self.0.take() {
            // SAFETY: the status outlives the call.
            while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 {
                let error = std::io::Error::last_os_error();
                assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
            }
        }
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.kill();
    }
}
