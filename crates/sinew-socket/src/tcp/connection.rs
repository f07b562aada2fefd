use std::fmt::Display;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{
    AdaptiveSpin, Error, FrameCodec, FrameEncoder, MessageSink, TryRecvError, TrySendError,
};

use super::io::ReadIo;
use super::{ByteStream, Options, Receiver, Sender};
use crate::link::{Link, WriteIo};

/// An end of a connection, both a `Stream` and a `Sink` of [`Bytes`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_socket::tcp::{Listener, connect};
///
/// let mut listener = Listener::bind("127.0.0.1:0").await?;
/// let mut client = connect(listener.local_addr()).await?;
/// let mut server = listener.accept().await?;
///
/// client.send("a question").await?;
/// client.close().await?; // The other direction goes on.
/// while let Some(question) = server.recv().await? {
///     server.send([&question[..], b", answered"].concat()).await?;
/// }
/// assert_eq!(client.recv().await?.as_deref(), Some(&b"a question, answered"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
    peer: SocketAddr,
    local: SocketAddr,
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
pub async fn connect(address: impl Display) -> Result<Connection, Error> {
    Options::new().connect(address).await
}

impl Connection {
    pub(super) fn new(
        socket: OwnedFd,
        address: Arc<str>,
        options: &Options,
    ) -> Result<Self, Error> {
        let peer = crate::inet_addr(rustix::net::getpeername(&socket), "getpeername")
            .map_err(|error| error.with_address(&address))?
            .ok_or_else(|| crate::no_address(&address, "getpeername"))?;
        let local = crate::inet_addr(rustix::net::getsockname(&socket).map(Some), "getsockname")?
            .ok_or_else(|| crate::no_address(&address, "getsockname"))?;
        let link = Link::new(socket, address)?;
        Ok(Self {
            sender: Sender::new(
                WriteIo::new(link.clone()),
                options.codec.clone(),
                options.linger,
            ),
            receiver: Receiver::new(
                ReadIo {
                    link,
                    at_once: false,
                    spin: AdaptiveSpin::adaptive(),
                    answers: false,
                },
                options.codec.clone(),
            ),
            peer,
            local,
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
    pub async fn send<M>(&mut self, message: M) -> Result<(), Error>
    where
        FrameCodec: FrameEncoder<M>,
    {
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
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.receiver.recv().await
    }

    /// Sends a message if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`].
    pub fn try_send<M>(&mut self, message: M) -> Result<(), TrySendError<M>>
    where
        FrameCodec: FrameEncoder<M>,
    {
        self.sender.try_send(message)
    }

    /// Receives a message if one is there: see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
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

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Splits into halves, for different tasks. Dropping the sender before it was closed is a crash
    /// to the peer: see [`Sender`]. Where nothing is to be received, use
    /// [`into_sender`](Self::into_sender): what is unread when both halves have gone has the
    /// connection reset.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sender alone. What comes from the peer is dropped while the sender waits and closes: left
    /// unread, it would have the kernel reset the connection, and throw away what is still on its way.
    /// [`close`](Sender::close) waits for the end of the peer's direction, too.
    pub fn into_sender(mut self) -> Sender {
        self.sender.discard(self.receiver);
        self.sender
    }

    /// The receiver alone. The other direction ends when everything was read up to the end of the
    /// peer's, for which the [`close`](Sender::close) of a sender alone waits, or with the
    /// receiver. What the sink collected, or is left of a message that was accepted, is written if
    /// there is room now: call [`Sender::flush`] first to be sure.
    pub fn into_receiver(mut self) -> Receiver {
        self.sender.keep_open();
        drop(self.sender);
        self.receiver.answer();
        self.receiver
    }

    /// The connection as a stream of bytes, beginning after the last message that was received. What the
    /// sink collected is written first.
    ///
    /// # Errors
    ///
    /// As for [`Sender::flush`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the connection is lost with the future.
    pub async fn into_byte_stream(mut self) -> Result<ByteStream, Error> {
        self.sender.flush().await?;
        let (reader, read) = self.receiver.into_io();
        Ok(ByteStream::new(reader, read, self.sender.into_io()))
    }
}

impl Stream for Connection {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl Sink<Bytes> for Connection {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), Error> {
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
    type Native = Bytes;
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}
