//! The unsafe code of this crate: the descriptor of a POSIX queue, the system calls of SysV queues, and the
//! signal that ends a blocking one.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use libc::{c_int, c_long, c_void};
use posixmq::PosixMq;
use sinew_core::StableFd;

/// The descriptor of a POSIX queue.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(crate) PosixMq);

impl Descriptor {
    /// Another descriptor of the same open file.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: on Linux a queue's descriptor is a file descriptor, and `self` keeps it open.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

// SAFETY: a `PosixMq` owns one descriptor in an immutable field, and closes it on drop only.
unsafe impl StableFd for Descriptor {}

/// Bytes of the type tag that precedes the payload in the buffers of msgop(2).
pub(crate) const TAG: usize = size_of::<c_long>();

fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// A type tag as the kernel takes it: a `long`, which has 32 bits on some machines.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
pub(crate) fn tag(kind: i64) -> io::Result<c_long> {
    c_long::try_from(kind).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The other way.
#[allow(clippy::useless_conversion)]
pub(crate) fn kind_of(tag: c_long) -> i64 {
    tag.into()
}

/// msgget(2).
pub(crate) fn get(key: i32, flags: c_int) -> io::Result<i32> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::msgget(key, flags) })
}

/// msgsnd(2), without waiting. `scratch` is overwritten.
pub(crate) fn send(id: i32, kind: c_long, payload: &[u8], scratch: &mut Vec<u8>) -> io::Result<()> {
    scratch.clear();
    scratch.extend_from_slice(&kind.to_ne_bytes());
    scratch.extend_from_slice(payload);
    let message: *const c_void = scratch.as_ptr().cast();
    // SAFETY: `scratch` holds the tag and, right after it, as many bytes as the call is told.
    check(unsafe { libc::msgsnd(id, message, payload.len(), libc::IPC_NOWAIT) }).map(drop)
}

/// msgrcv(2), without waiting, for payloads of up to `longest` bytes. `buffer` then holds the tag and the
/// payload.
pub(crate) fn receive(
    id: i32,
    buffer: &mut Vec<u8>,
    longest: usize,
    kind: c_long,
    flags: c_int,
) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(TAG + longest);
    let flags = flags | libc::IPC_NOWAIT;
    // SAFETY: the spare capacity has room for the tag and `longest` bytes after it.
    let len = unsafe { libc::msgrcv(id, buffer.as_mut_ptr().cast(), longest, kind, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the tag and `len` bytes, which is at most `longest`.
    unsafe { buffer.set_len(TAG + len) };
    Ok(())
}

/// Blocks until a message could be received. `E2BIG` says that there is one: it has stayed in the queue. Only
/// a message without payload fits in no space at all, so that it is received; its tag is returned.
pub(crate) fn watch(id: i32, kind: c_long, flags: c_int) -> io::Result<i64> {
    let mut tag: c_long = 0;
    // SAFETY: `tag` has room for the tag, and the payload may have no bytes.
    let len = unsafe { libc::msgrcv(id, ptr::from_mut(&mut tag).cast(), 0, kind, flags) };
    match len {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(kind_of(tag)),
    }
}

/// msgctl(2) with `IPC_STAT`.
pub(crate) fn status(id: i32) -> io::Result<libc::msqid_ds> {
    let mut status = MaybeUninit::zeroed();
    // SAFETY: `status` has room for what the call writes.
    check(unsafe { libc::msgctl(id, libc::IPC_STAT, status.as_mut_ptr()) })?;
    // SAFETY: the call has written it, and zeros are valid for each of its fields before.
    Ok(unsafe { status.assume_init() })
}

/// msgctl(2) with `IPC_SET`: owner, mode and `msg_qbytes`.
pub(crate) fn set_status(id: i32, status: &libc::msqid_ds) -> io::Result<()> {
    let status = ptr::from_ref(status).cast_mut();
    // SAFETY: with this command the call only reads.
    check(unsafe { libc::msgctl(id, libc::IPC_SET, status) }).map(drop)
}

/// msgctl(2) with `IPC_RMID`.
pub(crate) fn remove(id: i32) -> io::Result<()> {
    // SAFETY: with this command the call ignores the pointer.
    check(unsafe { libc::msgctl(id, libc::IPC_RMID, ptr::null_mut()) }).map(drop)
}

/// ftok(3), the C library's own.
pub(crate) fn key_of_path(path: &Path, project: u8) -> io::Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string that outlives the call.
    check(unsafe { libc::ftok(path.as_ptr(), c_int::from(project)) })
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
    // msgrcv(2) is not restarted by `SA_RESTART` (signal(7)); what else a stray signal interrupts is.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler only compares, or calls what was the handler before.
    check(unsafe { libc::sigaction(SIGNAL, &raw const ours, ptr::null_mut()) }).map(drop)
}

/// Leaves the calling thread no signal but the one that is meant for it: a program's own signals go to its
/// other threads.
pub(crate) fn block_signals() {
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
pub(crate) struct Interrupter(libc::timer_t);

// SAFETY: a timer belongs to the process, and its calls may be made from any thread.
unsafe impl Send for Interrupter {}

impl Interrupter {
    /// For the calling thread.
    pub(crate) fn new() -> io::Result<Self> {
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
    pub(crate) fn start(&self) {
        // Without one the signal is ignored; then the thread waits until a message comes.
        let _kept = ensure_handler();
        self.set(Duration::from_nanos(1), REPEAT);
    }

    /// Stops. A signal that is on its way may still come.
    pub(crate) fn stop(&self) {
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

impl Drop for Interrupter {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}
