//! Both halves of an end.

use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Credentials, Error, MessageSink, TryRecvError, TrySendError};

use crate::byte_stream::ByteStream;
use crate::handshake::{self, Outcome};
use crate::link::Link;
use crate::options::Options;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sys;

/// One end of a shared-memory channel between two processes, in both directions.
///
/// It is a `Stream` and a `Sink` of [`Bytes`]; [`split`](Self::split) gives the halves, which may live
/// in different tasks and threads.
///
/// # Runtime
///
/// A channel registers with the Tokio runtime in which it first has to wait, and stays with it. The
/// `blocking_` methods and `try_` ones need none.
///
/// # Fork
///
/// A channel belongs to the process that made it. Do not use it in a child forked without exec.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (mut left, mut right) = sinew_shm::pair()?;
/// left.send("ping").await?;
/// assert_eq!(right.recv().await?.as_deref(), Some(&b"ping"[..]));
/// right.send("pong").await?;
/// assert_eq!(left.recv().await?.as_deref(), Some(&b"pong"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

/// Two ends of a channel within this process, with the [default options](Options).
///
/// # Errors
///
/// `EMFILE`/`ENFILE` at the limit of open files (a pair takes six descriptors), `ENOMEM` without
/// memory.
pub fn pair() -> Result<(Channel, Channel), Error> {
    Options::new().pair()
}

impl Channel {
    pub(crate) fn new(outcome: Outcome, options: &Options) -> Result<Self, Error> {
        let link = Link::new(outcome.parts);
        let (producer, consumer) = sys::halves(&link);
        let receiver = Receiver::new(link.clone(), consumer, options);
        let sender = Sender::new(link, producer, options, outcome.their_max_message)?;
        Ok(Self { sender, receiver })
    }

    /// Puts the halves of one end together again.
    pub(crate) fn join(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver }
    }

    /// The halves, which share the connection: it ends for the peer when both are dropped.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sender alone. The other direction is closed: a peer that sends is told so.
    pub fn into_sender(self) -> Sender {
        self.sender
    }

    /// The receiver alone. The other direction is closed: a peer that receives gets `None`.
    pub fn into_receiver(mut self) -> Receiver {
        self.sender.close_unused();
        self.receiver
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Both halves, borrowed.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Sends a message: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: see [`Sender::send`].
    pub async fn send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.sender.send(payload).await
    }

    /// Receives a message: see [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// See [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: see [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.receiver.recv().await
    }

    /// Sends a message if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`Sender::try_send`].
    pub fn try_send<T: AsRef<[u8]>>(&mut self, payload: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(payload)
    }

    /// Receives a message if one is there: see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// See [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Sender::blocking_send`].
    ///
    /// # Errors
    ///
    /// See [`Sender::blocking_send`].
    pub fn blocking_send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.sender.blocking_send(payload)
    }

    /// As [`Receiver::blocking_recv`].
    ///
    /// # Errors
    ///
    /// See [`Receiver::blocking_recv`].
    pub fn blocking_recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.receiver.blocking_recv()
    }

    /// Closes the sending direction: see [`Sender::close`]. The peer may still send.
    ///
    /// # Errors
    ///
    /// See [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: see [`Sender::close`].
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// As [`Sender::blocking_close`].
    ///
    /// # Errors
    ///
    /// See [`Sender::blocking_close`].
    pub fn blocking_close(&mut self) -> Result<(), Error> {
        self.sender.blocking_close()
    }

    /// The same connection as a stream of bytes without boundaries;
    /// [`ByteStream::into_channel`] turns it back.
    pub fn into_byte_stream(self) -> ByteStream {
        ByteStream::new(self)
    }

    /// Who is at the other end, as the kernel vouched for when it connected.
    pub fn peer(&self) -> Credentials {
        self.sender.peer()
    }
}

impl Options {
    /// Two ends of a channel within this process.
    ///
    /// # Errors
    ///
    /// As for [`pair`](crate::pair()), and of kind `InvalidInput` for impossible options.
    pub fn pair(&self) -> Result<(Channel, Channel), Error> {
        let [left, right] = handshake::pair(self)?;
        Ok((Channel::new(left, self)?, Channel::new(right, self)?))
    }
}

impl AsFd for Channel {
    /// The channel's socket, which becomes readable when the peer ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}

impl Stream for Channel {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl Sink<Bytes> for Channel {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        Pin::new(&mut self.get_mut().sender).start_send(payload)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_close(cx)
    }
}

impl MessageSink for Channel {
    type Native = Bytes;
}
