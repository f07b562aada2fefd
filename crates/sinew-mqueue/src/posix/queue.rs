use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Error, Home, MessageSink, TryRecvError, TrySendError};

use super::attributes::Attributes;
use super::message::Message;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::sys::Descriptor;

/// Both directions of a POSIX queue.
///
/// Sending and receiving are as with the halves, [`Sender`] and [`Receiver`], into which it
/// [splits](Self::split). Note that a queue has no directions of its own: what is sent here can be received
/// here, too.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_mqueue::posix::{Message, Options};
///
/// # let name = format!("/sinew-doc-queue-{}", std::process::id());
/// let mut queue = Options::new().create(true).unlink_on_drop(true).open(&name)?;
/// queue.send("sweep").await?;
/// queue.send(Message::from("fire").with_priority(9)).await?;
///
/// // The highest priority first.
/// let first = queue.recv().await?;
/// assert_eq!(first, Some(Message::from("fire").with_priority(9)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Queue {
    sender: Sender,
    receiver: Receiver,
}

/// What the halves of an open share.
pub(super) struct Opened {
    name: Vec<u8>,
    shown: String,
    /// Whether dropping removes the name.
    unlink: AtomicBool,
    /// The process that has opened it.
    home: Home,
    pub(super) max_messages: usize,
    pub(super) message_size: usize,
}

impl Opened {
    pub(super) fn new(name: &[u8], shown: String, unlink: bool) -> Self {
        Self {
            name: name.to_vec(),
            shown,
            unlink: AtomicBool::new(unlink),
            home: Home::here(),
            max_messages: 0,
            message_size: 0,
        }
    }

    /// Asks for the sizes, which never change.
    pub(super) fn learn(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        let attributes = self.attributes(descriptor)?;
        self.max_messages = attributes.max_messages;
        self.message_size = attributes.message_size;
        Ok(())
    }

    /// Whether this is the process that has opened it, and not a child that was forked since.
    pub(super) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    /// Leaves the name in place on drop.
    pub(super) fn keep(&self) {
        self.unlink.store(false, Ordering::Relaxed);
    }

    pub(super) fn attributes(&self, descriptor: &Descriptor) -> Result<Attributes, Error> {
        let found = descriptor
            .0
            .attributes()
            .map_err(|error| self.error("mq_getattr", error))?;
        Ok(Attributes {
            max_messages: found.capacity,
            message_size: found.max_msg_len,
            messages: found.current_messages,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.shown
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.with_address(&self.shown)
    }

    pub(super) fn error(&self, operation: &'static str, error: io::Error) -> Error {
        self.named(Error::from_io(operation, error))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if *self.unlink.get_mut()
            && self.is_here()
            && let Err(error) = posixmq::remove_queue(&self.name)
            && !super::name::is_gone(&error)
        {
            tracing::warn!(queue = self.shown, %error, "cannot unlink the queue");
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.shown)
            .field("max_messages", &self.max_messages)
            .field("message_size", &self.message_size)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver }
    }

    /// Sends a message, waiting for room where there is none: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Sends a message if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`].
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), TrySendError<Message>> {
        self.sender.try_send(message)
    }

    /// Receives the next message: see [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv().await
    }

    /// Receives a message if one is there: see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Sends what the sink still has, and closes the sending half: see [`Sender::close`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// The halves, for different tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sizes of the queue, and how many messages are in it now.
    ///
    /// # Errors
    ///
    /// Those of mq_getattr(3).
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.sender.attributes()
    }

    /// The sending half.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The receiving half.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Stream for Queue {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl Sink<Message> for Queue {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}

impl MessageSink for Queue {
    type Native = Message;
}
