//! Listening for any number of peers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{
    Address, BoxSink, BoxStream, Credentials, Error, ErrorKind, Message, MessageSink,
    MessageStream, Messages, Scheme,
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::parameters::{invalid, named};
#[cfg(feature = "shm")]
use super::shm;
#[cfg(feature = "socket")]
use super::socket;

/// Connections that a listener has at a time, where the address does not say.
const MAX_PEERS: usize = 128;

const TAKEN: [Scheme; 4] = [
    Scheme::Shm,
    Scheme::Unix,
    Scheme::UnixSeqpacket,
    Scheme::Tcp,
];

/// Listens at `address` for any number of peers: a `Stream` of [`Connection`]s.
///
/// It takes addresses of the schemes `shm:`, `unix:`, `unix-seqpacket:` and `tcp:`, with the
/// parameters that [`open`](crate::open) takes of an end that listens, but for `timeout`, and
/// besides:
///
/// | parameter | default | |
/// |---|---|---|
/// | `max-peers` | 128 | how many connections there are at a time; further peers wait to be accepted |
/// | `peers` | `many` | nothing but `many`; it tells the program `sinew` to call this |
///
/// # Errors
///
/// Of kind [`InvalidAddress`](ErrorKind::InvalidAddress) for an address that nobody can connect to,
/// or that says `connect`, `timeout` or `peers=one`; otherwise those of [`open`](crate::open) for
/// an end that listens, such as `EADDRINUSE`.
///
/// # Cancel safety
///
/// Cancel safe: dropped before it is ready, it leaves nothing behind.
///
/// # Examples
///
/// ```
/// use futures::{SinkExt, StreamExt};
/// use sinew::{Address, Error, Message};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let address = format!("unix:@sinew-doc-listen-{}", std::process::id());
/// # let address: Address = address.parse()?;
/// let mut listener = sinew::listen(&address).await?;
/// let clients = async {
///     for name in ["one", "another"] {
///         let mut sink = sinew::open_sender(&address).await?;
///         sink.send(Message::from(name)).await?;
///         sink.close().await?; // It waits until the listener's end has read everything.
///     }
///     Ok::<_, Error>(())
/// };
/// let server = async {
///     for _ in 0..2 {
///         let connection = listener.accept().await?;
///         println!("{} connected", connection.peer());
///         let mut messages = connection.into_receiver();
///         while let Some(message) = messages.next().await.transpose()? {
///             println!("{:?}", message.payload());
///         }
///     }
///     Ok::<_, Error>(())
/// };
/// futures::try_join!(clients, server)?;
/// # Ok(())
/// # }
/// ```
pub async fn listen(address: &Address) -> Result<Listener, Error> {
    for (key, reason) in [
        (
            "connect",
            "`connect` is for the other end, and this one listens",
        ),
        ("timeout", "`timeout` is for an end that waits for one peer"),
    ] {
        if address.flag(key) {
            return Err(invalid(address, reason, format!("leave out `{key}`")));
        }
    }
    if address.get_str("peers") == Some("one") {
        return Err(invalid(
            address,
            "`peers=one` is for an end that takes one peer",
            "leave it out, or open the address to receive",
        ));
    }
    let max_peers = address.parse_param("max-peers")?.unwrap_or(MAX_PEERS);
    let acceptor = bind(address).await.map_err(|error| named(error, address))?;
    let at = match &acceptor {
        #[cfg(feature = "socket")]
        Acceptor::Tcp(listener) => socket::chosen(address, listener.local_addr())?,
        #[allow(unreachable_patterns)]
        _ => address.clone(),
    };
    Ok(Listener {
        acceptor,
        address: at,
        places: Arc::new(Semaphore::new(max_peers)),
        waiting: None,
        place: None,
    })
}

