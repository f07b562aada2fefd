//! `unix:`, `unix-dgram:`, `unix-seqpacket:`, `tcp:` and `udp:` addresses.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use sinew_core::time;
use sinew_core::{
    Address, BoxSink, BoxStream, Error, ErrorKind, Framing, Message, MessageSink, MessageStream,
    Messages, Scheme, UnixEndpoint,
};
use sinew_socket::unix::{datagram, seqpacket, stream};
use sinew_socket::{tcp, udp};

use super::parameters::{endpoint_mode, invalid, named};

/// For how long to wait for a listener where the address does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// The backlog of a listener that takes one peer: the kernel queues one more than it is told to.
/// Those that come later are not connected as long as one waits, and learn at once that nobody
/// listens any more when the one has been taken.
const ONE_PEER: u32 = 0;

/// Which part an end takes in finding the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Listen,
    Connect,
}

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let role = role(address, Role::Connect);
    let opened = match address.scheme() {
        Scheme::UnixSeqpacket => seqpacket(address, role).await.map(|connection| {
            let (sender, receiver) = connection.split();
            (sink(sender), boxed(receiver))
        }),
        Scheme::UnixDgram => datagrams(address, role).await,
        Scheme::Tcp => tcp(address, role).await.map(|connection| {
            let (sender, receiver) = connection.split();
            (sink(sender), boxed(receiver))
        }),
        Scheme::Udp => udp_both(address, role).await,
        _ => stream(address, role).await.map(|connection| {
            let (sender, receiver) = connection.split();
            (sink(sender), boxed(receiver))
        }),
    };
    opened.map_err(|error| named(error, address))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    let role = role(address, Role::Connect);
    let opened = match address.scheme() {
        Scheme::UnixSeqpacket => seqpacket(address, role)
            .await
            .map(|connection| sink(connection.into_sender())),
        Scheme::UnixDgram => datagram_sender(address, role).await.map(sink),
        Scheme::Tcp => tcp(address, role)
            .await
            .map(|connection| sink(connection.into_sender())),
        Scheme::Udp => udp_sender(address, role).await.map(sink),
        _ => stream(address, role)
            .await
            .map(|connection| sink(connection.into_sender())),
    };
    opened.map_err(|error| named(error, address))
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    let role = role(address, Role::Listen);
    let opened = match address.scheme() {
        Scheme::UnixSeqpacket => seqpacket(address, role)
            .await
            .map(|connection| boxed(connection.into_receiver())),
        Scheme::UnixDgram => datagram_receiver(address, role).await.map(boxed),
        Scheme::Tcp => tcp(address, role)
            .await
            .map(|connection| boxed(connection.into_receiver())),
        Scheme::Udp => udp_receiver(address, role).await.map(boxed),
        _ => stream(address, role)
            .await
            .map(|connection| boxed(connection.into_receiver())),
    };
    opened.map_err(|error| named(error, address))
}

fn sink<S: MessageSink + Send + Unpin + 'static>(sender: S) -> BoxSink {
    Box::pin(Messages::new(sender))
}

fn boxed<S: MessageStream + Send + Unpin + 'static>(receiver: S) -> BoxStream {
    Box::pin(Messages::new(receiver))
}

fn role(address: &Address, default: Role) -> Role {
    match (address.flag("listen"), address.flag("connect")) {
        (true, _) => Role::Listen,
        (_, true) => Role::Connect,
        _ => default,
    }
}

/// Takes one peer, or says that nobody came.
async fn first<T>(
    address: &Address,
    accepted: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(timeout) = address.duration("timeout")? else {
        return accepted.await;
    };
    match time::timeout(timeout, accepted).await? {
        Some(accepted) => accepted,
        None => Err(Error::new(ErrorKind::TimedOut, "accept")
            .with_address(address)
            .with_reason(format!("nobody connected within {timeout:?}"))
            .with_remedy("start the process that connects, or raise the timeout")),
    }
}

fn patience(address: &Address) -> Result<Duration, Error> {
    Ok(address.duration("timeout")?.unwrap_or(PATIENCE))
}

