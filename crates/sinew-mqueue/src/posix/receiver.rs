use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sinew_core::{AdaptiveSpin, AsyncIo, Error, TryRecvError, put_chunks};
use tokio::io::Interest;

use super::attributes::Attributes;
use super::message::Message;
use super::queue::Opened;
use crate::payload::Buffer;
use crate::sys::Descriptor;

/// The half of a [`Queue`](super::Queue) that receives: a `Stream` of [`Message`]s, the highest priority
/// first, and first in first out within a priority.
///
/// Several receivers, in any processes, may share a queue; each message goes to one of them. A process that
/// waits *in* mq_receive(3) gets a message before one that waits in epoll, as this does.
///
/// One that finds nothing tries again for up to 100 µs, as long as that has lately paid off; then it sleeps.
///
/// # Memory
///
/// Payloads from 1 KiB on are not copied: they share the memory into which the kernel has written them, of two
/// messages of full length, and it is used again once they are dropped. What is kept keeps at most eight
/// times its length; to keep many for long, copy them.
///
/// # Its end
///
/// There is none: a queue does not know whether somebody will send, and an unlinked one lives on with those
/// who have it open. Agree on a message that means the end.
pub struct Receiver {
    opened: Arc<Opened>,
    descriptor: AsyncIo<Descriptor>,
    spin: AdaptiveSpin,
    buffer: Buffer,
    /// The stream has yielded an error, and is over.
    fused: bool,
}

impl Receiver {
    pub(super) fn new(opened: Arc<Opened>, descriptor: Descriptor) -> Result<Self, Error> {
        let descriptor = AsyncIo::with_interest(descriptor, Interest::READABLE)
            .map_err(|error| opened.named(error))?;
        Ok(Self {
            opened,
            descriptor,
            spin: AdaptiveSpin::adaptive(),
            buffer: Buffer::default(),
            fused: false,
        })
    }

    /// Receives the next message. It is never `None`, which is there for the sake of mechanisms that end.
    ///
    /// # Errors
    ///
    /// Those of mq_receive(3), and one without an errno if the runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_recv(cx)).await.map(Some)
    }

    /// Receives the next message by appending its payload to `buffer`, which saves the allocation. Returns
    /// its priority; never `None`, as with [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u32>, Error> {
        let waiting = Waiting(self);
        let priority = poll_fn(|cx| waiting.0.poll_found(cx)).await?;
        put_chunks(buffer, waiting.0.buffer.bytes());
        Ok(Some(priority))
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        match self.attempt()? {
            Some(priority) => Ok(self.take(priority)),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Waits until there is a message, without receiving it. Another receiver may be faster. This does what
    /// mq_notify(3) is for, without its limit of one process for each queue.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn readable(&self) -> Result<(), Error> {
        let ready =
            self.descriptor
                .read_with(|queue| match queue.0.attributes()?.current_messages {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                });
        ready
            .await
            .map_err(|error| self.opened.error("readable", error))
    }

    /// Another receiver on the same queue.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` where there are too many descriptors.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let clone = self.descriptor.get_ref().try_clone();
        let descriptor = clone.map_err(|error| self.opened.error("dup", error))?;
        Self::new(Arc::clone(&self.opened), descriptor)
    }

    /// The sizes of the queue, and how many messages are in it now.
    ///
    /// # Errors
    ///
    /// Those of mq_getattr(3).
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened.attributes(self.descriptor.get_ref())
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let priority = ready!(self.poll_found(cx))?;
        Poll::Ready(Ok(self.take(priority)))
    }

    /// Ready with its priority once there is a message in the buffer.
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32, Error>> {
        let Self {
            opened,
            descriptor,
            spin,
            buffer,
            ..
        } = self;
        let longest = opened.message_size;
        let receive = |queue: &Descriptor| Ok((queue.receive(buffer, longest)?, false));
        let found = ready!(descriptor.poll_read_spinning(cx, spin, receive));
        Poll::Ready(found.map_err(|error| opened.error("mq_receive", error)))
    }

    /// Receives into the buffer if a message is there.
    fn attempt(&mut self) -> Result<Option<u32>, Error> {
        let Self {
            opened,
            descriptor,
            buffer,
            ..
        } = self;
        let longest = opened.message_size;
        match descriptor.try_read_with(|queue| queue.receive(buffer, longest)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.opened.error("mq_receive", error)),
        }
    }

    fn take(&mut self, priority: u32) -> Message {
        Message::new(self.buffer.take(0)).with_priority(priority)
    }
}

/// Forgets the tries of a future that is dropped.
struct Waiting<'a>(&'a mut Receiver);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.spin.reset();
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queue", &self.opened)
            .finish_non_exhaustive()
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.fused {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx));
        receiver.fused = item.is_err();
        Poll::Ready(Some(item))
    }
}
