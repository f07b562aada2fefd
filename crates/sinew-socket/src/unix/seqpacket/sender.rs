use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;
use sinew_core::{Error, MessageSink, TrySendError, UnixEndpoint};

use super::Receiver;
use crate::Outgoing;
use crate::unix::Message;
use crate::unix::packet::Outbox;

/// The half of a [`Connection`](super::Connection) that sends: a `Sink` of [`Message`]s.
///
/// Each message is one system call. Where the peer's queue is full, `send` waits and `try_send` hands
/// the message back; the sink takes one more, keeps it, and is not ready until that has gone.
///
/// Dropping the sender ends this direction: the peer gets what was sent, then `None`. Nothing in
/// the protocol can tell it whether the sender was [closed](Self::close) before.
pub struct Sender {
    outbox: Outbox,
    keep_open: bool,
    /// The other direction, of which nothing is wanted.
    discard: Option<Receiver>,
}

impl Sender {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            keep_open: false,
            discard: None,
        }
    }

    /// Sends a message: bytes, or a [`Message`] with descriptors.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](sinew_core::ErrorKind::Closed) (`EPIPE`) if the peer does not receive any
    /// more; `EMSGSIZE` for a message that is longer than the send buffer, `ETOOMANYREFS` for too many
    /// descriptors on their way, and of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) for
    /// more than 253 of them: then nothing was sent, and the sender may be used further.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing of the message.
    pub async fn send(&mut self, message: impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        poll_fn(|cx| {
            let sent = self.outbox.poll_send(cx, &message);
            self.discard_while(cx, sent)
        })
        .await
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
        poll_fn(|cx| {
            let sent = self.outbox.poll_pending(cx);
            self.discard_while(cx, sent)
        })
        .await
    }

    /// Sends what the sink has kept, and ends this direction: the peer gets everything, then
    /// `None`. The receiver goes on.
    ///
    /// A sender [alone](super::Connection::into_sender), beside which nobody receives, first waits
    /// until the peer's process has read everything. What the peer does with it afterwards, only an
    /// answer can tell. A peer that neither reads nor goes away keeps such a sender waiting: bound
    /// that by a timeout. Where the receiver is there as well, it does not wait, since the peer may
    /// wait for its answers to be received.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). Of a sender alone, with
    /// [`is_peer_crashed`](Error::is_peer_crashed) (`ECONNRESET`) if the peer went away before it had read
    /// everything: because its process died, because it closed the connection, or because it has
    /// never accepted it. Where the receiver is there as well, it gets that error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| {
            let closed = self.outbox.poll_close(cx, self.discard.is_some());
            self.discard_while(cx, closed)
        })
        .await
    }

    pub(super) fn keep_open(&mut self) {
        self.keep_open = true;
    }

    pub(super) fn discard(&mut self, receiver: Receiver) {
        self.discard = Some(receiver);
    }

    /// Takes what the peer sends, where nobody else does: it might wait for that.
    fn discard_while<T>(&mut self, cx: &mut Context<'_>, sent: Poll<T>) -> Poll<T> {
        if sent.is_pending()
            && let Some(receiver) = &mut self.discard
        {
            receiver.discard(cx);
        }
        sent
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves the connection to its parent.
        if !self.outbox.link.is_here() {
            return;
        }
        self.outbox.send_now();
        if self.keep_open {
            return;
        }
        self.outbox.end_now();
        if let Some(receiver) = &mut self.discard {
            // Unread, it would make the peer believe that we died.
            receiver.discard_now();
        }
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        sender.outbox.check_open()?;
        let sent = sender.outbox.poll_pending(cx);
        sender.discard_while(cx, sent)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.get_mut().outbox.start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        let sent = sender.outbox.poll_pending(cx);
        sender.discard_while(cx, sent)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        let closed = sender.outbox.poll_close(cx, sender.discard.is_some());
        sender.discard_while(cx, closed)
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
