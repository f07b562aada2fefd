use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Credentials, Error, MessageSink, TryRecvError, TrySendError, UnixEndpoint};

use super::{Options, Receiver, Sender};
use crate::link::Link;
use crate::unix::Message;
use crate::unix::packet::{self, Inbox, Outbox};
use crate::{Outgoing, sys};

/// An end of a connection, both a `Stream` and a `Sink` of [`Message`]s.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_socket::unix::seqpacket;
///
/// let (mut left, mut right) = seqpacket::pair()?;
/// let sending = async {
///     left.send("").await?;
///     left.close().await
/// };
/// let receiving = async {
///     assert!(right.recv().await?.is_some_and(|message| message.payload().is_empty()));
///     assert!(right.recv().await?.is_none());
///     Ok(())
/// };
/// tokio::try_join!(sending, receiving)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
    peer: Credentials,
}

/// Connects with the [default options](Options).
///
/// # Errors
///
/// As for [`Options::connect`].
///
/// # Cancel safety
///
/// As for [`Options::connect`].
pub async fn connect(endpoint: impl Into<UnixEndpoint>) -> Result<Connection, Error> {
    Options::new().connect(endpoint).await
}

/// Two ends that are connected to each other, with the [default options](Options).
///
/// # Errors
///
/// As for [`Options::pair`].
pub fn pair() -> Result<(Connection, Connection), Error> {
    Options::new().pair()
}

impl Connection {
    pub(super) fn new(
        socket: OwnedFd,
        address: Arc<str>,
        options: &Options,
    ) -> Result<Self, Error> {
        let peer = packet::peer(&socket).map_err(|error| error.with_address(&address))?;
        let link = Link::new(socket, address)?;
        Ok(Self {
            sender: Sender::new(Outbox::new(link.clone())),
            receiver: Receiver::new(Inbox::new(link, options.intake)),
            peer,
        })
    }

    /// Sends a message: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Sender::send`].
    pub async fn send(&mut self, message: impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Receives a message: see [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv().await
    }

    /// Sends a message if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`].
    pub fn try_send<M: Outgoing<UnixEndpoint>>(
        &mut self,
        message: M,
    ) -> Result<(), TrySendError<M>> {
        self.sender.try_send(message)
    }

    /// Receives a message if one is there: see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Ends the sending direction: see [`Sender::close`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Sender::close`].
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// Who is at the other end, as the kernel vouched for when it connected or began to listen.
    pub fn peer(&self) -> Credentials {
        self.peer
    }

    /// A handle of the process at the other end, which does not change its meaning when the process
    /// number is used again.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` before Linux 6.5; `ESRCH` or `EINVAL` if that process has ended.
    pub fn peer_pidfd(&self) -> Result<OwnedFd, Error> {
        let error = |error| Error::from_io("getsockopt(SO_PEERPIDFD)", error);
        sys::peer_pidfd(self.as_fd()).map_err(error)
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Splits into halves, for different tasks. Dropping one ends its direction.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sender alone. The other direction stays open, so that the peer does not fail; what comes is
    /// dropped while the sender waits, and when it closes.
    pub fn into_sender(mut self) -> Sender {
        self.receiver.keep_open();
        self.sender.discard(self.receiver);
        self.sender
    }

    /// The receiver alone. The other direction ends with it, not before. What the sink has kept is sent
    /// if there is room now: call [`Sender::flush`] first to be sure.
    pub fn into_receiver(mut self) -> Receiver {
        self.sender.keep_open();
        self.receiver
    }
}

impl Stream for Connection {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl Sink<Message> for Connection {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.get_mut().sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_close(cx)
    }
}

impl MessageSink for Connection {
    type Native = Message;
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}
