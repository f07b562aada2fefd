use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::event::PollFlags;
use sinew_core::AsyncIo;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::{Reader, Writer, sys};

/// What [`Splice`](crate::Splice) can take bytes from. It cannot be implemented elsewhere.
pub trait SpliceFrom: End {}

/// What [`Splice`](crate::Splice) can give bytes to. It cannot be implemented elsewhere.
pub trait SpliceTo: End {}

/// One side.
pub trait End: Sync {
    /// The descriptor, if it is open.
    fn fd(&self) -> io::Result<BorrowedFd<'_>>;

    /// Whether it is always ready, and may keep its caller waiting.
    fn is_file(&self) -> bool;

    /// Whether a call on it waits, whatever the call asks for, because those who share it want it so.
    fn is_blocking(&self) -> bool {
        false
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The runtime's readiness may be stale; this asks the kernel.
fn ask(fd: impl AsFd, events: PollFlags) -> io::Result<()> {
    if sys::poll_now(fd.as_fd(), events)?.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

impl<T: AsFd + Sync> End for AsyncIo<T> {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.as_fd())
    }

    fn is_file(&self) -> bool {
        false
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_with(cx, |fd| ask(fd, PollFlags::IN))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(cx, |fd| ask(fd, PollFlags::OUT))
    }
}

impl<T: AsFd + Sync> SpliceFrom for AsyncIo<T> {}
impl<T: AsFd + Sync> SpliceTo for AsyncIo<T> {}

impl End for Reader {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.as_fd())
    }

    fn is_file(&self) -> bool {
        self.polled().is_none()
    }

    fn is_blocking(&self) -> bool {
        self.is_shared() && End::fd(self).is_ok_and(|fd| !sys::is_nonblocking(fd))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.polled() {
            Some(io) => io.poll_readable(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::InvalidInput.into()))
    }
}

impl SpliceFrom for Reader {}

impl End for Writer {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        Writer::fd(self).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn is_file(&self) -> bool {
        self.polled().is_none()
    }

    fn is_blocking(&self) -> bool {
        self.is_shared() && End::fd(self).is_ok_and(|fd| !sys::is_nonblocking(fd))
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::InvalidInput.into()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.polled() {
            Some(io) => io.poll_writable(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl SpliceTo for Writer {}

impl End for File {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.as_fd())
    }

    fn is_file(&self) -> bool {
        true
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl SpliceFrom for File {}
impl SpliceTo for File {}

macro_rules! socket {
    ($($socket:ty),+) => {$(
        impl End for $socket {
            fn fd(&self) -> io::Result<BorrowedFd<'_>> {
                Ok(self.as_fd())
            }

            fn is_file(&self) -> bool {
                false
            }

            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                loop {
                    ready!(self.poll_read_ready(cx))?;
                    match self.try_io(Interest::READABLE, || ask(self, PollFlags::IN)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return Poll::Ready(done),
                    }
                }
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                loop {
                    ready!(self.poll_write_ready(cx))?;
                    match self.try_io(Interest::WRITABLE, || ask(self, PollFlags::OUT)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return Poll::Ready(done),
                    }
                }
            }
        }

        impl SpliceFrom for $socket {}
        impl SpliceTo for $socket {}
    )+};
}

socket!(TcpStream, UnixStream);
