//! The raw operations.

use std::time::Duration;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

use crate::driver::Word;
use crate::sys;

/// Wakes up to `count` of those that wait for `word`, in any process. Returns how many there were.
///
/// Change the word first: a waiter that has looked at it but does not wait yet would miss the wake-up otherwise.
///
/// # References
///
/// [futex(2)], `FUTEX_WAKE`.
///
/// [futex(2)]: https://man7.org/linux/man-pages/man2/futex.2.html
#[doc(alias = "FUTEX_WAKE")]
pub fn wake(word: &Word, count: u32) -> usize {
    sys::wake(word, count)
}

/// Blocks the thread until `word` is woken or is not `expected`: [`Driver::wait`](crate::Driver::wait) for threads
/// that are not part of a runtime.
///
/// It may also return for no reason: look at the word, and wait again.
///
/// # Errors
///
/// Of kind [`TimedOut`](ErrorKind::TimedOut) after `timeout`.
///
/// # References
///
/// [futex(2)], `FUTEX_WAIT`.
///
/// [futex(2)]: https://man7.org/linux/man-pages/man2/futex.2.html
#[doc(alias = "FUTEX_WAIT")]
pub fn blocking_wait(word: &Word, expected: u32, timeout: Option<Duration>) -> Result<(), Error> {
    match sys::wait(word, expected, timeout) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::from_raw_os_error("futex", errno.raw_os_error())
            .with_address(word.region().name())
            .with_kind(match errno {
                Errno::TIMEDOUT => ErrorKind::TimedOut,
                _ => ErrorKind::System,
            })),
    }
}
