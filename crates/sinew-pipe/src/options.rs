use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, FrameCodec, Framing};

use crate::packet::{PacketReceiver, PacketSender};
use crate::{Reader, Receiver, Sender, Writer, sys};

/// How a pipe is made.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`size`](Self::size) | 64 KiB, the kernel's | a page to `fs.pipe-max-size` (1 MiB), rounded up to a power of two pages |
/// | [`framing`](Self::framing) | `Length` between two Sinew ends ([`pair`](Self::pair)), `Lines` otherwise | |
/// | [`max_message`](Self::max_message) | 16 MiB | below 4 GiB with `Length` |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_pipe::{Framing, Options};
///
/// let (mut sender, mut receiver) = Options::new().size(1 << 20).framing(Framing::Lines).pair()?;
/// sender.send("a line").await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"a line"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Options {
    size: Option<usize>,
    framing: Option<Framing>,
    max_message: Option<usize>,
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the pipe holds, `F_SETPIPE_SZ` of fcntl(2).
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = Some(bytes);
        self
    }

    /// How the boundaries of messages are kept.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = Some(framing);
        self
    }

    /// The longest message in bytes, in both directions.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// The codec, where `default` is the framing unless another was asked for.
    pub(crate) fn codec(&self, default: Framing) -> FrameCodec {
        let codec = FrameCodec::new(self.framing.unwrap_or(default));
        match self.max_message {
            Some(bytes) => codec.with_max_message(bytes),
            None => codec,
        }
    }

    /// Both ends of a pipe, with messages.
    ///
    /// # Errors
    ///
    /// `EMFILE` and `ENFILE` of pipe(2); for a [`size`](Self::size),
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) with the sysctl that limits it.
    pub fn pair(&self) -> Result<(Sender, Receiver), Error> {
        let (writer, reader) = self.byte_pair()?;
        let codec = self.codec(Framing::Length);
        Ok((
            Sender::new(writer, codec.clone()),
            Receiver::new(reader, codec),
        ))
    }

    /// Both ends of a pipe, with bytes.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn byte_pair(&self) -> Result<(Writer, Reader), Error> {
        let (reader, writer) = self.pipe(false)?;
        Ok((Writer::of_pipe(writer, None)?, Reader::of_pipe(reader)?))
    }

    /// Both ends of a pipe of packets: each message of up to [`PIPE_BUF`](crate::PIPE_BUF) bytes is one,
    /// without framing, and reading gives one at a time (`O_DIRECT` of pipe(2)).
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn packet_pair(&self) -> Result<(PacketSender, PacketReceiver), Error> {
        let (reader, writer) = self.pipe(true)?;
        Ok((
            self.packet_sender_of(Writer::of_pipe(writer, None)?)?,
            self.packet_receiver_of(Reader::of_pipe(reader)?)?,
        ))
    }

    /// A pipe to another process: a sender, and the end that the process reads, in blocking mode.
    ///
    /// Give it away with [`Stdio::from`](std::process::Stdio) or [`pass_fd`](crate::pass_fd). As long as
    /// it is open here, sending to a process that has ended is not noticed.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn sender(&self) -> Result<(Sender, OwnedFd), Error> {
        let (reader, writer) = self.pipe(false)?;
        let writer = Writer::of_pipe(writer, None)?;
        Ok((Sender::new(writer, self.codec(Framing::Lines)), reader))
    }

    /// A pipe from another process: a receiver, and the end that the process writes, in blocking mode.
    ///
    /// Give it away with [`Stdio::from`](std::process::Stdio) or [`pass_fd`](crate::pass_fd). As long as
    /// it is open here (in a [`Command`](std::process::Command), too), the receiver does not end.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn receiver(&self) -> Result<(Receiver, OwnedFd), Error> {
        let (reader, writer) = self.pipe(false)?;
        let reader = Reader::of_pipe(reader)?;
        Ok((Receiver::new(reader, self.codec(Framing::Lines)), writer))
    }

    /// As [`sender`](Self::sender), of packets.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn packet_sender(&self) -> Result<(PacketSender, OwnedFd), Error> {
        let (reader, writer) = self.pipe(true)?;
        let sender = self.packet_sender_of(Writer::of_pipe(writer, None)?)?;
        Ok((sender, reader))
    }

    /// As [`receiver`](Self::receiver), of packets: what the process writes is a packet each time.
    ///
    /// # Errors
    ///
    /// As for [`pair`](Self::pair).
    pub fn packet_receiver(&self) -> Result<(PacketReceiver, OwnedFd), Error> {
        let (reader, writer) = self.pipe(true)?;
        let receiver = self.packet_receiver_of(Reader::of_pipe(reader)?)?;
        Ok((receiver, writer))
    }

    /// Messages to any writer, of a pipe or not.
    pub fn sender_of(&self, writer: Writer) -> Sender {
        Sender::new(writer, self.codec(Framing::Lines))
    }

    /// Messages from any reader, of a pipe or not.
    pub fn receiver_of(&self, reader: Reader) -> Receiver {
        Receiver::new(reader, self.codec(Framing::Lines))
    }

    /// Packets to any pipe; it becomes one of packets (`O_DIRECT`) for everybody who shares its open file
    /// description.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for what is no pipe.
    pub fn packet_sender_of(&self, writer: Writer) -> Result<PacketSender, Error> {
        PacketSender::new(writer, self.max_message)
    }

    /// Packets from any pipe, whose writers must write packets.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for what is no pipe.
    pub fn packet_receiver_of(&self, reader: Reader) -> Result<PacketReceiver, Error> {
        PacketReceiver::new(reader, self.max_message)
    }

    /// The end that is read, and the one that is written.
    pub(crate) fn pipe(&self, packets: bool) -> Result<(OwnedFd, OwnedFd), Error> {
        let (reader, writer) =
            sys::pipe(packets).map_err(|error| Error::from_io("pipe2", error))?;
        self.resize(writer.as_fd())?;
        Ok((reader, writer))
    }

    pub(crate) fn resize(&self, pipe: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(bytes) = self.size else {
            return Ok(());
        };
        let error = match sys::set_size(pipe, bytes) {
            Ok(_) => return Ok(()),
            Err(error) => Error::from_io("fcntl", error).with_detail(format!("size={bytes}")),
        };
        let limit = |name: &str| {
            let value = std::fs::read_to_string(format!("/proc/sys/fs/{name}"));
            value.map_or_else(|_| "unknown".to_owned(), |value| value.trim().to_owned())
        };
        Err(match error.errno().map(Errno::from_raw_os_error) {
            Some(Errno::PERM) if bytes as u64 > limit("pipe-max-size").parse().unwrap_or(u64::MAX) => {
                error
                    .with_kind(ErrorKind::LimitExceeded)
                    .with_reason(format!("fs.pipe-max-size is {}", limit("pipe-max-size")))
                    .with_remedy("raise it, or ask for less")
            }
            Some(Errno::PERM) => error
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason(format!(
                    "all pipes of this user together have reached fs.pipe-user-pages-soft, {} pages",
                    limit("pipe-user-pages-soft")
                ))
                .with_remedy("raise it, or close some pipes"),
            Some(Errno::BUSY) => error
                .with_reason("the pipe holds more than that")
                .with_remedy("ask for more, or before it is written to"),
            Some(Errno::BADF) => error
                .with_kind(ErrorKind::InvalidInput)
                .with_reason("it is no pipe")
                .with_remedy("leave the size out"),
            _ => error
                .with_kind(ErrorKind::InvalidInput)
                .with_reason("no pipe can have that size")
                .with_remedy(format!("ask for up to {}", limit("pipe-max-size"))),
        })
    }
}

/// Both ends of a pipe, with messages of any bytes, framed by their length: [`Options::pair`] with all
/// defaults.
///
/// # Errors
///
/// `EMFILE` and `ENFILE` of pipe(2).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (mut sender, mut receiver) = sinew_pipe::pair()?;
/// sender.send("hello").await?;
/// sender.close().await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(receiver.recv().await?, None);
/// # Ok(())
/// # }
/// ```
pub fn pair() -> Result<(Sender, Receiver), Error> {
    Options::new().pair()
}
