//! The system calls, and the unsafe code.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::process::{Child, Command};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use rustix::buffer::Buffer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, FdFlags};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::pipe::{IoSliceRaw, PipeFlags, SpliceFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use sinew_core::{Error, thread};
use tokio::io::ReadBuf;

/// How an operation is kept from blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `O_NONBLOCK` is set, and the open file description is ours alone.
    NonBlocking,
    /// `MSG_DONTWAIT`, which leaves the open file description as it is.
    Socket,
    /// By asking poll(2) before, and writing no more than it promises.
    AskFirst,
}

/// A pipe(2), blocking, of which each end is an open file description of its own.
pub(crate) fn pipe(packets: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let direct = if packets {
        PipeFlags::DIRECT
    } else {
        PipeFlags::empty()
    };
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC | direct)?)
}

/// Whether it is a socket that connections are accepted from.
pub(crate) fn is_listening(fd: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_acceptconn(fd) == Ok(true)
}

pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?)
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Makes each write a packet. On a pipe `O_DIRECT` means that; open(2) refuses it, fcntl(2) does not.
pub(crate) fn set_packets(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::DIRECT)?)
}

pub(crate) fn set_size(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    Ok(rustix::pipe::fcntl_setpipe_size(fd, bytes)?)
}

pub(crate) fn size(fd: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(rustix::pipe::fcntl_getpipe_size(fd)?)
}

pub(crate) fn stat(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

pub(crate) fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(stat(fd)?.st_mode))
}

/// Whether it is a terminal that opening anew gives again: not the master of a pseudo-terminal, where it
/// makes another.
pub(crate) fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    const MULTIPLEXER: (u32, u32) = (5, 2);
    let device = stat(fd).map(|stat| stat.st_rdev);
    let multiplexer = device
        .is_ok_and(|device| (rustix::fs::major(device), rustix::fs::minor(device)) == MULTIPLEXER);
    fd.is_terminal() && !multiplexer
}

/// Opens what a descriptor refers to anew, as an open file description of its own.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Names a file without opening it, so that nothing happens to it.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// What is so now, of these events and of errors and hang-ups.
pub(crate) fn poll_now(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&NOW))?;
    Ok(fds[0].revents())
}

/// Whether all writers of a pipe that is read have gone.
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(poll_now(fd, PollFlags::IN)?.intersects(PollFlags::HUP | PollFlags::ERR))
}

#[inline]
fn ask(fd: BorrowedFd<'_>, how: How, events: PollFlags) -> io::Result<()> {
    if how == How::AskFirst && poll_now(fd, events)?.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

#[inline]
fn read_raw<B: Buffer<u8>>(fd: BorrowedFd<'_>, how: How, buffer: B) -> io::Result<B::Output> {
    ask(fd, how, PollFlags::IN)?;
    match how {
        How::Socket => Ok(rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT)?.0),
        How::NonBlocking | How::AskFirst => Ok(rustix::io::read(fd, buffer)?),
    }
}

/// Reads into the unfilled part of `buffer`, which must have room.
#[inline]
pub(crate) fn read(fd: BorrowedFd<'_>, how: How, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing is de-initialised: the kernel writes, and what it wrote is what is read out.
    let room = unsafe { buffer.unfilled_mut() };
    let count = read_raw(fd, how, room)?.0.len();
    // SAFETY: the kernel has written that many bytes.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
    Ok(count)
}

/// Reads once, to the end of `buffer`, which must have room for what is read.
#[inline]
pub(crate) fn read_append(
    fd: BorrowedFd<'_>,
    how: How,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    let count = read_raw(fd, how, buffer.spare_capacity_mut())?.0.len();
    let len = buffer.len() + count;
    // SAFETY: the kernel has written that many bytes into the spare capacity.
    unsafe { buffer.set_len(len) };
    Ok(count)
}

pub(crate) fn write(fd: BorrowedFd<'_>, how: How, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    ask(fd, how, PollFlags::OUT)?;
    let first = slices.iter().find(|slice| !slice.is_empty());
    let first: &[u8] = first.map_or(&[], |slice| slice);
    match how {
        How::Socket => {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            Ok(rustix::net::send(fd, first, flags)?)
        }
        // A pipe that poll(2) calls writable has room for a page, and a write of more would block.
        How::AskFirst => {
            let first = &first[..first.len().min(rustix::pipe::PIPE_BUF)];
            without_sigpipe(|| Ok(rustix::io::write(fd, first)?))
        }
        How::NonBlocking => without_sigpipe(|| match slices {
            [one] => Ok(rustix::io::write(fd, one)?),
            many => Ok(rustix::io::writev(fd, many)?),
        }),
    }
}

pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    without_sigpipe(|| Ok(rustix::pipe::splice(from, None, to, None, bytes, flags)?))
}

pub(crate) fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    without_sigpipe(|| Ok(rustix::pipe::tee(from, to, bytes, SpliceFlags::NONBLOCK)?))
}

