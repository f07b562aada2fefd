use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use rustix::net::Shutdown;
use sinew_core::{Error, FrameCodec, FrameReader, TryRecvError};
use tokio::io::{AsyncRead, ReadBuf};

use super::io::{Counting, ReadIo};
use crate::link::poll_once;
use crate::unix::Message;

/// Reads that are dropped in a row before others have their turn.
const DISCARD: usize = 64;

/// The half of a [`Connection`](super::Connection) that receives: a `Stream` of [`Message`]s.
///
/// A payload shares the memory of the block that it was read in, with others: copy small ones that are
/// kept for long.
///
/// # Ends
///
/// `None` once the peer has closed and everything was received. An error with
/// [`is_peer_crashed`](Error::is_peer_crashed) if it ended within a message (with `Framing::Length`), or
/// went away without having read all that was sent to it, or dropped its sender without having
/// closed it. Of kind [`Refused`](sinew_core::ErrorKind::Refused) if the listener's policy does not
/// admit this end. An error that
/// [`is_recoverable`](Error::is_recoverable) is about the descriptors of one message, and the stream goes
/// on; after another error it ends, and `recv` repeats the error.
///
/// Dropping the receiver has the peer's `send` fail.
pub struct Receiver {
    reader: FrameReader<ReadIo, Counting>,
    failed: bool,
    yielded: bool,
    keep_open: bool,
}

impl Receiver {
    pub(super) fn new(io: ReadIo, codec: FrameCodec) -> Self {
        let address = io.link.address.clone();
        Self {
            reader: FrameReader::with_decoder(io, Counting::new(codec)).with_address(address),
            failed: false,
            yielded: false,
            keep_open: false,
        }
    }

    /// Receives the next message; `None` once the peer has closed and everything was received.
    ///
    /// # Errors
    ///
    /// See [*Ends*](Self#ends). Of kind [`LimitExceeded`](sinew_core::ErrorKind::LimitExceeded) for a
    /// message that is longer than [`max_message`](super::Options::max_message), which is the end.
    /// Recoverable, for a message that has more descriptors than
    /// [`max_fds`](super::Options::max_fds), or for whose descriptors this process has no numbers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it, and what was read of one stays.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.reader.get_mut().at_once = true;
        let received = poll_once(|cx| self.poll_recv(cx));
        self.reader.get_mut().at_once = false;
        match received {
            None => Err(TryRecvError::Empty),
            Some(Ok(Some(message))) => Ok(message),
            Some(Ok(None)) => Err(TryRecvError::Closed),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        match ready!(self.reader.poll_recv(cx)) {
            Ok(Some((payload, end))) => {
                let (fds, credentials) = self.reader.get_mut().claim(end)?;
                Poll::Ready(Ok(Some(Message::received(payload, fds, credentials, None))))
            }
            Ok(None) => Poll::Ready(Ok(None)),
            Err(error) => {
                self.failed = true;
                Poll::Ready(Err(error))
            }
        }
    }

    /// This end has connected, and the other may not admit it.
    pub(super) fn expect_refusal(&mut self) {
        self.reader.get_mut().may_be_refused = true;
    }

    pub(super) fn keep_open(&mut self) {
        self.keep_open = true;
    }

    pub(super) fn into_io(mut self) -> (ReadIo, Bytes) {
        self.keep_open = true;
        let io = self.reader.get_mut();
        let fresh = io.another();
        let io = std::mem::replace(io, fresh);
        (io, self.reader.take_buffered())
    }

    /// Drops the bytes that are there, and is woken for more.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0; 4096];
        let io = self.reader.get_mut();
        for _ in 0..DISCARD {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = pin!(&mut *io).poll_read(cx, &mut buffer);
            let _closed = io.claim_all();
            match read {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    pub(super) fn discard_now(&mut self) {
        self.reader.get_mut().at_once = true;
        let _done = poll_once(|cx| {
            self.discard(cx);
            Poll::Ready(())
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let link = &self.reader.get_ref().link;
        if !self.keep_open && link.is_here() {
            let _gone = link.shutdown(Shutdown::Read);
        }
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.yielded {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx));
        receiver.yielded = receiver.failed;
        Poll::Ready(item.transpose())
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
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