pub(super) fn stream_options(address: &Address, role: Role) -> Result<stream::Options, Error> {
    let mut options = stream::Options::new()
        .framing(framing(address)?)
        .credentials(address.flag("credentials"));
    if let Some(bytes) = max_message(address)? {
        options = options.max_message(bytes);
    }
    if let Some(mode) = mode(address, role)? {
        options = options.mode(mode);
    }
    Ok(options)
}

async fn stream(address: &Address, role: Role) -> Result<stream::Connection, Error> {
    let endpoint = endpoint(address)?;
    let options = stream_options(address, role)?;
    match role {
        Role::Listen => {
            let mut listener = options.backlog(ONE_PEER).bind(endpoint).await?;
            first(address, listener.accept()).await
        }
        Role::Connect => {
            let options = options.wait_for_listener(patience(address)?);
            options.connect(endpoint).await
        }
    }
}

pub(super) fn seqpacket_options(
    address: &Address,
    role: Role,
) -> Result<seqpacket::Options, Error> {
    let mut options = seqpacket::Options::new().credentials(address.flag("credentials"));
    if let Some(bytes) = max_message(address)? {
        options = options.max_message(bytes);
    }
    if let Some(mode) = mode(address, role)? {
        options = options.mode(mode);
    }
    Ok(options)
}

async fn seqpacket(address: &Address, role: Role) -> Result<seqpacket::Connection, Error> {
    let endpoint = endpoint(address)?;
    let options = seqpacket_options(address, role)?;
    match role {
        Role::Listen => {
            let mut listener = options.backlog(ONE_PEER).bind(endpoint).await?;
            first(address, listener.accept()).await
        }
        Role::Connect => {
            let options = options.wait_for_listener(patience(address)?);
            options.connect(endpoint).await
        }
    }
}

fn datagram_options(address: &Address) -> Result<datagram::Options, Error> {
    let mut options = datagram::Options::new().credentials(address.flag("credentials"));
    if let Some(bytes) = max_message(address)? {
        options = options.max_message(bytes);
    }
    if let Some(local) = address.get("bind") {
        options = options.local(std::path::Path::new(local));
    }
    Ok(options)
}

async fn bound_datagram(address: &Address) -> Result<datagram::Socket, Error> {
    let mut options = datagram_options(address)?;
    if let Some(mode) = mode(address, Role::Listen)? {
        options = options.mode(mode);
    }
    if address.flag("bind") {
        return Err(invalid(
            address,
            "`bind` is for the end that connects, and this one is at the address itself",
            "leave out `bind`",
        ));
    }
    options.bind(endpoint(address)?).await
}

async fn connected_datagram(address: &Address) -> Result<datagram::Socket, Error> {
    let mut options = datagram_options(address)?.wait_for_receiver(patience(address)?);
    // Of the socket that this end is bound to, if it is.
    if let (Some(mode), true) = (mode(address, Role::Listen)?, address.flag("bind")) {
        options = options.mode(mode);
    }
    options.connect(endpoint(address)?).await
}

async fn datagram_sender(address: &Address, role: Role) -> Result<datagram::Sender, Error> {
    if role == Role::Listen {
        return Err(nowhere_to_send(address));
    }
    Ok(connected_datagram(address).await?.split().0)
}

async fn datagram_receiver(address: &Address, role: Role) -> Result<datagram::Receiver, Error> {
    let socket = match role {
        Role::Listen => bound_datagram(address).await?,
        Role::Connect => connected_datagram(address).await?,
    };
    Ok(socket.split().1)
}

/// Both directions, with whoever is at the address or, listening there, with whoever is first to send.
async fn datagrams(address: &Address, role: Role) -> Result<(BoxSink, BoxStream), Error> {
    if role == Role::Connect {
        let (sender, receiver) = connected_datagram(address).await?.split();
        return Ok((sink(sender), boxed(receiver)));
    }
    let mut socket = bound_datagram(address).await?;
    let message = first(address, socket.recv()).await?;
    if let Some(peer) = message.address() {
        socket.set_peer(&peer.clone())?;
    }
    let (sender, receiver) = socket.split();
    Ok((sink(sender), after(message.into(), receiver)))
}

