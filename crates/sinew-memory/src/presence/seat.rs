//! The words and the locked descriptors of this process, where a handler of fork(2) finds them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

use sinew_core::{Error, at_fork};

use crate::sys::FdCell;

/// The word of this process in one region, and the descriptor that holds its lock. Seats are never
/// freed but used again, so that a child can walk them without a lock.
#[derive(Debug)]
pub(super) struct Seat {
    /// [`ABSENT`] while this process has none.
    word: AtomicU64,
    fd: FdCell,
    is_taken: AtomicBool,
    next: OnceLock<&'static Seat>,
}

/// The word of nobody, as all words are even and a free lock holds zero.
const ABSENT: u64 = 1;

/// For memory without a file: the word of the process itself.
static PROCESS: Seat = Seat::new();
/// Forks that this process has begun.
static FORKS: AtomicUsize = AtomicUsize::new(0);

impl Seat {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(ABSENT),
            fd: FdCell::new(),
            is_taken: AtomicBool::new(false),
            next: OnceLock::new(),
        }
    }

    pub(super) fn of_process() -> &'static Self {
        watch_forks();
        &PROCESS
    }

    /// Takes a seat that is free.
    pub(super) fn take() -> &'static Self {
        watch_forks();
        let mut seat = &PROCESS;
        loop {
            // Another thread may be faster, and its seat is then as good.
            seat = seat
                .next
                .get_or_init(|| Box::leak(Box::new(const { Seat::new() })));
            if !seat.is_taken.load(Ordering::Relaxed)
                && !seat.is_taken.swap(true, Ordering::Acquire)
            {
                return seat;
            }
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Option<u64> {
        match self.word.load(Ordering::Relaxed) {
            ABSENT => None,
            word => Some(word),
        }
    }

    #[inline]
    pub(super) fn has(&self, word: u64) -> bool {
        self.word.load(Ordering::Relaxed) == word
    }

    pub(super) fn set_word(&self, word: u64) {
        self.word.store(word, Ordering::Release);
    }

    /// Opens a descriptor and locks it, in one thread; others wait for that, which takes
    /// microseconds.
    pub(super) fn enter(
        &self,
        open: impl Fn() -> Result<OwnedFd, Error>,
        lock: impl Fn(BorrowedFd<'_>) -> Result<u64, Error>,
    ) -> Result<u64, Error> {
        loop {
            let forks = FORKS.load(Ordering::SeqCst);
            let Ok(fd) = self.fd.put(open()?) else {
                while self.word().is_none() && !self.fd.is_empty() {
                    std::thread::yield_now();
                }
                match self.word() {
                    None => continue,
                    Some(word) => return Ok(word),
                }
            };
            // A fork that began before the descriptor was here has copied it to a child that does
            // not know of it. What is not locked yet does no harm there.
            if FORKS.load(Ordering::SeqCst) != forks {
                self.close();
                continue;
            }
            match lock(fd) {
                Ok(word) => {
                    self.set_word(word);
                    return Ok(word);
                }
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
    }

    /// Gives the lock up, and the seat back.
    pub(super) fn leave(&self) {
        self.close();
        self.is_taken.store(false, Ordering::Release);
    }

    fn close(&self) {
        self.word.store(ABSENT, Ordering::SeqCst);
        self.fd.close();
    }
}

fn watch_forks() {
    extern "C" fn count() {
        FORKS.fetch_add(1, Ordering::SeqCst);
    }
    // It neither locks nor allocates.
    extern "C" fn stand_up() {
        let mut next = Some(&PROCESS);
        while let Some(seat) = next {
            seat.close();
            next = seat.next.get().copied();
        }
    }
    static REGISTERED: Once = Once::new();
    // It fails for want of a few bytes of memory only, and the process ends at its next allocation
    // then.
    REGISTERED.call_once(|| at_fork(Some(count), stand_up).unwrap_or_default());
}
