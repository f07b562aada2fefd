use std::fmt::Display;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use sinew_core::{Error, ErrorKind, FrameCodec, Framing};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::{Connection, Listener};
use crate::unix;

/// How a connection on which nothing moves finds out that its peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// For how long nothing has moved before the first probe; whole seconds, at least one.
    pub idle: Duration,
    /// Between two probes; whole seconds, at least one.
    pub interval: Duration,
    /// How many probes go unanswered before the peer is taken for gone.
    pub retries: u32,
}

impl Keepalive {
    /// A first probe after `idle`, and then, as tcp(7) has it by default, up to nine, 75 s apart.
    pub fn after(idle: Duration) -> Self {
        Self {
            idle,
            interval: Duration::from_secs(75),
            retries: 9,
        }
    }

    /// Sets the time between two probes, and their number.
    #[must_use]
    pub fn probes(mut self, interval: Duration, retries: u32) -> Self {
        self.interval = interval;
        self.retries = retries;
        self
    }
}

/// How connections and listeners are made; both ends have their own.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`framing`](Self::framing) | [`Framing::Length`] | |
/// | [`max_message`](Self::max_message) | 16 MiB | 4 GiB with `Framing::Length` |
/// | [`nodelay`](Self::nodelay) | no | |
/// | [`keepalive`](Self::keepalive) | no | |
/// | [`linger`](Self::linger) | no: the kernel goes on in the background | |
/// | [`reuse_address`](Self::reuse_address) | yes, for listeners | |
/// | [`reuse_port`](Self::reuse_port) | no | |
/// | [`only_v6`](Self::only_v6) | no: `[::]` is for IPv4 too | |
/// | [`backlog`](Self::backlog) | 1024 | net.core.somaxconn |
/// | [`connect_timeout`](Self::connect_timeout) | 30 s | |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use std::time::Duration;
///
/// use sinew_socket::tcp::{Keepalive, Options};
///
/// let options = Options::new()
///     .nodelay(true)
///     .keepalive(Keepalive::after(Duration::from_secs(60)).probes(Duration::from_secs(5), 3));
/// let mut listener = options.bind("127.0.0.1:0").await?;
/// let mut client = options.connect(listener.local_addr()).await?;
/// let mut server = listener.accept().await?;
/// client.send("hello").await?;
/// assert_eq!(server.recv().await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) codec: FrameCodec,
    pub(super) connect_timeout: Duration,
    pub(super) wait_for_listener: Option<Duration>,
    nodelay: bool,
    keepalive: Option<Keepalive>,
    pub(super) linger: Option<Duration>,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    backlog: i32,
    local: Option<SocketAddr>,
    send_buffer: Option<usize>,
    recv_buffer: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

