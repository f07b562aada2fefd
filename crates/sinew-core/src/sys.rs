//! The unsafe code of this crate: registering a descriptor with Tokio, inherited descriptors,
//! ftok(3), and handlers of fork(2).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

use rustix::io::{Errno, FdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::runtime::with_driver;
use crate::{AsyncIo, Error, ErrorKind, Home};

/// A type whose descriptor never changes.
///
/// [`AsyncIo`] registers a descriptor with epoll by its number. A type that closed it or put another in
/// its place, behind a shared reference, would leave that number to whoever opens the next file. The
/// standard library's owning types do neither.
///
/// # Safety
///
/// From construction until drop, as long as it is reached through shared references only, every
/// [`as_fd`](AsFd::as_fd) returns the same descriptor number, open, and on the same open file
/// description.
pub unsafe trait StableFd: AsFd {}

macro_rules! stable {
    ($($owner:ty),+ $(,)?) => {
        // SAFETY: each of these owns or borrows one descriptor in an immutable field, and closes it on
        // drop or not at all.
        $(unsafe impl StableFd for $owner {})+
    };
}

stable!(
    OwnedFd,
    BorrowedFd<'_>,
    File,
    PipeReader,
    PipeWriter,
    TcpListener,
    TcpStream,
    UdpSocket,
    UnixDatagram,
    UnixListener,
    UnixStream,
    ChildStdin,
    ChildStdout,
    ChildStderr,
);

// SAFETY: a `&T` forwards to the `T` that it borrows, which is stable.
unsafe impl<T: StableFd + ?Sized> StableFd for &T {}

// SAFETY: the `Box` forwards to the one `T` that it owns, which is stable.
unsafe impl<T: StableFd + ?Sized> StableFd for Box<T> {}

// SAFETY: the `Arc` forwards to the one `T` that it keeps alive, which is stable.
unsafe impl<T: StableFd + ?Sized> StableFd for Arc<T> {}

/// What is given to Tokio, which asks for `AsRawFd`.
#[derive(Debug)]
pub(crate) struct Registered<T>(pub(crate) T, Home);

impl<T: AsFd> AsRawFd for Registered<T> {
    /// No descriptor in a child that was forked: Tokio asks when it takes the registration out of
    /// the epoll instance, which the child shares with its parent.
    fn as_raw_fd(&self) -> RawFd {
        match self.1.is_here() {
            true => self.0.as_fd().as_raw_fd(),
            false => -1,
        }
    }
}

/// # Safety
///
/// As for [`AsyncIo::new_unchecked`].
unsafe fn register<T: AsFd>(inner: T, interest: Interest) -> Result<AsyncIo<T>, Error> {
    let registered = with_driver("register", "I/O", || {
        // SAFETY: the caller vouches for the descriptor, and `Registered` asks `inner` for it each
        // time.
        unsafe { AsyncFd::register_with_interest(Registered(inner, Home::here()), interest) }
    })?;
    registered.map(AsyncIo::from_registered).map_err(|error| {
        let error = Error::from_io("epoll_ctl", error.into());
        if error.errno() == Some(Errno::PERM.raw_os_error()) {
            error
                .with_kind(ErrorKind::Unsupported)
                .with_reason("this descriptor cannot be waited for")
                .with_remedy(
                    "use a pipe or a socket; regular files and directories are always ready",
                )
        } else {
            error
        }
    })
}

/// [`register`] for the types of which the compiler knows that they are fit for it.
pub(crate) fn register_stable<T: StableFd>(
    inner: T,
    interest: Interest,
) -> Result<AsyncIo<T>, Error> {
    // SAFETY: `T` is a `StableFd`, and an `AsyncIo` lends it by shared reference only.
    unsafe { register(inner, interest) }
}

impl<T: AsFd> AsyncIo<T> {
    /// As [`with_interest`](Self::with_interest), for a type from another crate that does not implement
    /// [`StableFd`].
    ///
    /// # Safety
    ///
    /// The requirement of [`StableFd`] holds for this value.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub unsafe fn new_unchecked(inner: T, interest: Interest) -> Result<Self, Error> {
        // SAFETY: the caller's promise is the same.
        unsafe { register(inner, interest) }
    }
}

/// Takes an open descriptor that `check` says was inherited, and makes it close-on-exec. A standard
/// stream is duplicated.
///
/// `check` refuses what is close-on-exec, since something in this process owns it. The caller holds
/// a lock, so that no two calls check the same descriptor.
pub(crate) fn take_inherited(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>, FdFlags) -> Result<(), Error>,
) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::from_raw_os_error("fcntl", errno.raw_os_error());
    if number < 0 {
        return Err(failed(Errno::BADF));
    }
    // SAFETY: the number is not -1, and it is only used once fcntl(2) has said that it is open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(fd).map_err(failed)?;
    check(fd, flags)?;
    if number <= 2 {
        return rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(failed);
    }
    rustix::io::fcntl_setfd(fd, flags | FdFlags::CLOEXEC).map_err(failed)?;
    // SAFETY: it is open and was inherited, so that nothing in this process owns it. It is
    // close-on-exec from now on, so that it is not taken twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// ftok(3), the C library's own.
pub(crate) fn key_of_path(path: &Path, project: u8) -> io::Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string that outlives the call.
    match unsafe { libc::ftok(path.as_ptr(), libc::c_int::from(project)) } {
        -1 => Err(io::Error::last_os_error()),
        key => Ok(key),
    }
}

/// Registers functions that fork(2) calls: `prepare` before, in the parent, and `in_child` after
/// it, in the child.
///
/// Both run in the middle of a fork: they may store atomics and make system calls that are
/// async-signal-safe, and must not lock or allocate.
///
/// # Errors
///
/// `ENOMEM`: pthread_atfork(3).
#[doc(hidden)]
pub fn at_fork(prepare: Option<extern "C" fn()>, in_child: extern "C" fn()) -> io::Result<()> {
    let prepare = prepare.map(|prepare| prepare as unsafe extern "C" fn());
    // SAFETY: the functions are of this program, and are never unloaded.
    match unsafe { libc::pthread_atfork(prepare, None, Some(in_child)) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
