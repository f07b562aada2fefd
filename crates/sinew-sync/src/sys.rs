//! The unsafe code of this crate: futexes and the ring of io_uring.
#![allow(unsafe_code, reason = "system calls on words of memory")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use rustix::thread::futex::{self, Timespec, WaitFlags, WaitPtr, WaitvFlags};
use sinew_core::StableFd;
use sinew_memory::Shared;
use sinew_ring::sync::{EventState, SemaphoreState};

use crate::lock::LockWords;

/// A word of 32 bits, shared between processes: the flags of futex2(2).
const SIZE_U32: u32 = 2;
/// Matches the wakers of every kind.
const ANY: u64 = u32::MAX as u64;

/// Wakes up to `count` waiters; how many there were.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    // For the kernel the count is signed, and a negative one is as good as one.
    let count = count.min(i32::MAX.unsigned_abs());
    // It fails for addresses that are no memory only, and a reference is one.
    futex::wake(word, futex::Flags::empty(), count).unwrap_or(0)
}

/// Blocks the thread until woken, while the word is `expected`.
pub(crate) fn wait(
    word: &AtomicU32,
    expected: u32,
    timeout: Option<Duration>,
) -> Result<(), Errno> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    futex::wait(word, futex::Flags::empty(), expected, timeout.as_ref())
}

/// Words to wait for at once: futex_waitv(2), which takes up to 128.
///
/// The kernel reads the words, by address; one whose memory is gone is the error `EFAULT`.
#[derive(Default)]
pub(crate) struct WaitList(Vec<futex::Wait>);

// SAFETY: addresses for the kernel alone.
unsafe impl Send for WaitList {}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, word: &AtomicU32, expected: u32) {
        let mut waiter = futex::Wait::new();
        waiter.val = u64::from(expected);
        waiter.uaddr = WaitPtr::new(word.as_ptr().cast());
        waiter.flags = WaitFlags::SIZE_U32;
        self.0.push(waiter);
    }

    pub(crate) fn swap_remove(&mut self, index: usize) {
        self.0.swap_remove(index);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Sets what the first word is expected to be.
    pub(crate) fn expect_first(&mut self, expected: u32) {
        if let Some(first) = self.0.first_mut() {
            first.val = u64::from(expected);
        }
    }

    /// Blocks the thread until one is woken, or is not as expected. The index of one that was woken.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<usize, Errno> {
        // futex_waitv(2) takes a time of the clock, not a span.
        let deadline = timeout.and_then(|timeout| {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            now.checked_add(Timespec::try_from(timeout).ok()?)
        });
        let clock = rustix::time::ClockId::Monotonic;
        futex::waitv(&self.0, WaitvFlags::empty(), deadline.as_ref(), clock)
    }
}

/// The ring's descriptor, or a timer's, to be waited for.
#[derive(Debug)]
pub(crate) struct RingFd(pub(crate) std::os::fd::OwnedFd);

impl AsFd for RingFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// SAFETY: an owned descriptor in a field that never changes.
unsafe impl StableFd for RingFd {}

/// An instance of io_uring on which futexes are waited for.
pub(crate) struct Ring {
    ring: IoUring,
    /// How often it is to fail as a kernel does that lacks memory.
    #[cfg(test)]
    pub(crate) refusals: usize,
}

