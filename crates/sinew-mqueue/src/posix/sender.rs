use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use sinew_core::{AdaptiveSpin, AsyncIo, Error, ErrorKind, Looks, MessageSink, TrySendError};
use tokio::io::Interest;
use tokio::task::coop;

use super::attributes::Attributes;
use super::message::Message;
use super::queue::Opened;
use super::refusal;
use crate::sys::Descriptor;

/// Sends without having found the queue full, after which the descriptor leaves epoll.
const CALM: u32 = 256;

/// The half of a [`Queue`](super::Queue) that sends: a `Sink` of [`Message`]s.
///
/// A message that was sent is in the kernel and outlives this process.
///
/// # Back-pressure
///
/// A queue holds [`max_messages`](Attributes::max_messages). When it is full, `send` waits and `try_send`
/// hands the message back. The sink keeps one message for which there was no room.
///
/// A sender that finds no room tries again for up to 100 µs, as long as that has lately paid off.
/// The descriptor is in epoll only while the queue is full now and then: every message that one sends is an
/// event for whoever polls the queue. So it needs a Tokio runtime only then.
pub struct Sender {
    opened: Arc<Opened>,
    descriptor: Arc<Descriptor>,
    waiting: Option<AsyncIo<Arc<Descriptor>>>,
    calm: u32,
    spin: AdaptiveSpin,
    priority: u32,
    pending: Option<Message>,
    closed: bool,
}

impl Sender {
    pub(super) fn new(opened: Arc<Opened>, descriptor: Descriptor, priority: u32) -> Self {
        Self {
            opened,
            descriptor: Arc::new(descriptor),
            waiting: None,
            calm: 0,
            spin: AdaptiveSpin::adaptive(),
            priority,
            pending: None,
            closed: false,
        }
    }

    /// Sends a message, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` for a message that is longer than the queue's
    /// [`message_size`](Attributes::message_size), and of kind [`InvalidInput`](ErrorKind::InvalidInput) for
    /// a priority above 32,767; the next may be sent after these.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing. What the sink had kept is sent first,
    /// and stays with the sink until it is.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let priority = message.priority().unwrap_or(self.priority);
        self.send_slice(message.payload(), priority).await
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
    pub async fn send_slice(&mut self, payload: &[u8], priority: u32) -> Result<(), Error> {
        let waiting = Waiting(self);
        let done = poll_fn(|cx| {
            ready!(waiting.0.poll_pending(cx))?;
            waiting.0.poll_send(cx, priority, payload)
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
        let priority = message.priority().unwrap_or(self.priority);
        match self.attempt(priority, message.payload()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(message)),
            Err(error) => Err(TrySendError::failed(message, error)),
        }
    }

    /// Waits until there is room, without sending. Another sender may be faster.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2), when the descriptor is registered.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn writable(&mut self) -> Result<(), Error> {
        let opened = Arc::clone(&self.opened);
        self.calm = 0;
        let ready = self.waiting()?.write_with(|queue| {
            let now = queue.0.attributes()?;
            match now.current_messages < now.capacity {
                true => Ok(()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        ready.await.map_err(|error| opened.error("writable", error))
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

    /// Another sender on the same queue, without what the sink of this one keeps.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` where there are too many descriptors.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let descriptor = self
            .descriptor
            .try_clone()
            .map_err(|error| self.opened.error("dup", error))?;
        Ok(Self::new(
            Arc::clone(&self.opened),
            descriptor,
            self.priority,
        ))
    }

    /// The sizes of the queue, and how many messages are in it now.
    ///
    /// # Errors
    ///
    /// Those of mq_getattr(3).
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened.attributes(&self.descriptor)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        priority: u32,
        payload: &[u8],
    ) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            if self.attempt(priority, payload)? {
                turn.made_progress();
                self.spin.succeed();
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.spin.poll_again(cx, Looks::SEND)) {
                break;
            }
        }
        self.calm = 0;
        let sent = ready!(
            self.waiting()?
                .poll_write_with(cx, |queue| queue.0.send(priority, payload))
        );
        // The wait is over; the next one may look again.
        self.spin.succeed();
        Poll::Ready(sent.map_err(|error| self.refused(error, priority, payload.len())))
    }

    /// Sends if there is room, and says whether it has.
    fn attempt(&mut self, priority: u32, payload: &[u8]) -> Result<bool, Error> {
        self.check_open()?;
        let sent = match &self.waiting {
            Some(waiting) => waiting.try_write_with(|queue| queue.0.send(priority, payload)),
            None => self.descriptor.0.send(priority, payload),
        };
        match sent {
            Ok(()) => {
                if self.waiting.is_some() {
                    self.calm += 1;
                    if self.calm > CALM {
                        self.waiting = None;
                    }
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.refused(error, priority, payload.len())),
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if !self.closed {
            return Ok(());
        }
        let closed = Error::new(ErrorKind::Closed, "send");
        Err(self
            .opened
            .named(closed.with_reason("this sender was closed")))
    }

    fn refused(&self, error: io::Error, priority: u32, len: usize) -> Error {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => {
                refusal::too_long(self.opened.name(), len, self.opened.message_size)
            }
            _ if priority > super::MAX_PRIORITY => refusal::priority(self.opened.name(), priority),
            _ => self.opened.error("mq_send", error),
        }
    }

    fn waiting(&mut self) -> Result<&AsyncIo<Arc<Descriptor>>, Error> {
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => AsyncIo::with_interest(Arc::clone(&self.descriptor), Interest::WRITABLE)
                .map_err(|error| self.opened.named(error))?,
        };
        Ok(self.waiting.insert(waiting))
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(message) = self.pending.take() else {
            return Poll::Ready(Ok(()));
        };
        let priority = message.priority().unwrap_or(self.priority);
        let polled = self.poll_send(cx, priority, message.payload());
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
        let priority = message.priority().unwrap_or(self.priority);
        let sent = self.attempt(priority, message.payload())?;
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

/// Forgets the tries of a future that is dropped.
struct Waiting<'a>(&'a mut Sender);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.spin.reset();
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

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queue", &self.opened)
            .field("priority", &self.priority)
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
        if !sender.try_pending()? {
            return Err(sender.opened.named(
                Error::new(ErrorKind::InvalidInput, "start_send")
                    .with_reason("the sink was not ready")
                    .with_remedy("await poll_ready first"),
            ));
        }
        let priority = message.priority().unwrap_or(sender.priority);
        if !sender.attempt(priority, message.payload())? {
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
