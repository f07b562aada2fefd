use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use sinew_core::{Error, FrameCodec, FrameReader, TryRecvError};
use tokio::io::{AsyncRead, ReadBuf};

use super::io::ReadIo;
use crate::link::poll_once;

/// Reads that are dropped in a row before others have their turn.
const DISCARD: usize = 64;

/// The half of a [`Connection`](super::Connection) that receives: a `Stream` of [`Bytes`].
///
/// A message shares the memory of the block that it was read in, with others: copy small ones that are
/// kept for long.
///
/// # Ends
///
/// `None` once the peer has closed and everything was received. An error with
/// [`is_peer_crashed`](Error::is_peer_crashed) if the connection ended within a message (with
/// `Framing::Length`), was reset, or the peer does not answer any more (see
/// [`keepalive`](super::Options::keepalive)). After an error the stream ends; `recv` repeats the error.
pub struct Receiver {
    reader: FrameReader<ReadIo>,
}

impl Receiver {
    pub(super) fn new(io: ReadIo, codec: FrameCodec) -> Self {
        let address = io.link.address.clone();
        Self {
            reader: FrameReader::new(io, codec).with_address(address),
        }
    }

    /// Receives the next message; `None` once the peer has closed and everything was received.
    ///
    /// # Errors
    ///
    /// See [*Ends*](Self#ends); of kind [`LimitExceeded`](sinew_core::ErrorKind::LimitExceeded) for a
    /// message that is longer than [`max_message`](super::Options::max_message).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it, and what was read of one stays.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.reader.recv().await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        self.reader.get_mut().at_once = true;
        let received = self.reader.try_recv();
        self.reader.get_mut().at_once = false;
        received
    }

    /// Ends the other direction, in which nothing is sent, once everything was read.
    pub(super) fn answer(&mut self) {
        self.reader.get_mut().answers = true;
    }

    pub(super) fn into_io(self) -> (ReadIo, Bytes) {
        self.reader.into_parts()
    }

    /// Drops the bytes that are there, and is woken for more.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) {
        let _later = self.poll_end(cx);
    }

    /// Drops all bytes up to the end of the peer's direction.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut bytes = [0; 4096];
        let io = self.reader.get_mut();
        for _ in 0..DISCARD {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(pin!(&mut *io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    pub(super) fn discard_now(&mut self) {
        self.reader.get_mut().at_once = true;
        let _done = poll_once(|cx| {
            self.discard(cx);
            Poll::Ready(())
        });
    }
}

impl Stream for Receiver {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().reader).poll_next(cx)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().link.socket()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.reader.get_ref().link.address)
            .finish_non_exhaustive()
    }
}
