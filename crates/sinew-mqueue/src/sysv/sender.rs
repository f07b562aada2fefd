use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use sinew_core::{AdaptiveSpin, Error, ErrorKind, Looks, MessageSink, TrySendError};
use tokio::task::coop;

use super::attributes::Attributes;
use super::message::Message;
use super::queue::{Opened, is_removed};
use super::room::Room;
use crate::{sys, sysctl};

/// The half of a [`Queue`](super::Queue) that sends: a `Sink` of [`Message`]s.
///
/// A message that was sent is in the kernel and outlives this process. A clone sends to the same queue.
///
/// # Back-pressure
///
/// A queue holds `msg_qbytes` bytes of payloads, 16,384 unless it was changed. When there is no room,
/// `send` waits and `try_send` hands the message back. The kernel can wait for room only by sending, which
/// could not be cancelled; so it is looked for, by a helper thread of the process: after 50 µs, then ever
/// less often, every 10 ms at least. The thread ends a second after the last use.
///
/// The sink keeps one message for which there was no room.
pub struct Sender {
    opened: Arc<Opened>,
    kind: i64,
    scratch: Vec<u8>,
    spin: AdaptiveSpin,
    room: Room,
    pending: Option<Message>,
    closed: bool,
}

impl Sender {
    pub(super) fn new(opened: Arc<Opened>, kind: i64) -> Self {
        Self {
            opened,
            kind,
            scratch: Vec::new(),
            spin: AdaptiveSpin::adaptive(),
            room: Room::new(),
            pending: None,
            closed: false,
        }
    }

