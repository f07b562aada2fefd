use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::fs::{FileType, OFlags};
use sinew_core::thread::poll_pooled;
use sinew_core::{AdaptiveSpin, AsyncIo, Error, is_attempt};
use tokio::fs::File;
use tokio::io::{AsyncRead, Interest, ReadBuf};

use crate::fifo::{Eof, Place};
use crate::inherited;
use crate::sys::{self, How};

/// Reads in a row that found fewer than [`FEW`] bytes at once, after which each waits for a pause before: the writer is
/// as fast then, and both would take turns at the pipe's lock for each of its messages. A dialogue has no such row.
const ROW: u32 = 8;
const FEW: usize = 1024;
/// Turns of an empty loop, about 0.4 µs together: so that there is more to read.
const PAUSE: u32 = 32;

/// The end of a pipe that is read, as bytes: an [`AsyncRead`].
///
/// A descriptor that is no pipe works too: sockets and terminals, and, read on demand by Tokio's blocking
/// threads, files and devices that cannot be waited for.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut writer, mut reader) = sinew_pipe::Options::new().byte_pair()?;
/// writer.write_all(b"any bytes").await?;
/// writer.shutdown().await?;
/// let mut all = Vec::new();
/// reader.read_to_end(&mut all).await?;
/// assert_eq!(all, b"any bytes");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    source: Source,
    /// Of a FIFO: what is to be done when the last writer has left.
    fifo: Option<Fifo>,
    spin: AdaptiveSpin,
    /// Reads in a row that found a few bytes at once, up to [`ROW`].
    row: u32,
}

#[derive(Debug)]
enum Source {
    Polled(AsyncIo<OwnedFd>, How),
    File(File),
}

#[derive(Debug)]
struct Fifo {
    eof: Eof,
    /// Whether no writer has been seen since it was opened.
    is_fresh: bool,
    /// Keeps the FIFO from ever being without a writer.
    _held: Option<OwnedFd>,
    _place: Place,
}

impl Reader {
    /// Reads from a descriptor.
    ///
    /// `O_NONBLOCK` is not changed on it, since others may share the open file description; if it is not
    /// set, a pipe or a terminal is opened anew through `/proc/self/fd`.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) for a directory, a socket that
    /// listens, or a descriptor that is not open for reading; the limits of open(2) and epoll(7).
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, Error> {
        let fd = fd.into();
        inherited::check_mode(fd.as_fd(), OFlags::WRONLY, "reading")?;
        let source = match inherited::classify(fd, OFlags::RDONLY)? {
            inherited::Kind::Polled(fd, how) => {
                Source::Polled(AsyncIo::with_interest(fd, Interest::READABLE)?, how)
            }
            inherited::Kind::File(file) => Source::File(File::from_std(file)),
        };
        Ok(Self {
            source,
            fifo: None,
            spin: AdaptiveSpin::adaptive(),
            row: 0,
        })
    }

    /// Takes a descriptor that this process was started with, by its number: 0 is the standard input.
    ///
    /// From 3 on the number is taken, once, and closed with the reader. The standard streams stay open in
    /// the process besides.
    ///
    /// # Errors
    ///
    /// As for [`take_inherited`](sinew_core::take_inherited), and as for
    /// [`from_fd`](Self::from_fd).
    pub fn inherited(number: i32) -> Result<Self, Error> {
        inherited::inherited(number)
            .and_then(Self::from_fd)
            .map_err(|error| inherited::named(error, number))
    }

    /// Our own end of a pipe, which nobody else shares.
    pub(crate) fn of_pipe(fd: OwnedFd) -> Result<Self, Error> {
        sys::set_nonblocking(fd.as_fd()).map_err(|error| Error::from_io("fcntl", error))?;
        let fd = AsyncIo::with_interest(fd, Interest::READABLE)?;
        Ok(Self {
            source: Source::Polled(fd, How::NonBlocking),
            fifo: None,
            spin: AdaptiveSpin::adaptive(),
            row: 0,
        })
    }

    pub(crate) fn of_fifo(
        fd: OwnedFd,
        eof: Eof,
        held: Option<OwnedFd>,
        place: Place,
    ) -> Result<Self, Error> {
        let mut reader = Self::of_pipe(fd)?;
        reader.fifo = Some(Fifo {
            eof,
            is_fresh: false,
            _held: held,
            _place: place,
        });
        Ok(reader)
    }

