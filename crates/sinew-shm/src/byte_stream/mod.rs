//! A channel as a stream of bytes.

mod error;
mod halves;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use sinew_core::Credentials;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::error::{IntoChannelError, ReuniteError};
pub use self::halves::{OwnedReadHalf, OwnedWriteHalf};
use crate::channel::Channel;
use crate::stats::{ReceiverStats, SenderStats};

/// A [`Channel`] as `AsyncRead` and `AsyncWrite`, for everything that runs on a `UnixStream`:
/// hyper, tonic, tokio-util's codecs.
///
/// [`Channel::into_byte_stream`] makes it. [`into_split`](Self::into_split) gives the halves, which
/// may live in different tasks and threads.
///
/// # Writing
///
/// Each write is published at once, as one message of up to
/// [`threshold`](crate::Options::threshold) bytes; a longer write is cut there, and returns how
/// many bytes it took. A write waits while the ring is full. `flush` has nothing to wait for.
/// `shutdown` closes the writing direction: the peer reads everything that was written, then the
/// end, and may still write. So does dropping the stream, as of a socket: a protocol on bytes says
/// itself where it ends.
///
/// # Reading
///
/// A read returns bytes of one message at most, and does not show where messages end. It returns
/// zero bytes once the peer has closed its writing direction and everything was read.
///
/// # Errors
///
/// An `io::Error` of a read or a write converts back to the [`Error`](sinew_core::Error) of
/// [`Receiver::recv`](crate::Receiver::recv) or [`Sender::send`](crate::Sender::send):
///
/// - A read fails if the peer's process died without closing the channel
///   ([`is_peer_crashed`](sinew_core::Error::is_peer_crashed)), or if the peer broke the protocol.
/// - A write fails with `BrokenPipe` after `shutdown`, or once the peer's reading half was dropped.
///   It fails, too, if the peer's process died or broke the protocol.
///
/// # Cancel safety
///
/// `AsyncReadExt::read` and `AsyncWriteExt::write` are cancel safe: a future that is dropped before
/// it is ready has read or written nothing. `read_exact` and `write_all` are not, on any stream.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (left, right) = sinew_shm::pair()?;
/// let (mut left, mut right) = (left.into_byte_stream(), right.into_byte_stream());
/// left.write_all(b"hello ").await?;
/// left.write_all(b"world").await?;
/// left.shutdown().await?;
///
/// let mut text = String::new();
/// right.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello world");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ByteStream {
    writer: OwnedWriteHalf,
    reader: OwnedReadHalf,
}

impl ByteStream {
    pub(crate) fn new(channel: Channel) -> Self {
        let (mut sender, receiver) = channel.split();
        sender.ends_when_dropped(true);
        Self {
            writer: OwnedWriteHalf::new(sender),
            reader: OwnedReadHalf::new(receiver),
        }
    }

    /// Splits the stream into its halves, which may live in different tasks and threads.
    ///
    /// The connection ends for the peer when both are dropped. [`OwnedReadHalf::reunite`] and
    /// [`OwnedWriteHalf::reunite`] undo the split.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (left, right) = sinew_shm::pair()?;
    /// let (mut reader, mut writer) = left.into_byte_stream().into_split();
    /// let echo = tokio::spawn(async move {
    ///     let (mut reader, mut writer) = right.into_byte_stream().into_split();
    ///     tokio::io::copy(&mut reader, &mut writer).await
    /// });
    ///
    /// let write = tokio::spawn(async move { writer.write_all(b"there and back").await });
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text).await?;
    /// assert_eq!(text, "there and back");
    /// # write.await??;
    /// # echo.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.reader, self.writer)
    }

    /// Borrows both halves, to read and write at the same time within one task.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (left, right) = sinew_shm::pair()?;
    /// # let client = tokio::spawn(async move {
    /// #     let mut client = left.into_byte_stream();
    /// #     tokio::io::AsyncWriteExt::shutdown(&mut client).await?;
    /// #     tokio::io::copy(&mut client, &mut tokio::io::sink()).await
    /// # });
    /// let mut stream = right.into_byte_stream();
    /// let (reader, writer) = stream.split();
    /// tokio::io::copy(reader, writer).await?;
    /// # drop(stream);
    /// # client.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(&mut self) -> (&mut OwnedReadHalf, &mut OwnedWriteHalf) {
        (&mut self.reader, &mut self.writer)
    }

    /// Turns the stream back into a channel of messages, as when a protocol that began with bytes
    /// goes on with messages.
    ///
    /// # Errors
    ///
    /// [`IntoChannelError`], which hands the stream back, if a message was read in part: the channel
    /// would receive its bytes a second time, or lose the rest of them. A read that fills less than
    /// its buffer ends at the end of a message, so that a read into a buffer longer than the rest
    /// makes the conversion possible.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut left, right) = sinew_shm::pair()?;
    /// left.send("version 1\n").await?;
    /// left.send("a message").await?;
    ///
    /// let mut stream = right.into_byte_stream();
    /// let mut greeting = [0; 10];
    /// stream.read_exact(&mut greeting).await?;
    /// let mut right = stream.into_channel()?;
    /// assert_eq!(right.recv().await?.as_deref(), Some(&b"a message"[..]));
    /// # Ok(())
    /// # }
    /// ```
    #[expect(
        clippy::result_large_err,
        reason = "the channel is as large as the stream"
    )]
    pub fn into_channel(self) -> Result<Channel, IntoChannelError> {
        if self.reader.is_amid_message() {
            return Err(IntoChannelError(self));
        }
        let (mut sender, receiver) = (self.writer.into_sender(), self.reader.into_receiver());
        sender.ends_when_dropped(false);
        Ok(Channel::join(sender, receiver))
    }

    /// Returns the peer's pid, uid and gid, which the kernel vouched for when it connected:
    /// `SO_PEERCRED` of unix(7).
    pub fn peer_cred(&self) -> Credentials {
        self.writer.peer_cred()
    }

    /// Returns what the sender and the receiver under this stream have done so far. Each write is a
    /// message.
    pub fn stats(&self) -> (SenderStats, ReceiverStats) {
        (self.writer.stats(), self.reader.stats())
    }
}

impl AsFd for ByteStream {
    /// The channel's socket, which becomes readable when the peer ends. The bytes do not go through
    /// it: do not read from or write to it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

impl AsyncRead for ByteStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ByteStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}
