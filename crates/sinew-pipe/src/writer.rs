use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::OFlags;
use sinew_core::thread::poll_pooled;
use sinew_core::{AsyncIo, Error, is_attempt};
use tokio::fs::File;
use tokio::io::{AsyncWrite, Interest};

use crate::fifo::Place;
use crate::inherited;
use crate::sys::{self, How};

/// The end of a pipe that is written, as bytes: an [`AsyncWrite`].
///
/// A write of up to [`PIPE_BUF`](crate::PIPE_BUF) bytes is atomic: it goes into the pipe whole, whoever
/// else writes to it (pipe(7)). A longer one may be mixed with those of others.
///
/// Writing to a pipe that nobody reads is the error `EPIPE`, never a SIGPIPE: programs in Rust ignore
/// that signal, and where something has set it back to its default before the writer was made, it is
/// held back during the write.
///
/// `shutdown` closes the descriptor, which is what ends the stream for the reader.
///
/// # Examples
///
/// See [`Reader`](crate::Reader).
#[derive(Debug)]
pub struct Writer {
    target: Target,
    _place: Option<Place>,
}

#[derive(Debug)]
enum Target {
    Polled(AsyncIo<OwnedFd>, How),
    File(File),
    Closed,
}

impl Writer {
    /// Writes to a descriptor.
    ///
    /// `O_NONBLOCK` is not changed on it, since others may share the open file description; if it is not
    /// set, a pipe or a terminal is opened anew through `/proc/self/fd`.
    ///
    /// # Errors
    ///
    /// As for [`Reader::from_fd`](crate::Reader::from_fd).
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, Error> {
        let fd = fd.into();
        inherited::check_mode(fd.as_fd(), OFlags::RDONLY, "writing")?;
        sys::look_at_sigpipe();
        let target = match inherited::classify(fd, OFlags::WRONLY)? {
            inherited::Kind::Polled(fd, how) => {
                Target::Polled(AsyncIo::with_interest(fd, Interest::WRITABLE)?, how)
            }
            inherited::Kind::File(file) => Target::File(File::from_std(file)),
        };
        Ok(Self {
            target,
            _place: None,
        })
    }

    /// Takes a descriptor that this process was started with, by its number: 1 is the standard output.
    ///
    /// From 3 on the number is taken, once, and closed with the writer. The standard streams stay open in
    /// the process besides, so that who reads them sees the end only when the process ends.
    ///
    /// # Errors
    ///
    /// As for [`Reader::inherited`](crate::Reader::inherited).
    pub fn inherited(number: i32) -> Result<Self, Error> {
        inherited::inherited(number)
            .and_then(Self::from_fd)
            .map_err(|error| inherited::named(error, number))
    }

    /// Our own end of a pipe, which nobody else shares.
    pub(crate) fn of_pipe(fd: OwnedFd, place: Option<Place>) -> Result<Self, Error> {
        sys::look_at_sigpipe();
        sys::set_nonblocking(fd.as_fd()).map_err(|error| Error::from_io("fcntl", error))?;
        let fd = AsyncIo::with_interest(fd, Interest::WRITABLE)?;
        Ok(Self {
            target: Target::Polled(fd, How::NonBlocking),
            _place: place,
        })
    }

    /// Another writer to the same pipe. The reader sees the end when all are closed.
    ///
    /// # Errors
    ///
    /// The limits of fcntl(2) and epoll(7), and of kind [`Closed`](sinew_core::ErrorKind::Closed) after a
    /// `shutdown`.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let fd = match self.fd() {
            Some(fd) => sys::duplicate(fd),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let fd = fd.map_err(|error| Error::from_io("fcntl", error))?;
        let target = match &self.target {
            Target::Polled(_, how) => {
                Target::Polled(AsyncIo::with_interest(fd, Interest::WRITABLE)?, *how)
            }
            _ => Target::File(File::from_std(fd.into())),
        };
        Ok(Self {
            target,
            _place: None,
        })
    }

    /// Bytes that the pipe holds: see [`Options::size`](crate::Options::size).
    ///
    /// # Errors
    ///
    /// `EBADF` for what is no pipe, or closed.
    pub fn size(&self) -> Result<usize, Error> {
        let size = match self.fd() {
            Some(fd) => sys::size(fd),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        size.map_err(|error| Error::from_io("fcntl", error))
    }

    /// The descriptor, unless it was closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::Polled(fd, _) => Some(fd.as_fd()),
            Target::File(file) => Some(file.as_fd()),
            Target::Closed => None,
        }
    }

    /// The descriptor as Tokio waits for it, unless it is a file or closed.
    /// Whether others may have the open file description, too, which is left as it is.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(&self.target, Target::Polled(_, how) if *how != How::NonBlocking)
    }

    pub(crate) fn polled(&self) -> Option<&AsyncIo<OwnedFd>> {
        match &self.target {
            Target::Polled(fd, _) => Some(fd),
            Target::File(_) | Target::Closed => None,
        }
    }
}

impl Writer {
    #[cold]
    fn poll_otherwise(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.target {
            Target::Polled(io, how) => {
                let how = *how;
                let write = |fd: &OwnedFd| sys::write(fd.as_fd(), how, slices);
                if is_attempt() {
                    // Nobody waits: what counts is what the kernel says now.
                    return match io.try_write_with(write) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                        done => Poll::Ready(done),
                    };
                }
                io.poll_write_with(cx, write)
            }
            Target::File(file) => poll_pooled(|| Pin::new(file).poll_write_vectored(cx, slices)),
            Target::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Writer {
    #[inline(always)]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.target {
            // Short, so that it is taken in where it is called: see `FrameWriter::send`.
            Target::Polled(io, How::NonBlocking) if !is_attempt() && !sys::sigpipe_kills() => {
                io.poll_write_with(cx, |fd| Ok(rustix::io::write(fd, bytes)?))
            }
            _ => self.poll_otherwise(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_otherwise(cx, slices)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        matches!(self.target, Target::Polled(_, How::NonBlocking))
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.target {
            Target::File(file) => poll_pooled(|| Pin::new(file).poll_flush(cx)),
            Target::Polled(..) | Target::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Target::File(file) = &mut self.target {
            std::task::ready!(poll_pooled(|| Pin::new(file).poll_flush(cx)))?;
        }
        self.target = Target::Closed;
        Poll::Ready(Ok(()))
    }
}