fn option(name: &'static str, error: std::io::Error) -> Error {
    Error::from_io("setsockopt", error).with_detail(name)
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            codec: FrameCodec::new(Framing::Length),
            connect_timeout: Duration::from_secs(30),
            wait_for_listener: None,
            nodelay: false,
            keepalive: None,
            linger: None,
            reuse_address: true,
            reuse_port: false,
            only_v6: false,
            backlog: 1024,
            local: None,
            send_buffer: None,
            recv_buffer: None,
        }
    }

    /// How the boundaries of messages are kept; the same at both ends.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.codec = FrameCodec::new(framing).with_max_message(self.codec.max_message());
        self
    }

    /// The longest message that this end receives and sends, bytes. A longer one that comes is the end
    /// of the connection.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.codec = self.codec.with_max_message(bytes);
        self
    }

    /// Whether a small message is sent at once even if earlier ones are not acknowledged yet
    /// (`TCP_NODELAY`). It lowers the latency of messages that follow each other, at the price of more
    /// packets.
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Has the kernel probe whether the peer is still there when nothing moves. If it is not, the
    /// connection fails with an error that [`is_peer_crashed`](Error::is_peer_crashed).
    #[must_use]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = Some(keepalive);
        self
    }

    /// What becomes of data that the peer's host has not acknowledged when the sender closes.
    ///
    /// With zero it is thrown away when the connection is dropped, and the peer gets a reset
    /// (`SO_LINGER`). With a longer time, [`close`](super::Sender::close) fails if the peer's
    /// answer, for which it waits in any case, takes longer. What is dropped without waiting, the
    /// kernel goes on to send in the background. (The kernel's own way to wait would block the
    /// thread that drops the connection.)
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Whether a listener may take a port that connections of its predecessor are still waiting on
    /// (`SO_REUSEADDR`).
    #[must_use]
    pub fn reuse_address(mut self, reuse: bool) -> Self {
        self.reuse_address = reuse;
        self
    }

    /// Whether several listeners of this user may have the same port, among which the kernel spreads
    /// connections (`SO_REUSEPORT`).
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether a listener at an IPv6 address leaves IPv4 to others (`IPV6_V6ONLY`).
    #[must_use]
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = only;
        self
    }

    /// How many connections can wait to be accepted.
    #[must_use]
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = i32::try_from(count).unwrap_or(i32::MAX);
        self
    }

    /// The address of this machine from which to connect.
    #[must_use]
    pub fn local(mut self, address: SocketAddr) -> Self {
        self.local = Some(address);
        self
    }

    /// Bytes that can be on their way (`SO_SNDBUF`). By default the kernel adapts it.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Bytes that can wait to be received (`SO_RCVBUF`). By default the kernel adapts it.
    #[must_use]
    pub fn recv_buffer(mut self, bytes: usize) -> Self {
        self.recv_buffer = Some(bytes);
        self
    }

    /// For how long to try to connect, with all of a name's addresses.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// For how long `connect` tries again while nobody listens. Without this, it is an error at once.
    #[must_use]
    pub fn wait_for_listener(mut self, timeout: Duration) -> Self {
        self.wait_for_listener = Some(timeout);
        self
    }

    /// Listens at an address of this machine; port 0 for one that is free.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if the port is taken, `EADDRNOTAVAIL` if the address is not of this machine,
    /// `EACCES` for a port that needs a privilege; of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the host cannot be resolved.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn bind(&self, address: impl Display) -> Result<Listener, Error> {
        let text = address.to_string();
        let mut failed = None;
        for address in crate::resolve(&text, "bind").await? {
            match self.listen_at(address) {
                Ok(socket) => return Listener::new(socket, self),
                Err(error) => failed = Some(error.with_address(&text)),
            }
        }
        Err(failed.unwrap_or_else(|| crate::no_address(&text, "bind")))
    }

    fn listen_at(&self, address: SocketAddr) -> Result<OwnedFd, Error> {
        let socket = self.socket(address)?;
        if self.reuse_address {
            let set = socket.set_reuse_address(true);
            set.map_err(|error| option("SO_REUSEADDR", error))?;
        }
        if address.is_ipv6() {
            let set = socket.set_only_v6(self.only_v6);
            set.map_err(|error| option("IPV6_V6ONLY", error))?;
        }
        crate::bind_inet(
            &socket,
            address,
            "stop the process that listens there, use another port, or reuse_port in both",
        )?;
        let listening = socket.listen(self.backlog);
        listening.map_err(|error| Error::from_io("listen", error))?;
        Ok(socket.into())
    }

    /// A socket for this kind of address, prepared but for what is a listener's.
    pub(super) fn socket(&self, address: SocketAddr) -> Result<Socket, Error> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .map_err(|error| Error::from_io("socket", error))?;
        let nonblocking = socket.set_nonblocking(true);
        nonblocking.map_err(|error| Error::from_io("ioctl(FIONBIO)", error))?;
        if self.reuse_port {
            let set = socket.set_reuse_port(true);
            set.map_err(|error| option("SO_REUSEPORT", error))?;
        }
        // Before the handshake, in which the window is negotiated.
        if let Some(bytes) = self.send_buffer {
            let set = socket.set_send_buffer_size(bytes);
            set.map_err(|error| option("SO_SNDBUF", error))?;
        }
        if let Some(bytes) = self.recv_buffer {
            let set = socket.set_recv_buffer_size(bytes);
            set.map_err(|error| option("SO_RCVBUF", error))?;
        }
        Ok(socket)
    }

    pub(super) fn local_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        self.local
            .filter(|local| local.is_ipv4() == remote.is_ipv4())
    }

    /// Listens on a socket that listens already, such as an
    /// [inherited](unix::inherited_listeners) one.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if it is no such socket.
    pub fn listen_on(&self, socket: impl Into<OwnedFd>) -> Result<Listener, Error> {
        let socket = socket.into();
        check(&socket, true, "listen")?;
        Listener::new(socket, self)
    }

    /// Makes a connection of a connected socket, such as one that was inherited or received.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if it is no such socket.
    pub fn connection_on(&self, socket: impl Into<OwnedFd>) -> Result<Connection, Error> {
        let socket = socket.into();
        check(&socket, false, "connection")?;
        self.connection(socket, "inherited".into())
    }

    pub(super) fn connection(
        &self,
        socket: OwnedFd,
        address: Arc<str>,
    ) -> Result<Connection, Error> {
        let prepared = SockRef::from(&socket);
        if self.nodelay {
            let set = prepared.set_tcp_nodelay(true);
            set.map_err(|error| option("TCP_NODELAY", error))?;
        }
        if let Some(keepalive) = self.keepalive {
            let second = Duration::from_secs(1);
            let keepalive = TcpKeepalive::new()
                .with_time(keepalive.idle.max(second))
                .with_interval(keepalive.interval.max(second))
                .with_retries(keepalive.retries.clamp(1, 127));
            let set = prepared.set_tcp_keepalive(&keepalive);
            set.map_err(|error| option("SO_KEEPALIVE", error))?;
        }
        if self.linger == Some(Duration::ZERO) {
            let set = prepared.set_linger(self.linger);
            set.map_err(|error| option("SO_LINGER", error))?;
        }
        Connection::new(socket, address, self)
    }
}

/// Makes sure that a descriptor is a TCP socket, and one that listens non-blocking.
fn check(socket: &OwnedFd, listening: bool, operation: &'static str) -> Result<(), Error> {
    let fd = socket.as_fd();
    let family = sockopt::socket_domain(fd);
    let is_right = (family == Ok(AddressFamily::INET) || family == Ok(AddressFamily::INET6))
        && sockopt::socket_type(fd) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(fd) == Ok(listening);
    if is_right {
        return match listening {
            true => unix::set_nonblocking(fd, operation),
            // Other processes may share it, and their calls would fail with EAGAIN.
            false => Ok(()),
        };
    }
    Err(
        Error::new(ErrorKind::InvalidInput, operation).with_reason(match listening {
            true => "the descriptor is no TCP socket that listens",
            false => "the descriptor is no TCP socket of a connection",
        }),
    )
}
