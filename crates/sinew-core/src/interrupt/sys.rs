//! The signal that ends a blocking system call, and the timer that sends it.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use libc::{c_int, c_void};

fn check(result: c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The signal that ends a blocking call of a helper thread.
///
/// It is the one that Go's runtime has chosen for the same purpose: debuggers pass it on in silence, the C
/// library has no use for it, a program that has one must cope with spurious ones, and by default it is
/// ignored, so that a stray one does no harm.
const SIGNAL: c_int = libc::SIGURG;

/// Its address marks the signals of our timers.
static MARK: u8 = 0;
/// What handled the signal before us. It is never freed: a handler may be reading it.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Between two signals, if the first came just before the system call.
const REPEAT: Duration = Duration::from_micros(200);

extern "C" fn interrupt(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a valid record to a handler with `SA_SIGINFO`, and `si_value` is part of it
    // for a timer's signal.
    let ours = unsafe {
        (*info).si_code == libc::SI_TIMER
            && (*info).si_value().sival_ptr.cast_const() == ptr::from_ref(&MARK).cast()
    };
    // SAFETY: it is null, or a box that was leaked.
    let before = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    let Some(before) = before.filter(|_| !ours) else {
        return;
    };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {}
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: with this flag the address is that of a handler of this type.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without that flag the address is that of a handler of this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

/// Makes sure that the signal has a handler. Any will do; where somebody has replaced ours, theirs stays.
fn ensure_handler() -> io::Result<()> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call writes what the pointer has room for, and changes nothing.
    check(unsafe { libc::sigaction(SIGNAL, ptr::null(), now.as_mut_ptr()) })?;
    // SAFETY: the call has written it, and zeros are valid for each of its fields before.
    let now = unsafe { now.assume_init() };
    let unhandled = matches!(now.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
    if !unhandled && !BEFORE.load(Ordering::Acquire).is_null() {
        return Ok(());
    }
    if now.sa_sigaction != interrupt as *const () as usize {
        BEFORE.store(Box::into_raw(Box::new(now)), Ordering::Release);
    }
    // SAFETY: zeros are valid for each field.
    let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    ours.sa_sigaction = interrupt as *const () as usize;
    // msgrcv(2) and semop(2) are not restarted by `SA_RESTART` (signal(7)); what else a stray signal
    // interrupts is.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler only compares, or calls what was the handler before.
    check(unsafe { libc::sigaction(SIGNAL, &raw const ours, ptr::null_mut()) })
}

/// Leaves the calling thread no signal but the one that is meant for it: a program's own signals go to its
/// other threads.
pub(super) fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call initialises the set that the others use.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigdelset(all.as_mut_ptr(), SIGNAL);
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// A timer that interrupts the blocking system call of the thread that made it, again and again until it is
/// stopped: a signal can land just before the call, and would then be lost on it.
#[derive(Debug)]
pub(super) struct Timer(libc::timer_t);

// SAFETY: a timer belongs to the process, and its calls may be made from any thread.
unsafe impl Send for Timer {}

impl Timer {
    /// For the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        ensure_handler()?;
        // SAFETY: zeros are valid for each field.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_value.sival_ptr = ptr::from_ref(&MARK).cast_mut().cast();
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to locals that outlive the call.
        check(unsafe {
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        })?;
        Ok(Self(timer))
    }

    /// Begins to interrupt.
    pub(super) fn start(&self) {
        // Without one the signal is ignored; then the thread waits until a message comes.
        let _kept = ensure_handler();
        self.set(Duration::from_nanos(1), REPEAT);
    }

    /// Stops. A signal that is on its way may still come.
    pub(super) fn stop(&self) {
        self.set(Duration::ZERO, Duration::ZERO);
    }

    fn set(&self, first: Duration, every: Duration) {
        let spec = |duration: Duration| libc::timespec {
            tv_sec: 0,
            tv_nsec: duration.subsec_nanos().into(),
        };
        let times = libc::itimerspec {
            it_value: spec(first),
            it_interval: spec(every),
        };
        // SAFETY: the timer lives as long as `self`, and the times outlive the call. It cannot fail for
        // times that are valid.
        unsafe { libc::timer_settime(self.0, 0, &raw const times, ptr::null_mut()) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}
