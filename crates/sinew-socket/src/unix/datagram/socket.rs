use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use rustix::net::SocketAddrUnix;
use sinew_core::{BoundPath, Error, MessageSink, TryRecvError, TrySendError, UnixEndpoint};

use super::{Options, Receiver, Sender};
use crate::Outgoing;
use crate::failure;
use crate::link::Link;
use crate::unix::packet::{Inbox, Outbox};
use crate::unix::{Message, endpoint_of};

/// A datagram socket, both a `Stream` and a `Sink` of [`Message`]s.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let (one, other) = (dir.path().join("one"), dir.path().join("other"));
/// use sinew_socket::unix::{Message, datagram::Socket};
///
/// let mut server = Socket::bind(&one).await?;
/// let mut client = Socket::bind(&other).await?;
/// client.send(Message::new("ping").with_address(&one)).await?;
///
/// let message = server.recv().await?;
/// if let Some(address) = message.address() {
///     server.send(Message::new("pong").with_address(address.clone())).await?;
/// }
/// assert_eq!(client.recv().await?.payload(), "pong");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socket {
    sender: Sender,
    receiver: Receiver,
}

/// Two sockets that are connected to each other, with the [default options](Options).
///
/// # Errors
///
/// As for [`Options::pair`].
pub fn pair() -> Result<(Socket, Socket), Error> {
    Options::new().pair()
}

impl Socket {
    pub(super) fn new(
        socket: OwnedFd,
        path: Option<BoundPath>,
        address: impl Into<Arc<str>>,
        options: &Options,
    ) -> Result<Self, Error> {
        let link = Link::new(socket, address)?;
        let path = path.map(Arc::new);
        Ok(Self {
            sender: Sender::new(path.clone(), Outbox::new(link.clone())),
            receiver: Receiver::new(path, Inbox::new(link, options.intake)),
        })
    }

    /// A socket at a path or a name, with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::bind`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::bind`].
    pub async fn bind(endpoint: impl Into<UnixEndpoint>) -> Result<Self, Error> {
        Options::new().bind(endpoint).await
    }

    /// A socket that sends to another, with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::connect`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::connect`].
    pub async fn connect(endpoint: impl Into<UnixEndpoint>) -> Result<Self, Error> {
        Options::new().connect(endpoint).await
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
    pub async fn recv(&mut self) -> Result<Message, Error> {
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

    /// Sends what the sink has kept, and stops sending: see [`Sender::close`].
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

    /// Connects a socket that is bound: it sends to this address, and receives from it alone. What came
    /// from others before is still received.
    ///
    /// # Errors
    ///
    /// As for [`Options::connect`].
    pub fn set_peer(&mut self, endpoint: &UnixEndpoint) -> Result<(), Error> {
        let addr = endpoint.to_socket_addr("connect")?;
        rustix::net::connect(self.as_fd(), &addr)
            .map_err(|errno| failure::of_connect(failure::system("connect", errno, endpoint)))
    }

    /// Where it is bound; `None` if it is not.
    pub fn local_endpoint(&self) -> Option<UnixEndpoint> {
        let address = rustix::net::getsockname(self.as_fd()).ok()?;
        endpoint_of(&SocketAddrUnix::try_from(address).ok()?)
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Splits into halves, for different tasks. The path is removed with the second of them.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Stream for Socket {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl Sink<Message> for Socket {
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

impl MessageSink for Socket {
    type Native = Message;
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}
