use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use sinew_core::{BoundPath, Error, MessageSink, TrySendError, UnixEndpoint};

use crate::Outgoing;
use crate::unix::Message;
use crate::unix::packet::Outbox;

/// The half of a [`Socket`](super::Socket) that sends: a `Sink` of [`Message`]s.
///
/// A message goes to its own address, or else to the peer that the socket is connected to. Each is one
/// system call. Where the receiver's queue is full, `send` waits and `try_send` hands the message back;
/// the sink takes one more, keeps it, and is not ready until that has gone.
///
/// Errors are about one message, and the next may be sent.
pub struct Sender {
    _path: Option<Arc<BoundPath>>,
    outbox: Outbox,
}

impl Sender {
    pub(super) fn new(path: Option<Arc<BoundPath>>, outbox: Outbox) -> Self {
        Self {
            _path: path,
            outbox,
        }
    }

    /// Sends a message: bytes, or a [`Message`] with descriptors or an address.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` or `ENOENT` if there is no socket, `EACCES` without permission to write to its
    /// path, `EPERM` if it hears another peer alone; `EMSGSIZE` for a message that is longer than the
    /// send buffer, `ETOOMANYREFS` for too many descriptors on their way; of kind
    /// [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) for more than 253 of them, and without an
    /// address.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing of the message.
    pub async fn send(&mut self, message: impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        poll_fn(|cx| self.outbox.poll_send(cx, &message)).await
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The
    /// message is handed back.
    pub fn try_send<M: Outgoing<UnixEndpoint>>(
        &mut self,
        message: M,
    ) -> Result<(), TrySendError<M>> {
        self.outbox.try_send(message)
    }

    /// Sends what the sink has kept.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.outbox.poll_pending(cx)).await
    }

    /// Sends what the sink has kept, and sends nothing more. Receivers are not told: datagrams have no
    /// end.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.outbox.poll_pending(cx))?;
        self.outbox.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves that to its parent.
        if self.outbox.link.is_here() {
            let _blocked = self.outbox.try_pending();
        }
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        sender.outbox.check_open()?;
        sender.outbox.poll_pending(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.get_mut().outbox.start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().outbox.poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_closed(cx)
    }
}

impl MessageSink for Sender {
    type Native = Message;
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outbox.link.socket()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.outbox.link.address)
            .field("closed", &self.outbox.closed)
            .finish_non_exhaustive()
    }
}