    /// Sends a message, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// Of kind [`LimitExceeded`](ErrorKind::LimitExceeded) for a message that is longer than
    /// `kernel.msgmax` or than the whole queue, [`InvalidInput`](ErrorKind::InvalidInput) for one whose
    /// type is not positive; the next may be sent after these. Of kind [`Closed`](ErrorKind::Closed) once
    /// the queue was removed, `EACCES` without permission to write.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing. What the sink had kept is sent first,
    /// and stays with the sink until it is.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let kind = message.kind().unwrap_or(self.kind);
        self.send_slice(message.payload(), kind).await
    }

    /// Sends a message from a buffer of the caller's, which may be used again.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub async fn send_slice(&mut self, payload: &[u8], kind: i64) -> Result<(), Error> {
        let waiting = Waiting(self);
        let done = poll_fn(|cx| {
            ready!(waiting.0.poll_pending(cx))?;
            waiting.0.poll_send(cx, kind, payload)
        });
        done.await
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The
    /// message is handed back.
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), TrySendError<Message>> {
        let message = message.into();
        match self.try_pending() {
            Ok(true) => {}
            Ok(false) => return Err(TrySendError::Full(message)),
            Err(error) => return Err(TrySendError::failed(message, error)),
        }
        let kind = message.kind().unwrap_or(self.kind);
        match self.attempt(kind, message.payload()) {
            Ok(true) => Ok(()),
            Ok(false) => match self.check_fits(message.payload().len()) {
                Ok(()) => Err(TrySendError::Full(message)),
                Err(error) => Err(TrySendError::failed(message, error)),
            },
            Err(error) => Err(TrySendError::failed(message, error)),
        }
    }

    /// Sends what the sink still has, and closes this half: later sends fail. The queue stays, and who
    /// receives from it is not told, because the kernel has no such notion.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), if the sink still had something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_finish(cx)).await
    }

    /// The kernel's id of the queue.
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// What is in the queue, who used it last, its owner and mode.
    ///
    /// # Errors
    ///
    /// `EACCES` without permission to read, and of kind [`Closed`](ErrorKind::Closed) once the queue was
    /// removed.
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened.attributes()
    }

    pub(super) fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        kind: i64,
        payload: &[u8],
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            if self.attempt(kind, payload)? {
                turn.made_progress();
                self.spin.succeed();
                self.room.withdraw();
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.spin.poll_again(cx, Looks::SEND)) {
                break;
            }
        }
        self.check_fits(payload.len())?;
        match self.room.wait(self.opened.id, payload.len(), cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(self.opened.no_helper("send", error))),
        }
    }

    /// Sends if there is room, and says whether it has.
    fn attempt(&mut self, kind: i64, payload: &[u8]) -> Result<bool, Error> {
        if self.closed {
            return Err(self.opened.named(
                Error::new(ErrorKind::Closed, "send").with_reason("this sender was closed"),
            ));
        }
        check(kind).map_err(|error| self.opened.named(error))?;
        let sent = sys::tag(kind)
            .and_then(|tag| sys::send(self.opened.id, tag, payload, &mut self.scratch));
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.refused(error, payload.len())),
        }
    }

    /// A message that is longer than the whole queue would wait for ever.
    fn check_fits(&self, len: usize) -> Result<(), Error> {
        let Ok(status) = sys::status(self.opened.id) else {
            // Removed, which the next attempt will say, or nobody may tell us.
            return Ok(());
        };
        if len as u64 <= status.msg_qbytes {
            return Ok(());
        }
        Err(self.opened.named(
            Error::new(ErrorKind::LimitExceeded, "msgsnd")
                .with_detail(format!("{len} bytes"))
                .with_reason(format!(
                    "the queue holds {} bytes (msg_qbytes) in all",
                    status.msg_qbytes
                ))
                .with_remedy("send it in parts, or raise the queue's limit (set_max_bytes, up to kernel.msgmnb)"),
        ))
    }

    /// `EINVAL` is for a queue that was removed and for a message that is too long.
    fn refused(&self, error: io::Error, len: usize) -> Error {
        if is_removed(&error) && self.opened.exists() {
            return self.opened.named(
                Error::from_io("msgsnd", error)
                    .with_kind(ErrorKind::LimitExceeded)
                    .with_detail(format!("{len} bytes"))
                    .with_reason(sysctl::shown("kernel.msgmax"))
                    .with_remedy("send it in parts, or raise the sysctl"),
            );
        }
        self.opened.error("msgsnd", error)
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(message) = self.pending.take() else {
            return Poll::Ready(Ok(()));
        };
        let kind = message.kind().unwrap_or(self.kind);
        let polled = self.poll_send(cx, kind, message.payload());
        if polled.is_pending() {
            self.pending = Some(message);
        }
        polled
    }

    /// Sends what the sink has kept, if there is room, and says whether nothing is left.
    fn try_pending(&mut self) -> Result<bool, Error> {
        let Some(message) = self.pending.take() else {
            return Ok(true);
        };
        let kind = message.kind().unwrap_or(self.kind);
        let sent = self.attempt(kind, message.payload())?;
        if !sent {
            self.pending = Some(message);
        }
        Ok(sent)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pending(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Whether a message can have this type.
pub(super) fn check(kind: i64) -> Result<(), Error> {
    if kind > 0 && sys::tag(kind).is_ok() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "msgsnd")
        .with_detail(format!("type {kind}"))
        .with_reason("a message's type must be positive, and fit in a long")
        .with_remedy("use 1 where types do not matter"))
}

/// Ends the wait of a future that is dropped.
struct Waiting<'a>(&'a mut Sender);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.room.withdraw();
        self.0.spin.reset();
    }
}

impl Clone for Sender {
    /// A sender on the same queue, without what the sink of this one keeps.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.opened), self.kind)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // One try for what the sink took: dropping cannot wait.
        // What a child that was forked has is its parent's to send.
        if self.opened.is_here() && !matches!(self.try_pending(), Ok(true)) {
            tracing::warn!(queue = ?self.opened, "a message was dropped with its sink, which was not flushed");
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queue", &self.opened)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        if sender.pending.is_none() {
            // What `start_send` sends at once takes part in the task's budget here.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        sender.poll_pending(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let sender = self.get_mut();
        let kind = message.kind().unwrap_or(sender.kind);
        if !sender.try_pending()? {
            return Err(sender.opened.named(
                Error::new(ErrorKind::InvalidInput, "start_send")
                    .with_reason("the sink was not ready")
                    .with_remedy("await poll_ready first"),
            ));
        }
        if !sender.attempt(kind, message.payload())? {
            sender.check_fits(message.payload().len())?;
            sender.pending = Some(message);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_finish(cx)
    }
}

impl MessageSink for Sender {
    type Native = Message;
}
