use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use sinew_core::{Error, ErrorKind, Framing};

use super::create::{Place, create_or_take, failed, take};
use super::open;
use crate::packet::{PacketReceiver, PacketSender};
use crate::{Options as Pipe, Reader, Receiver, Sender, Writer, sys};

/// What a receiver does when the last writer of its FIFO has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Eof {
    /// It ends, as at the end of a pipe. The default.
    #[default]
    End,
    /// It waits for the next writer. A line that the last one has not ended is a message, and a length
    /// frame that it has cut is an error that [`is_recoverable`](Error::is_recoverable). A
    /// [`Reader`] gives the end once, with 0 bytes, and can be read on.
    Reopen,
    /// It is a writer itself, so there is always one: the stream never ends, and what a writer has cut
    /// is continued by the next one's bytes. Needs the permission to write. Opening does not wait for a
    /// writer.
    Hold,
}

/// How an end of a FIFO is opened.
///
/// | option | default | |
/// |---|---|---|
/// | [`create`](Self::create) | no | make it if it is not there |
/// | [`mode`](Self::mode) | what the umask leaves of 0666 | permissions, exactly, with `create` |
/// | [`eof`](Self::eof) | [`Eof::End`] | when the last writer leaves a receiver |
/// | [`timeout`](Self::timeout) | none | how long to wait for the other end |
/// | [`unlink`](Self::unlink) | no | remove it when this end is dropped |
/// | [`framing`](Self::framing) | `Lines` | |
/// | [`max_message`](Self::max_message) | 16 MiB | |
/// | [`size`](Self::size) | 64 KiB | bytes that it holds, as [`crate::Options::size`] |
///
/// # Waiting for the other end
///
/// Opening is ready once the other end is open too. For as long as it waits, it has a thread of its own,
/// which makes the blocking open(2), and counts as an open end for the other side. It needs `/proc`, and
/// takes the last free real-time signal of the process to give up waiting.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pipe: Pipe,
    resize: bool,
    create: bool,
    mode: Option<u32>,
    eof: Eof,
    timeout: Option<Duration>,
    unlink: bool,
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the FIFO is made if it is not there. It stays, unless [`unlink`](Self::unlink) is asked
    /// for, also when opening is given up.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// The permissions with which it is made, exactly, whatever the umask. A FIFO of other permissions that
    /// is there already gets these, if it is ours, and is refused if it is not.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o7777);
        self
    }

    /// What to do when the last writer leaves.
    #[must_use]
    pub fn eof(mut self, eof: Eof) -> Self {
        self.eof = eof;
        self
    }

    /// For how long to wait until somebody has the other end open. Zero is one try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether the path is removed when this end is dropped, if it is still the same FIFO then.
    #[must_use]
    pub fn unlink(mut self, unlink: bool) -> Self {
        self.unlink = unlink;
        self
    }

    /// How the boundaries of messages are kept.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.pipe = self.pipe.framing(framing);
        self
    }

    /// The longest message in bytes.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.pipe = self.pipe.max_message(bytes);
        self
    }

    /// Bytes that the FIFO holds while it is open, for all.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        self.pipe = self.pipe.size(bytes);
        self.resize = true;
        self
    }

    /// Opens the end that receives messages, once a writer has opened the other.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if what is at the path is no FIFO,
    /// [`TimedOut`](ErrorKind::TimedOut) if nobody came in time, `ENOENT`, `EACCES`, and the limits of
    /// open(2) and pthread_create(3).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing open. A writer that came in the same
    /// moment finds that its reader has gone.
    pub async fn receiver(&self, path: impl AsRef<Path>) -> Result<Receiver, Error> {
        let path = path.as_ref();
        let reader = self.reader(path).await?;
        Ok(self.pipe.receiver_of(reader).with_address(path.display()))
    }

    /// Opens the end that sends messages, once a reader has opened the other.
    ///
    /// # Errors
    ///
    /// As for [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    ///
    /// As for [`receiver`](Self::receiver).
    pub async fn sender(&self, path: impl AsRef<Path>) -> Result<Sender, Error> {
        let path = path.as_ref();
        let writer = self.writer(path).await?;
        Ok(self.pipe.sender_of(writer).with_address(path.display()))
    }

    /// Opens the end that receives packets.
    ///
    /// # Errors
    ///
    /// As for [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    ///
    /// As for [`receiver`](Self::receiver).
    pub async fn packet_receiver(&self, path: impl AsRef<Path>) -> Result<PacketReceiver, Error> {
        let path = path.as_ref();
        let receiver = self.pipe.packet_receiver_of(self.reader(path).await?)?;
        Ok(receiver.with_address(path.display()))
    }

    /// Opens the end that sends packets.
    ///
    /// # Errors
    ///
    /// As for [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    ///
    /// As for [`receiver`](Self::receiver).
    pub async fn packet_sender(&self, path: impl AsRef<Path>) -> Result<PacketSender, Error> {
        let path = path.as_ref();
        let sender = self.pipe.packet_sender_of(self.writer(path).await?)?;
        Ok(sender.with_address(path.display()))
    }

    /// Opens the end that is read, as bytes.
    ///
    /// # Errors
    ///
    /// As for [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    ///
    /// As for [`receiver`](Self::receiver).
    pub async fn reader(&self, path: impl AsRef<Path>) -> Result<Reader, Error> {
        let path = path.as_ref();
        let (fifo, place) = self.find(path)?;
        let (fd, held) = if self.eof == Eof::Hold {
            let open = |access| sys::reopen(fifo.as_fd(), access | OFlags::NONBLOCK);
            let fd = open(OFlags::RDONLY).map_err(|error| failed("open", error, path))?;
            let held = open(OFlags::WRONLY).map_err(|error| {
                failed("open", error, path).with_detail("eof=hold, which opens it for writing too")
            })?;
            (fd, Some(held))
        } else {
            (self.wait(fifo, OFlags::RDONLY, path).await?, None)
        };
        self.resize(&fd, path)?;
        Reader::of_fifo(fd, self.eof, held, place)
    }

    /// Opens the end that is written, as bytes.
    ///
    /// # Errors
    ///
    /// As for [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    ///
    /// As for [`receiver`](Self::receiver).
    pub async fn writer(&self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        let path = path.as_ref();
        let (fifo, place) = self.find(path)?;
        let fd = self.wait(fifo, OFlags::WRONLY, path).await?;
        self.resize(&fd, path)?;
        Writer::of_pipe(fd, Some(place))
    }

    fn find(&self, path: &Path) -> Result<(OwnedFd, Place), Error> {
        let fifo = if self.create {
            create_or_take(path, self.mode)?
        } else {
            take(path)?
        };
        let place = Place::new(&fifo, path, self.unlink);
        Ok((fifo, place))
    }

    fn resize(&self, fd: &OwnedFd, path: &Path) -> Result<(), Error> {
        match self.resize {
            true => self
                .pipe
                .resize(fd.as_fd())
                .map_err(|error| error.with_address(path.display())),
            false => Ok(()),
        }
    }

    async fn wait(&self, fifo: OwnedFd, access: OFlags, path: &Path) -> Result<OwnedFd, Error> {
        let opened = open::wait(fifo, access, self.timeout)
            .await
            .map_err(|error| failed("open", error, path))?;
        opened.ok_or_else(|| {
            let other = match access {
                OFlags::WRONLY => "reading",
                _ => "writing",
            };
            Error::new(ErrorKind::TimedOut, "open")
                .with_address(path.display())
                .with_reason(format!(
                    "nobody opened it for {other} within {:?}",
                    self.timeout.unwrap_or_default()
                ))
                .with_remedy("start the other process, or raise the timeout")
        })
    }
}