fn nowhere_to_send(address: &Address) -> Error {
    invalid(
        address,
        "a datagram socket that listens has nobody to send to",
        "leave out `listen`, or open it for both directions",
    )
}

pub(super) fn tcp_options(address: &Address) -> Result<tcp::Options, Error> {
    let mut options = tcp::Options::new()
        .framing(framing(address)?)
        .nodelay(address.flag("nodelay"))
        .reuse_port(address.flag("reuse-port"));
    if let Some(bytes) = max_message(address)? {
        options = options.max_message(bytes);
    }
    if let Some(idle) = address.duration("keepalive")? {
        let interval = idle.min(Duration::from_secs(75));
        options = options.keepalive(tcp::Keepalive::after(idle).probes(interval, 3));
    }
    if let Some(linger) = address.duration("linger")? {
        options = options.linger(linger);
    }
    if let Some(backlog) = address.parse_param("backlog")? {
        options = options.backlog(backlog);
    }
    Ok(options)
}

async fn tcp(address: &Address, role: Role) -> Result<tcp::Connection, Error> {
    let (host, _) = host_port(address)?;
    let mut options = tcp_options(address)?;
    match role {
        Role::Listen => {
            if !address.flag("backlog") {
                options = options.backlog(ONE_PEER);
            }
            let mut listener = options.bind(host).await?;
            chosen(address, listener.local_addr())?;
            first(address, listener.accept()).await
        }
        Role::Connect => {
            let patience = patience(address)?;
            let options = options.wait_for_listener(patience);
            let options = options.connect_timeout(patience.max(Duration::from_secs(1)));
            options.connect(host).await
        }
    }
}

fn udp_options(address: &Address) -> Result<udp::Options, Error> {
    let mut options = udp::Options::new()
        .broadcast(address.flag("broadcast"))
        .reuse_port(address.flag("reuse-port"));
    if let Some(bytes) = max_message(address)? {
        options = options.max_message(bytes);
    }
    if let Some(hops) = address.parse_param("ttl")? {
        options = options.ttl(hops);
    }
    if let Some(word) = address.get_str("loopback") {
        options = options.loopback(word == "on");
    }
    if let Some(interface) = address.parse_param::<udp::Interface>("interface")? {
        options = options.interface(interface);
    }
    Ok(options)
}

/// Makes sure that a group is called one, and nothing else is.
fn check_group(address: &Address) -> Result<(), Error> {
    let (_, host) = host_port(address)?;
    // Without the zone of an IPv6 address.
    let ip = host.split_once('%').map_or(host, |(ip, _)| ip);
    let is_group = ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_multicast());
    match (address.flag("multicast"), is_group) {
        (true, false) => Err(invalid(
            address,
            format!("{host} is no multicast group"),
            "groups are 224.0.0.0 to 239.255.255.255, and ff00::/8; or leave out `multicast`",
        )),
        (false, true) => Err(invalid(
            address,
            format!("{host} is a multicast group"),
            "add `multicast`",
        )),
        _ => Ok(()),
    }
}

async fn bound_udp(address: &Address) -> Result<udp::Socket, Error> {
    check_group(address)?;
    if address.flag("bind") {
        return Err(invalid(
            address,
            "`bind` is for the end that connects, and this one is at the address itself",
            "leave out `bind`",
        ));
    }
    let (host, _) = host_port(address)?;
    let options = udp_options(address)?;
    let socket = match address.flag("multicast") {
        true => options.bind_multicast(host).await?,
        false => options.bind(host).await?,
    };
    chosen(address, socket.local_addr())?;
    Ok(socket)
}

