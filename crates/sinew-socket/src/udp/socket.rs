use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Error, MessageSink, TryRecvError, TrySendError};
use socket2::SockRef;

use super::{Interface, Message, Options, Receiver, Sender};
use crate::Outgoing;
use crate::link::Link;

/// A UDP socket, both a `Stream` and a `Sink` of [`Message`]s.
///
/// # What ICMP tells
///
/// If a socket is connected, and the other host says that nobody has that port, or that there is no way
/// to it, this is an error of the next `recv` or `send` that [`is_recoverable`](Error::is_recoverable):
/// something that was sent before is lost, and the socket goes on. A socket that is not connected is not
/// told.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_socket::udp::{Message, Socket};
///
/// let mut server = Socket::bind("127.0.0.1:0").await?;
/// let mut client = Socket::connect(server.local_addr()).await?;
/// client.send("ping").await?;
///
/// let message = server.recv().await?;
/// if let Some(address) = message.address() {
///     server.send(Message::new("pong").with_address(address)).await?;
/// }
/// assert_eq!(client.recv().await?.payload(), "pong");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socket {
    sender: Sender,
    receiver: Receiver,
    local: SocketAddr,
}

impl Socket {
    pub(super) fn new(
        socket: OwnedFd,
        address: impl Into<Arc<str>>,
        options: &Options,
    ) -> Result<Self, Error> {
        let address = address.into();
        let local = crate::inet_addr(rustix::net::getsockname(&socket).map(Some), "getsockname")?
            .ok_or_else(|| crate::no_address(&address, "getsockname"))?;
        let is_connected = rustix::net::getpeername(&socket).is_ok();
        let link = Link::new(socket, address)?;
        Ok(Self {
            sender: Sender::new(link.clone()),
            receiver: Receiver::new(link, options.max_message, is_connected),
            local,
        })
    }

    /// A socket at an address of this machine, with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::bind`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::bind`].
    pub async fn bind(address: impl Display) -> Result<Self, Error> {
        Options::new().bind(address).await
    }

    /// A socket that sends to one address, with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::connect`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::connect`].
    pub async fn connect(address: impl Display) -> Result<Self, Error> {
        Options::new().connect(address).await
    }

    /// Sends a datagram: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Sender::send`].
    pub async fn send(&mut self, message: impl Outgoing<SocketAddr>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Receives a datagram: see [`Receiver::recv`].
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

    /// Sends a datagram if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`].
    pub fn try_send<M: Outgoing<SocketAddr>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        self.sender.try_send(message)
    }

    /// Receives a datagram if one is there: see [`Receiver::try_recv`].
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

    /// The address and port of this socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Connects a socket that is bound: it sends to this address, and receives from it alone. What came
    /// from others before is still received.
    ///
    /// # Errors
    ///
    /// As for [`Options::connect`].
    pub fn set_peer(&mut self, address: SocketAddr) -> Result<(), Error> {
        rustix::net::connect(self.as_fd(), &address).map_err(|errno| {
            Error::from_raw_os_error("connect", errno.raw_os_error()).with_address(address)
        })?;
        self.receiver.connected();
        Ok(())
    }

    /// Joins a multicast group, on an interface.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if it is a member already, `ENODEV` if no interface leads there, `ENOBUFS` at
    /// net.ipv4.igmp_max_memberships; of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) if
    /// it is no group.
    pub fn join(&self, group: IpAddr, interface: &Interface) -> Result<(), Error> {
        interface.join(&SockRef::from(self), group)
    }

    /// Leaves a multicast group, on an interface.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if it was not a member.
    pub fn leave(&self, group: IpAddr, interface: &Interface) -> Result<(), Error> {
        interface.leave(&SockRef::from(self), group)
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Splits into halves, for different tasks.
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