async fn bind(address: &Address) -> Result<Acceptor, Error> {
    match address.scheme() {
        #[cfg(feature = "shm")]
        Scheme::Shm => {
            let options = shm::options(address, shm::Role::Listen)?;
            let listener = options.bind(shm::endpoint(address)?).await?;
            Ok(Acceptor::Shm(listener))
        }
        #[cfg(feature = "socket")]
        Scheme::Unix => {
            let options = socket::stream_options(address, socket::Role::Listen)?;
            let listener = options.bind(socket::endpoint(address)?).await?;
            Ok(Acceptor::Unix(listener))
        }
        #[cfg(feature = "socket")]
        Scheme::UnixSeqpacket => {
            let options = socket::seqpacket_options(address, socket::Role::Listen)?;
            let listener = options.bind(socket::endpoint(address)?).await?;
            Ok(Acceptor::UnixSeqpacket(listener))
        }
        #[cfg(feature = "socket")]
        Scheme::Tcp => {
            let (host, _) = socket::host_port(address)?;
            let listener = socket::tcp_options(address)?.bind(host).await?;
            Ok(Acceptor::Tcp(listener))
        }
        // Of which this build has not all.
        scheme if TAKEN.contains(&scheme) => Err(super::unsupported("listen", address)),
        scheme => Err(invalid(
            address,
            format!("nobody can connect to `{scheme}:` addresses"),
            "open it to receive, or listen at `shm:`, `unix:`, `unix-seqpacket:` or `tcp:`",
        )),
    }
}

enum Acceptor {
    #[cfg(feature = "shm")]
    Shm(sinew_shm::Listener),
    #[cfg(feature = "socket")]
    Unix(sinew_socket::unix::stream::Listener),
    #[cfg(feature = "socket")]
    UnixSeqpacket(sinew_socket::unix::seqpacket::Listener),
    #[cfg(feature = "socket")]
    Tcp(sinew_socket::tcp::Listener),
}

impl Acceptor {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Kind, Error>>> {
        match self {
            #[cfg(feature = "shm")]
            Self::Shm(listener) => next(listener, cx, Kind::Shm),
            #[cfg(feature = "socket")]
            Self::Unix(listener) => next(listener, cx, Kind::Unix),
            #[cfg(feature = "socket")]
            Self::UnixSeqpacket(listener) => next(listener, cx, Kind::UnixSeqpacket),
            #[cfg(feature = "socket")]
            Self::Tcp(listener) => next(listener, cx, Kind::Tcp),
        }
    }
}

fn next<T, L: Stream<Item = Result<T, Error>> + Unpin>(
    listener: &mut L,
    cx: &mut Context<'_>,
    kind: fn(T) -> Kind,
) -> Poll<Option<Result<Kind, Error>>> {
    let accepted = Pin::new(listener).poll_next(cx);
    accepted.map(|item| item.map(|accepted| accepted.map(kind)))
}

#[cfg_attr(
    feature = "socket",
    expect(
        clippy::large_enum_variant,
        reason = "it is moved once or twice, and its halves are boxed then"
    )
)]
enum Kind {
    #[cfg(feature = "shm")]
    Shm(sinew_shm::Channel),
    #[cfg(feature = "socket")]
    Unix(sinew_socket::unix::stream::Connection),
    #[cfg(feature = "socket")]
    UnixSeqpacket(sinew_socket::unix::seqpacket::Connection),
    #[cfg(feature = "socket")]
    Tcp(sinew_socket::tcp::Connection),
}

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Accepts connections at an address: a `Stream` of [`Connection`]s, made by [`listen`].
///
/// Dropping it gives the address free. Peers that it has not accepted are told that nobody receives
/// what they have sent; connections that it has accepted live on.
pub struct Listener {
    acceptor: Acceptor,
    address: Address,
    places: Arc<Semaphore>,
    /// For a place, while all are taken.
    waiting: Option<Waiting>,
    /// For the next connection.
    place: Option<OwnedSemaphorePermit>,
}

impl Listener {
    /// Accepts the next connection, once fewer than `max-peers` are there.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM`: these are
    /// [recoverable](Error::is_recoverable), the peer waits, and the next call tries again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection is accepted in the poll that returns it.
    pub async fn accept(&mut self) -> Result<Connection, Error> {
        match poll_fn(|cx| self.poll_accept(cx)).await {
            Some(accepted) => accepted,
            None => Err(Error::new(ErrorKind::Closed, "accept")
                .with_address(&self.address)
                .with_reason("the listener has failed before")),
        }
    }

    /// Where it listens: the address that it was opened with, with the port that the kernel has
    /// chosen where that says 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Connection, Error>>> {
        if self.place.is_none() {
            let places = &self.places;
            let waiting = self
                .waiting
                .get_or_insert_with(|| Box::pin(places.clone().acquire_owned()));
            // The semaphore is never closed.
            self.place = ready!(waiting.as_mut().poll(cx)).ok();
            self.waiting = None;
        }
        Poll::Ready(match ready!(self.acceptor.poll_accept(cx)) {
            Some(Ok(kind)) => Some(Ok(Connection {
                kind,
                place: Place(self.place.take().map(Arc::new)),
            })),
            Some(Err(error)) => Some(Err(named(error, &self.address))),
            None => None,
        })
    }
}

