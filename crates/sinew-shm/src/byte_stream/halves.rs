//! The halves of a stream of bytes.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_sink::Sink;
use sinew_core::{Credentials, Looks};
use sinew_ring::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ByteStream, ReuniteError};
use crate::receiver::{Head, Receiver};
use crate::sender::Sender;
use crate::stats::{ReceiverStats, SenderStats};

/// The half of a [`ByteStream`] that reads, made by [`ByteStream::into_split`].
///
/// It reads as the stream does: see [`ByteStream`] for errors and cancel safety. Dropping it closes
/// the reading direction: the peer's writes fail with `BrokenPipe` once the peer has noticed, at
/// the latest when its ring is full.
pub struct OwnedReadHalf {
    receiver: Receiver,
    /// The message that was read in part.
    current: Current,
}

enum Current {
    None,
    Ring { frame: Frame, offset: usize },
    Memory(Bytes),
}

impl OwnedReadHalf {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            current: Current::None,
        }
    }

    pub(super) fn is_amid_message(&self) -> bool {
        !matches!(self.current, Current::None)
    }

    pub(super) fn into_receiver(self) -> Receiver {
        self.receiver
    }

    /// Puts two halves of one stream together again. A message that was read in part stays so.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which hands both halves back, if they are not of the same stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (left, right) = sinew_shm::pair()?;
    /// let (reader, writer) = left.into_byte_stream().into_split();
    /// let (other_reader, _) = right.into_byte_stream().into_split();
    ///
    /// let error = other_reader.reunite(writer).unwrap_err();
    /// let left = reader.reunite(error.1)?;
    /// # drop(left);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(
        clippy::result_large_err,
        reason = "the stream is as large as its halves"
    )]
    pub fn reunite(self, writer: OwnedWriteHalf) -> Result<ByteStream, ReuniteError> {
        if !Arc::ptr_eq(self.receiver.link(), writer.sender.link()) {
            return Err(ReuniteError(self, writer));
        }
        Ok(ByteStream {
            writer,
            reader: self,
        })
    }

    /// Returns the peer's pid, uid and gid: see [`ByteStream::peer_cred`].
    pub fn peer_cred(&self) -> Credentials {
        self.receiver.peer()
    }

    /// Returns what the receiver under this half has done so far.
    pub fn stats(&self) -> ReceiverStats {
        self.receiver.stats()
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { receiver, current } = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match current {
                Current::Ring { frame, offset } => {
                    let count = buffer.remaining().min(frame.len() - *offset);
                    receiver.copy_to(frame, *offset, buffer.initialize_unfilled_to(count));
                    buffer.advance(count);
                    *offset += count;
                    if *offset == frame.len() {
                        receiver.consume(*frame);
                        *current = Current::None;
                    }
                    return Poll::Ready(Ok(()));
                }
                Current::Memory(bytes) => {
                    let count = buffer.remaining().min(bytes.len());
                    buffer.put_slice(&bytes[..count]);
                    bytes.advance(count);
                    if bytes.is_empty() {
                        *current = Current::None;
                    }
                    return Poll::Ready(Ok(()));
                }
                Current::None => match ready!(receiver.poll_head(cx, Looks::SHARED))? {
                    None => return Poll::Ready(Ok(())),
                    // An empty message is no bytes, and zero bytes read would be the end.
                    Some(Head::Ring(frame)) if frame.len() == 0 => receiver.consume(frame),
                    Some(Head::Ring(frame)) => *current = Current::Ring { frame, offset: 0 },
                    Some(head) => {
                        let bytes = receiver.take(head);
                        if !bytes.is_empty() {
                            *current = Current::Memory(bytes);
                        }
                    }
                },
            }
        }
    }
}

impl AsFd for OwnedReadHalf {
    /// The channel's socket: see [`ByteStream`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl fmt::Debug for OwnedReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = match &self.current {
            Current::None => 0,
            Current::Ring { frame, offset } => frame.len() - offset,
            Current::Memory(bytes) => bytes.len(),
        };
        f.debug_struct("OwnedReadHalf")
            .field("receiver", &self.receiver)
            .field("unread", &unread)
            .finish()
    }
}

/// The half of a [`ByteStream`] that writes, made by [`ByteStream::into_split`].
///
/// It writes as the stream does: see [`ByteStream`] for errors and cancel safety. Dropping it
/// closes the writing direction, as `shutdown` does: the peer reads everything that was written,
/// then the end.
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
/// writer.write_all(b"request").await?;
/// drop(writer);
///
/// let mut right = right.into_byte_stream();
/// let mut request = String::new();
/// right.read_to_string(&mut request).await?;
/// right.write_all(b"answer").await?;
/// # drop(right);
///
/// let mut answer = [0; 6];
/// reader.read_exact(&mut answer).await?;
/// assert_eq!((&*request, &answer), ("request", b"answer"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf {
    sender: Sender,
}

impl OwnedWriteHalf {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender }
    }

    pub(super) fn into_sender(self) -> Sender {
        self.sender
    }

    /// Puts two halves of one stream together again: see [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which hands both halves back, if they are not of the same stream.
    #[expect(
        clippy::result_large_err,
        reason = "the stream is as large as its halves"
    )]
    pub fn reunite(self, reader: OwnedReadHalf) -> Result<ByteStream, ReuniteError> {
        reader.reunite(self)
    }

    /// Returns the peer's pid, uid and gid: see [`ByteStream::peer_cred`].
    pub fn peer_cred(&self) -> Credentials {
        self.sender.peer()
    }

    /// Returns what the sender under this half has done so far.
    pub fn stats(&self) -> SenderStats {
        self.sender.stats()
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.get_mut().sender.poll_write(cx, slices))?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sender = &mut self.get_mut().sender;
        // A write leaves nothing unsent. A channel may have, before it became a stream.
        if sender.has_unsent() {
            return Sink::poll_flush(Pin::new(sender), cx).map_err(io::Error::from);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sender = &mut self.get_mut().sender;
        Sink::poll_close(Pin::new(sender), cx).map_err(io::Error::from)
    }
}

impl AsFd for OwnedWriteHalf {
    /// The channel's socket: see [`ByteStream`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}
