//! Helper threads that wait in a blocking system call, and can be called back from it.
//!
//! A few of the kernel's mechanisms have nothing that epoll could wait for. Their adapters wait with a
//! thread, and must be able to end that wait when nobody wants it any more. A signal does it, directed at
//! that thread alone: `SIGURG`, which Go's runtime has chosen for the same purpose. Debuggers pass it on in
//! silence, a program that uses it must cope with spurious ones, and by default it is ignored. A handler that
//! the program has for it by then is kept, and called for all signals that are not ours; one that is
//! installed later sees ours, too.

mod sys;

use std::io;

/// Leaves the calling thread no signal but the one that interrupts it: a program's own signals go to its
/// other threads.
pub fn block_signals() {
    sys::block_signals();
}

/// Interrupts the blocking system call of the thread that made it.
///
/// It repeats the signal until it is [stopped](Self::stop), because one that lands just before the call
/// would be lost on it. So the thread, when its call has failed with `EINTR`, says so to whoever has
/// started the interruption, under the lock that both share, and that one stops it.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// use sinew_core::interrupt::{self, Interrupter};
///
/// # fn main() -> std::io::Result<()> {
/// let (tell, told) = mpsc::channel();
/// let helper = std::thread::spawn(move || {
///     interrupt::block_signals();
///     let _told = tell.send(Interrupter::new());
///     // The kernel's own sleep ends at a signal; the standard library's goes on.
///     rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 60, tv_nsec: 0 })
/// });
/// let interrupter = told.recv().map_err(std::io::Error::other)??;
/// interrupter.start();
/// assert!(helper.join().is_ok_and(|slept| {
///     matches!(slept, rustix::thread::NanosleepRelativeResult::Interrupted(_))
/// }));
/// interrupter.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Interrupter(sys::Timer);

impl Interrupter {
    /// For the calling thread.
    ///
    /// # Errors
    ///
    /// `EAGAIN` at `RLIMIT_SIGPENDING`, since it takes a timer: timer_create(2).
    pub fn new() -> io::Result<Self> {
        sys::Timer::new().map(Self)
    }

    /// Begins to interrupt.
    pub fn start(&self) {
        self.0.start();
    }

    /// Stops. A signal that is on its way may still come.
    pub fn stop(&self) {
        self.0.stop();
    }
}