impl Ring {
    /// Makes a ring, if this kernel has one that can wait for futexes and lets us use it.
    pub(crate) fn new() -> Result<Self, Errno> {
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::NOSYS);
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(4096);
        let ring = builder.build(64).map_err(errno)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(errno)?;
        let supported = [opcode::FutexWait::CODE, opcode::AsyncCancel::CODE]
            .iter()
            .all(|code| probe.is_supported(*code));
        if !supported || !ring.params().is_feature_nodrop() {
            return Err(Errno::OPNOTSUPP);
        }
        Ok(Self {
            ring,
            #[cfg(test)]
            refusals: 0,
        })
    }

    /// Another descriptor of the same ring.
    pub(crate) fn fd(&self) -> Result<RingFd, Errno> {
        // SAFETY: the ring's descriptor is open for as long as the ring is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        rustix::io::fcntl_dupfd_cloexec(fd, 0).map(RingFd)
    }

    /// Queues a wait for `word`, under the number `key`. It is not queued if this fails.
    ///
    /// The caller keeps the word mapped until the completion of that number was reaped.
    pub(crate) fn wait(&mut self, word: &AtomicU32, expected: u32, key: u64) -> Result<(), Errno> {
        let entry = opcode::FutexWait::new(word.as_ptr(), u64::from(expected), ANY, SIZE_U32)
            .build()
            .user_data(key);
        self.queue(&entry)
    }

    /// Asks for the wait of that number to end; its completion comes either way, and one of number `own`.
    pub(crate) fn cancel(&mut self, key: u64, own: u64) -> Result<(), Errno> {
        let entry = opcode::AsyncCancel::new(key).build().user_data(own);
        self.queue(&entry)?;
        self.submit()
    }

    fn queue(&mut self, entry: &squeue::Entry) -> Result<(), Errno> {
        // SAFETY: the words that the entry names stay mapped until its completion, by the callers'
        // contract; it names nothing else.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        // What an earlier failure left behind. Some of it may have gone even if not all has.
        let submitted = self.submit();
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }
            .map_err(|_| submitted.err().unwrap_or(Errno::BUSY))
    }

    /// Hands over all that is queued, and has the kernel move what did not fit into the completion queue.
    pub(crate) fn submit(&mut self) -> Result<(), Errno> {
        #[cfg(test)]
        if let Some(fewer) = self.refusals.checked_sub(1) {
            self.refusals = fewer;
            return Err(Errno::AGAIN);
        }
        loop {
            match self.ring.submit() {
                Ok(taken) => {
                    if self.ring.submission().is_empty() {
                        return Ok(());
                    }
                    // The kernel stops early when it lacks memory.
                    if taken == 0 {
                        return Err(Errno::AGAIN);
                    }
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    errno => return Err(errno.unwrap_or(Errno::IO)),
                },
            }
        }
    }

    /// Hands over what is queued, and waits for a completion that was not reaped yet, or until `limit` is over.
    pub(crate) fn wait_for_any(&self, limit: Duration) -> Result<(), Errno> {
        let limit = types::Timespec::from(limit);
        let args = types::SubmitArgs::new().timespec(&limit);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::TIME) => Ok(()),
                errno => Err(errno.unwrap_or(Errno::IO)),
            },
        }
    }

    /// What has completed: numbers and results.
    pub(crate) fn reap(&mut self, completed: &mut Vec<(u64, i32)>) {
        loop {
            let overflow = self.ring.submission().cq_overflow();
            let took = self.take_completed(completed);
            if !overflow && !took {
                return;
            }
            // A failure leaves them where they are, for the next time.
            if overflow && self.submit().is_err() && !self.take_completed(completed) {
                return;
            }
        }
    }

    /// Whether there was something.
    fn take_completed(&mut self, completed: &mut Vec<(u64, i32)>) -> bool {
        let before = completed.len();
        completed.extend(
            self.ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
        completed.len() > before
    }
}

/// The words of a primitive, where a region holds them.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Words<T>(pub(crate) T);

impl<T> std::ops::Deref for Words<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

macro_rules! shared {
    ($($words:ty),+ $(,)?) => {
        // SAFETY: atomics and nothing else, of which any bits are a state.
        $(unsafe impl Shared for Words<$words> {})+
    };
}

shared!(SemaphoreState, LockWords, EventState);

/// Forks a child that does some work, and is killed if that takes too long. It exits with zero unless the work panics.
#[cfg(test)]
pub(crate) fn fork(work: impl FnOnce()) -> rustix::process::Pid {
    // SAFETY: the child does what glibc allows it after a fork: it allocates, starts threads and makes system calls.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: without a handler, the signal ends the process.
            unsafe { libc::alarm(20) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: it ends the process, and runs nothing of the parent's.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => rustix::process::Pid::from_raw(pid).unwrap(),
    }
}
