use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use sinew_core::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::ReadIo;
use crate::link::WriteIo;
use crate::unix::packet::check_fds;

/// A connection as a stream of bytes, for any codec of `tokio-util`, and for everything else that takes an
/// `AsyncRead + AsyncWrite`.
///
/// Descriptors that come are kept, up to [`max_fds`](super::Options::max_fds), until they are
/// [taken](Self::take_fds).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::{SinkExt, StreamExt};
/// use sinew_socket::unix::stream;
/// use tokio_util::codec::{AnyDelimiterCodec, Framed};
///
/// let (left, right) = stream::pair()?;
/// let codec = || AnyDelimiterCodec::new(b";".to_vec(), b";".to_vec());
/// let mut left = Framed::new(left.into_byte_stream().await?, codec());
/// let mut right = Framed::new(right.into_byte_stream().await?, codec());
/// left.send("a record").await?;
/// assert_eq!(right.next().await.transpose()?.as_deref(), Some(&b"a record"[..]));
/// # Ok(())
/// # }
/// ```
pub struct ByteStream {
    reader: ReadIo,
    /// What was read and belonged to no message.
    read: Bytes,
    writer: WriteIo,
}

impl ByteStream {
    pub(super) fn new(reader: ReadIo, read: Bytes, writer: WriteIo) -> Self {
        Self {
            reader,
            read,
            writer,
        }
    }

    /// Takes the descriptors that came with the bytes which were read so far.
    ///
    /// # Errors
    ///
    /// [Recoverable](Error::is_recoverable), where some were lost: there were more than
    /// [`max_fds`](super::Options::max_fds), or this process had no numbers for them. All were closed
    /// then.
    pub fn take_fds(&mut self) -> Result<Vec<OwnedFd>, Error> {
        self.reader.claim_all()
    }

    /// Sends descriptors with the first byte that is written next, instead of those that were given
    /// before and did not go yet.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) for more than 253.
    pub fn send_fds(&mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Result<(), Error> {
        let fds: Vec<_> = fds.into_iter().collect();
        check_fds(&fds)?;
        self.writer.attached = fds;
        Ok(())
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read.is_empty() {
            let count = this.read.len().min(buffer.remaining());
            buffer.put_slice(&this.read[..count]);
            this.read.advance(count);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}

impl AsFd for ByteStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.link.socket()
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("address", &self.reader.link.address)
            .finish_non_exhaustive()
    }
}