/// The address of an end that listens, with the port that the kernel has chosen where it says 0.
/// That port is logged, since nobody can connect without it.
pub(super) fn chosen(address: &Address, local: SocketAddr) -> Result<Address, Error> {
    if !matches!(address.host_port(), Some((_, 0))) {
        return Ok(address.clone());
    }
    let mut chosen = Address::new(address.scheme(), local.to_string())?;
    tracing::info!(target: "sinew::listening", "listening at {chosen}");
    for (key, value) in address.iter() {
        chosen = match value {
            Some(value) => chosen.with(key, value)?,
            None => chosen.with_flag(key)?,
        };
    }
    Ok(chosen)
}

async fn connected_udp(address: &Address) -> Result<udp::Socket, Error> {
    check_group(address)?;
    let mut options = udp_options(address)?;
    if let Some(local) = address.get_str("bind") {
        let local = sinew_socket::parse_addr(local).unwrap_or_else(|| {
            Err(invalid(
                address,
                format!("`bind`: {local} is no address"),
                "write an address of this machine and a port, such as `0.0.0.0:5000`",
            ))
        });
        options = options.local(local?);
    }
    options.connect(host_port(address)?.0).await
}

async fn udp_sender(address: &Address, role: Role) -> Result<udp::Sender, Error> {
    if role == Role::Listen {
        return Err(nowhere_to_send(address));
    }
    Ok(connected_udp(address).await?.split().0)
}

async fn udp_receiver(address: &Address, role: Role) -> Result<udp::Receiver, Error> {
    let socket = match role {
        Role::Listen => bound_udp(address).await?,
        Role::Connect => connected_udp(address).await?,
    };
    Ok(socket.split().1)
}

/// As [`datagrams`].
async fn udp_both(address: &Address, role: Role) -> Result<(BoxSink, BoxStream), Error> {
    if role == Role::Connect {
        let (sender, receiver) = connected_udp(address).await?.split();
        return Ok((sink(sender), boxed(receiver)));
    }
    if address.flag("multicast") {
        return Err(invalid(
            address,
            "a socket at a group's address has nobody to send to",
            "open it for one direction",
        ));
    }
    let mut socket = bound_udp(address).await?;
    let message = socket.recv().await?;
    if let Some(peer) = message.address() {
        socket.set_peer(peer)?;
    }
    let (sender, receiver) = socket.split();
    Ok((sink(sender), after(message.into(), receiver)))
}

/// A stream after the message that told who the peer is.
fn after<S: MessageStream + Send + Unpin + 'static>(first: Message, rest: S) -> BoxStream {
    Box::pin(After {
        first: Some(first),
        rest: boxed(rest),
    })
}

struct After {
    first: Option<Message>,
    rest: BoxStream,
}

impl Stream for After {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => self.rest.as_mut().poll_next(cx),
        }
    }
}

fn framing(address: &Address) -> Result<Framing, Error> {
    address.get_str("framing").unwrap_or("length").parse()
}

/// The limit of memory where the address asks for more.
fn max_message(address: &Address) -> Result<Option<usize>, Error> {
    let bytes = address.size("max-message")?;
    Ok(bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
}

pub(super) fn endpoint(address: &Address) -> Result<UnixEndpoint, Error> {
    match address.endpoint() {
        Some(endpoint) => Ok(endpoint.into()),
        None => Err(invalid(
            address,
            "it names no socket",
            "write unix:/path or unix:@name",
        )),
    }
}

/// The whole, and the host alone.
pub(super) fn host_port(address: &Address) -> Result<(&str, &str), Error> {
    let whole = address.rest().to_str();
    match (whole, address.host_port()) {
        (Some(whole), Some((host, _))) => Ok((whole, host)),
        _ => Err(invalid(
            address,
            "it names no host and port",
            "write tcp:host:port",
        )),
    }
}

fn mode(address: &Address, role: Role) -> Result<Option<u32>, Error> {
    let Some(mode) = endpoint_mode(address)? else {
        return Ok(None);
    };
    if role == Role::Connect && address.flag("connect") {
        return Err(invalid(
            address,
            "`mode` is for the end that listens, and this one connects",
            "leave out `mode` or `connect`",
        ));
    }
    Ok(Some(mode))
}