/// Performs a write so that a pipe without a reader is `EPIPE` and nothing else.
///
/// Programs in Rust ignore SIGPIPE from their start; where something has set it to its default, it is
/// held back for the call and taken away after it. The kernel directs it at the thread that writes.
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if !sigpipe_kills() {
        return write();
    }
    let mut pipe = empty_signals();
    // SAFETY: the set is initialised, and the number is one of a signal.
    unsafe { libc::sigaddset(&raw mut pipe, libc::SIGPIPE) };
    let mut before = empty_signals();
    let mut pending = empty_signals();
    // SAFETY: all sets are initialised and live as long as the calls.
    let was_pending = unsafe {
        libc::sigpending(&raw mut pending);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut before);
        libc::sigismember(&raw const pending, libc::SIGPIPE) == 1
    };
    let result = write();
    let broken = result
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(libc::EPIPE));
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as above; the information about the signal is not asked for.
    unsafe {
        if broken && !was_pending {
            libc::sigtimedwait(&raw const pipe, std::ptr::null_mut(), &raw const now);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
    result
}

/// Whether SIGPIPE would end this process, as of when the last writer was made.
static SIGPIPE_KILLS: AtomicBool = AtomicBool::new(false);

#[inline]
pub(crate) fn sigpipe_kills() -> bool {
    SIGPIPE_KILLS.load(Ordering::Relaxed)
}

/// Looks up whether SIGPIPE would end this process; to be called when a writer is made.
pub(crate) fn look_at_sigpipe() {
    let kills = action_of(libc::SIGPIPE) == Some(libc::SIG_DFL);
    SIGPIPE_KILLS.store(kills, Ordering::Relaxed);
}

fn action_of(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: a `sigaction` of zeros is valid: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and the place for what is set now is valid.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    (asked == 0).then_some(action.sa_sigaction)
}

fn empty_signals() -> libc::sigset_t {
    // SAFETY: a set of zeros is valid memory for `sigemptyset` to initialise.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

extern "C" fn do_nothing(_: libc::c_int) {}

fn handler() -> libc::sighandler_t {
    let handler: extern "C" fn(libc::c_int) = do_nothing;
    handler as libc::sighandler_t
}

/// The signal that ends a blocking call of a helper thread, with a handler that does nothing.
///
/// It is the last real-time signal that nobody handles. `None` if there is none.
fn interrupting_signal() -> Option<libc::c_int> {
    static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();
    *SIGNAL.get_or_init(|| {
        let free = |signal: &libc::c_int| action_of(*signal) == Some(libc::SIG_DFL);
        let signal = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(free)?;
        // SAFETY: as in `action_of`.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler();
        // SAFETY: the handler is a function that does nothing, hence async-signal-safe; without
        // SA_RESTART, the call that it interrupts returns EINTR.
        let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        (set == 0).then_some(signal)
    })
}

/// Whether a thread can be [interrupted](interrupt).
pub(crate) fn can_interrupt() -> bool {
    interrupting_signal().is_some()
}

/// Lets this thread be [interrupted](interrupt), whatever mask it has inherited.
pub(crate) fn allow_interrupt() {
    if let Some(signal) = interrupting_signal() {
        let mut set = empty_signals();
        // SAFETY: the set is initialised, and the number is one of a signal.
        unsafe {
            libc::sigaddset(&raw mut set, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
    }
}

/// Ends the blocking call of a thread, and waits for the end of the thread. The signal is repeated,
/// because it may come before the call has begun.
///
/// If somebody has taken the signal for themselves, it is not sent: the thread ends with its call.
pub(crate) fn interrupt<T>(thread: JoinHandle<T>) {
    let mut pause = Duration::from_millis(1);
    while !thread.is_finished() {
        if let Some(signal) = interrupting_signal()
            && action_of(signal) == Some(handler())
        {
            // SAFETY: the thread has not been joined, so that its number is still its own.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) };
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    let _gone = thread.join();
}

/// Has `command` give its process `fd` as descriptor `number`.
///
/// The standard library reports a failed exec through a pipe or socket of its own. If that had
/// `number` in the child, `dup2` would overwrite it and the failure would go unnoticed, so the
/// child gives up with `EBUSY` instead.
pub(crate) fn pass(command: &mut Command, fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // Reserves `number` where it is free, so that the standard library cannot get it.
    let source = rustix::io::fcntl_dupfd_cloexec(fd, number)?;
    let occupant = match source.as_raw_fd() == number {
        true => None,
        false => inode(number),
    };
    let give = move || {
        let done = if source.as_raw_fd() == number {
            // SAFETY: the descriptor is this closure's own.
            unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
        } else {
            if inode(number) != occupant && is_private_channel(number) {
                return Err(Errno::BUSY.into());
            }
            // SAFETY: in the child, before exec, no one else uses descriptors.
            unsafe { libc::dup2(source.as_raw_fd(), number) }
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the closure makes a few async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(give) };
    Ok(())
}

/// Device and inode of what `number` refers to, if it is open.
fn inode(number: RawFd) -> Option<(u64, u64)> {
    // SAFETY: only asks the kernel about the number, which may be closed: that is an error.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let stat = rustix::fs::fstat(fd).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Whether `number` is a pipe or socket that closes on exec, as that of the standard library is.
fn is_private_channel(number: RawFd) -> bool {
    // SAFETY: as for `inode`.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let is_channel = rustix::fs::fstat(fd).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket
        )
    });
    is_channel && rustix::io::fcntl_getfd(fd).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC))
}

/// Pages that are given to a pipe as they are. Nobody writes to them any more.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a private mapping belongs to the process, and this value is its only owner.
unsafe impl Send for Mapping {}
// SAFETY: by shared reference the memory is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed pages for `len` bytes, at least one.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let start = unsafe { mmap_anonymous(null, len, protection, MapFlags::PRIVATE)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped, initialised to zeros, and written only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Puts the bytes from `at` to `end` into a pipe, by reference to their pages.
    pub(crate) fn vmsplice(
        &self,
        pipe: BorrowedFd<'_>,
        at: usize,
        end: usize,
    ) -> io::Result<usize> {
        let bytes = &self.as_slice()[at..end];
        let slice = IoSliceRaw::from_slice(bytes);
        without_sigpipe(|| {
            // SAFETY: the pages are in bounds, and nobody writes to them until they are unmapped: a
            // `Gift` lends them by shared reference only. The pipe holds references of its own to them.
            let count = unsafe { rustix::pipe::vmsplice(pipe, &[slice], SpliceFlags::NONBLOCK)? };
            Ok(count)
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own, and whoever borrowed from it is gone.
        let _always = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A duplicate for a blocking thread, on the same open file description.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// The user whose files are ours.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)?)
}

/// Sets the permissions of what a descriptor names, which need not be open.
pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Moves a file to a path at which nothing is, or fails with `EEXIST`.
pub(crate) fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do that; a second link is exclusive everywhere.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(rustix::fs::link(from, to)?),
        moved => Ok(moved?),
    }
}

/// A descriptor of a child, readable once it has ended.
///
/// Where pidfd_open(2), of Linux 5.3, is missing, a thread waits for the child, and leaves reaping
/// it to others.
pub(crate) fn pidfd(child: &Child) -> Result<OwnedFd, Error> {
    let pid = Pid::from_child(child);
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => return Ok(pidfd),
        Err(Errno::NOSYS | Errno::PERM) => {}
        Err(errno) => return Err(Error::from_raw_os_error("pidfd_open", errno.raw_os_error())),
    }
    let (ended, tell) = pipe(false).map_err(|error| Error::from_io("pipe2", error))?;
    thread::start("sinew-child", move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
        // A process that was forked meanwhile may have the descriptor, too, so that its close would
        // not do.
        let _nobody_waits = without_sigpipe(|| Ok(rustix::io::write(&tell, &[0])?));
    })?;
    Ok(ended)
}

/// Kills a child that was not waited for, with its process group if it leads one: kill(2).
pub(crate) fn kill(child: &Child) {
    let pid = Pid::from_child(child);
    // Neither number is given to another process or group before the child is reaped.
    let _ended_before = match rustix::process::getpgid(Some(pid)) {
        Ok(group) if group == pid => rustix::process::kill_process_group(pid, Signal::KILL),
        _ => rustix::process::kill_process(pid, Signal::KILL),
    };
}

/// Waits for a child that is about to end, and was not waited for before.
pub(crate) fn reap(pid: Pid) {
    while let Err(Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
}

/// Whether a descriptor is open for this direction alone.
/// Where that cannot be found out, false.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

pub(crate) fn is_only(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_getfl(fd)? & OFlags::ACCMODE == access)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{Options, Pages, Splice};

    fn set_sigpipe(action: libc::sighandler_t) {
        // SAFETY: both are dispositions that need no handler.
        unsafe { libc::signal(libc::SIGPIPE, action) };
    }

    /// It would end the process, and the test with it.
    #[tokio::test]
    async fn sigpipe_at_its_default_is_an_error_too() {
        set_sigpipe(libc::SIG_DFL);
        let ends = || Options::new().byte_pair().unwrap();
        let ((mut first, mut from), (mut to, last)) = (ends(), ends());
        first.write_all(b"text").await.unwrap();
        drop(last);
        // A child that another test forks has a copy of the reading end until its exec.
        for _ in 0..5000 {
            if to.write_all(b"text").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..3 {
            let error = to.write_all(b"text").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        let splice = Splice::new(&mut from, &mut to).run().await;
        assert!(splice.unwrap_err().is_closed());
        let mut gift = Pages::new(1).unwrap().into_gift();
        assert!(gift.send(&mut to).await.unwrap_err().is_closed());
        // And none is left over for later.
        let mut pending = empty_signals();
        // SAFETY: the set is valid for the call to fill.
        let pending = unsafe {
            libc::sigpending(&raw mut pending);
            libc::sigismember(&raw const pending, libc::SIGPIPE)
        };
        assert_eq!(pending, 0);
        set_sigpipe(libc::SIG_IGN);
        assert!(to.write_all(b"text").now_or_never().is_some());
    }
}