    /// Bytes that the pipe holds: see [`Options::size`](crate::Options::size).
    ///
    /// # Errors
    ///
    /// `EBADF` for what is no pipe.
    pub fn size(&self) -> Result<usize, Error> {
        sys::size(self.as_fd()).map_err(|error| Error::from_io("fcntl", error))
    }

    /// Whether there may be more after an end: a FIFO with [`Eof::Reopen`].
    pub(crate) fn comes_back(&self) -> bool {
        matches!(&self.fifo, Some(fifo) if fifo.eof == Eof::Reopen)
    }

    /// The descriptor as Tokio waits for it, unless it is a file.
    /// Whether others may have the open file description, too, which is left as it is.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(&self.source, Source::Polled(_, how) if *how != How::NonBlocking)
    }

    pub(crate) fn polled(&self) -> Option<&AsyncIo<OwnedFd>> {
        match &self.source {
            Source::Polled(fd, _) => Some(fd),
            Source::File(_) => None,
        }
    }

    /// Reads what one read(2) gives to the end of `buffer`: a packet, where there are packets.
    pub(crate) fn poll_read_append(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |fd, how| sys::read_append(fd, how, buffer))
    }

    /// Short, so that it is taken in where it is called: see [`sinew_core::FrameWriter::send`].
    #[inline(always)]
    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>, How) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let is_fresh = self.fifo.as_ref().is_some_and(|fifo| fifo.is_fresh);
        let (Source::Polled(io, how @ How::NonBlocking), false) =
            (&self.source, is_fresh || is_attempt())
        else {
            return self.poll_otherwise(cx, read);
        };
        let read = |fd: &OwnedFd| Ok((read(fd.as_fd(), *how)?, false));
        let count = ready!(io.poll_read_spinning(cx, &mut self.spin, read))?;
        match count > 0 || !self.comes_back() {
            true => Poll::Ready(Ok(count)),
            false => Poll::Ready(self.reopen().map(|()| 0)),
        }
    }

    #[cold]
    fn poll_otherwise(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>, How) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Source::Polled(io, how) = &self.source else {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file has no packets",
            )));
        };
        let mut fresh = self.fifo.as_mut().map(|fifo| &mut fifo.is_fresh);
        let mut read = |fd: &OwnedFd| {
            let done = read(fd.as_fd(), *how);
            if let Some(is_fresh) = fresh.as_deref_mut().filter(|is_fresh| **is_fresh) {
                // Of a FIFO that has had no writer yet, read(2) says the same as at the end.
                if matches!(done, Ok(0)) && !sys::has_hung_up(fd.as_fd())? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                *is_fresh = false;
            }
            done
        };
        let count = if is_attempt() {
            // Nobody waits: what counts is what the kernel has, not what the runtime has heard of.
            match io.try_read_with(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                done => done?,
            }
        } else {
            ready!(io.poll_read_spinning(cx, &mut self.spin, |fd| Ok((read(fd)?, false))))?
        };
        if count == 0 && self.comes_back() {
            self.reopen()?;
        }
        Poll::Ready(Ok(count))
    }

    /// Makes a new open file description, in which the hang-up has not happened. The old one is kept
    /// until then, so that the FIFO is never without a reader.
    #[cold]
    fn reopen(&mut self) -> io::Result<()> {
        if let Source::Polled(io, how) = &self.source {
            let fd = sys::reopen(io.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?;
            let io = AsyncIo::with_interest(fd, Interest::READABLE)?;
            self.source = Source::Polled(io, *how);
        }
        if let Some(fifo) = &mut self.fifo {
            fifo.is_fresh = true;
        }
        Ok(())
    }
}

impl AsyncRead for Reader {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Source::File(file) = &mut self.source {
            return poll_pooled(|| Pin::new(file).poll_read(cx, buffer));
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.row >= ROW && !is_attempt() {
            for _ in 0..PAUSE {
                std::hint::spin_loop();
            }
        }
        let mut tries = 0;
        let read = self.poll_with(cx, |fd, how| {
            tries += 1;
            sys::read(fd, how, buffer)
        });
        let found_few = matches!(read, Poll::Ready(Ok(count)) if (1..FEW).contains(&count));
        self.row = match found_few && tries == 1 {
            true => (self.row + 1).min(ROW),
            false => 0,
        };
        read.map_ok(|_count| ())
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Polled(fd, _) => fd.as_fd(),
            Source::File(file) => file.as_fd(),
        }
    }
}

/// The type of what a descriptor refers to, in words.
pub(crate) fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    }
}