impl Stream for Listener {
    type Item = Result<Connection, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_accept(cx)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("free_places", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

/// One of the connections that a listener may have at a time.
#[derive(Clone)]
struct Place(#[allow(dead_code)] Option<Arc<OwnedSemaphorePermit>>);

/// A connection that a [`Listener`] has accepted.
///
/// Its place among `max-peers` is free again once all that was made of it is dropped.
pub struct Connection {
    kind: Kind,
    place: Place,
}

/// Who is at the other end of a [`Connection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A process of this machine, as the kernel vouched for when it connected.
    Process(Credentials),
    /// A host and its port.
    Host(SocketAddr),
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        match &self.kind {
            #[cfg(feature = "shm")]
            Kind::Shm(channel) => Peer::Process(channel.peer()),
            #[cfg(feature = "socket")]
            Kind::Unix(connection) => Peer::Process(connection.peer()),
            #[cfg(feature = "socket")]
            Kind::UnixSeqpacket(connection) => Peer::Process(connection.peer()),
            #[cfg(feature = "socket")]
            Kind::Tcp(connection) => Peer::Host(connection.peer_addr()),
        }
    }

    /// Both directions.
    pub fn split(self) -> (BoxSink, BoxStream) {
        macro_rules! halves {
            ($connection:expr) => {{
                let (sender, receiver) = $connection.split();
                (sink(sender, &self.place), stream(receiver, &self.place))
            }};
        }
        match self.kind {
            #[cfg(feature = "shm")]
            Kind::Shm(channel) => halves!(channel),
            #[cfg(feature = "socket")]
            Kind::Unix(connection) => halves!(connection),
            #[cfg(feature = "socket")]
            Kind::UnixSeqpacket(connection) => halves!(connection),
            #[cfg(feature = "socket")]
            Kind::Tcp(connection) => halves!(connection),
        }
    }

    /// The direction in which this end sends, as [`open_sender`](crate::open_sender) would leave
    /// it.
    pub fn into_sender(self) -> BoxSink {
        match self.kind {
            #[cfg(feature = "shm")]
            Kind::Shm(channel) => sink(channel.into_sender(), &self.place),
            #[cfg(feature = "socket")]
            Kind::Unix(connection) => sink(connection.into_sender(), &self.place),
            #[cfg(feature = "socket")]
            Kind::UnixSeqpacket(connection) => sink(connection.into_sender(), &self.place),
            #[cfg(feature = "socket")]
            Kind::Tcp(connection) => sink(connection.into_sender(), &self.place),
        }
    }

    /// The direction in which this end receives, as [`open_receiver`](crate::open_receiver) would
    /// leave it.
    pub fn into_receiver(self) -> BoxStream {
        match self.kind {
            #[cfg(feature = "shm")]
            Kind::Shm(channel) => stream(channel.into_receiver(), &self.place),
            #[cfg(feature = "socket")]
            Kind::Unix(connection) => stream(connection.into_receiver(), &self.place),
            #[cfg(feature = "socket")]
            Kind::UnixSeqpacket(connection) => stream(connection.into_receiver(), &self.place),
            #[cfg(feature = "socket")]
            Kind::Tcp(connection) => stream(connection.into_receiver(), &self.place),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(peer) => write!(f, "pid {}, uid {}", peer.pid, peer.uid),
            Self::Host(address) => write!(f, "{address}"),
        }
    }
}

/// A half that keeps the connection's place taken.
struct Placed<T> {
    half: Messages<T>,
    _place: Place,
}

fn sink<S: MessageSink + Send + Unpin + 'static>(half: S, place: &Place) -> BoxSink {
    Box::pin(Placed {
        half: Messages::new(half),
        _place: place.clone(),
    })
}

fn stream<S: MessageStream + Send + Unpin + 'static>(half: S, place: &Place) -> BoxStream {
    Box::pin(Placed {
        half: Messages::new(half),
        _place: place.clone(),
    })
}

impl<S: MessageStream + Unpin> Stream for Placed<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.half).poll_next(cx)
    }
}

impl<S: MessageSink + Unpin> Sink<Message> for Placed<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.half).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.half).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.half).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.half).poll_close(cx)
    }
}
