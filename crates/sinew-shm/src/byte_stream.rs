//! A channel as a stream of bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use sinew_core::{Credentials, Looks};
use sinew_ring::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::channel::Channel;
use crate::receiver::{Head, Receiver};
use crate::sender::Sender;

/// A [`Channel`] as `AsyncRead` and `AsyncWrite`, for everything that runs on a `UnixStream`: hyper,
/// tonic, tokio-util's codecs.
///
/// Every write is published at once, as a frame of up to the threshold; reads take what is there and
/// know nothing of frames. Writing is closed by `shutdown`, reading ends when the peer has closed its
/// side; a peer that died is an `io::Error` that converts back to the [`Error`](sinew_core::Error) which
/// says [`is_peer_crashed`](sinew_core::Error::is_peer_crashed).
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
    sender: Sender,
    receiver: Receiver,
    /// What was begun to be read.
    current: Current,
}

#[derive(Debug)]
enum Current {
    None,
    Ring { frame: Frame, offset: usize },
    Memory(Bytes),
}

impl ByteStream {
    pub(crate) fn new(channel: Channel) -> Self {
        let (sender, receiver) = channel.split();
        Self {
            sender,
            receiver,
            current: Current::None,
        }
    }

    /// Who is at the other end, as the kernel vouched for when it connected.
    pub fn peer(&self) -> Credentials {
        self.sender.peer()
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            receiver, current, ..
        } = self.get_mut();
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
                    Some(Head::Memory(bytes)) if bytes.is_empty() => {}
                    Some(Head::Memory(bytes)) => *current = Current::Memory(bytes),
                },
            }
        }
    }
}

impl AsyncWrite for ByteStream {
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

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sender = &mut self.get_mut().sender;
        futures_sink::Sink::poll_close(Pin::new(sender), cx).map_err(io::Error::from)
    }
}
