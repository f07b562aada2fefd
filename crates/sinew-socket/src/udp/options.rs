use std::fmt::Display;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, sockopt};
use sinew_core::{Error, ErrorKind};
use socket2::{Domain, Socket as RawSocket, Type};

use super::{Interface, Socket};
use crate::failure;

/// How sockets are made.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`max_message`](Self::max_message) | 64 KiB, which no datagram exceeds | |
/// | [`local`](Self::local) | any address and port | |
/// | [`broadcast`](Self::broadcast) | no | |
/// | [`ttl`](Self::ttl) | net.ipv4.ip_default_ttl, and 1 for multicast | 255 |
/// | [`loopback`](Self::loopback) | yes | |
/// | [`interface`](Self::interface) | what the routing table says | |
/// | [`reuse_address`](Self::reuse_address) | no; yes for multicast | |
/// | [`reuse_port`](Self::reuse_port) | no | |
/// | [`only_v6`](Self::only_v6) | no: `[::]` is for IPv4 too | |
/// | [`recv_buffer`](Self::recv_buffer) | net.core.rmem_default | net.core.rmem_max |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_socket::udp::Options;
///
/// let mut server = Options::new().recv_buffer(1 << 20).bind("127.0.0.1:0").await?;
/// let mut client = Options::new().connect(server.local_addr()).await?;
/// client.send("hello").await?;
/// let message = server.recv().await?;
/// assert_eq!(message.payload(), "hello");
/// assert_eq!(message.address(), Some(client.local_addr()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) max_message: usize,
    local: Option<SocketAddr>,
    broadcast: bool,
    ttl: Option<u32>,
    loopback: Option<bool>,
    interface: Interface,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    send_buffer: Option<usize>,
    recv_buffer: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

fn set(name: &'static str, done: std::io::Result<()>) -> Result<(), Error> {
    done.map_err(|error| Error::from_io("setsockopt", error).with_detail(name))
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            max_message: 64 << 10,
            local: None,
            broadcast: false,
            ttl: None,
            loopback: None,
            interface: Interface::Any,
            reuse_address: false,
            reuse_port: false,
            only_v6: false,
            send_buffer: None,
            recv_buffer: None,
        }
    }

    /// The longest datagram that this end receives, bytes. A longer one is dropped, and an error that
    /// [`is_recoverable`](Error::is_recoverable) says how long it was.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The address and port of this machine that a socket which [connects](Self::connect) has itself.
    #[must_use]
    pub fn local(mut self, address: SocketAddr) -> Self {
        self.local = Some(address);
        self
    }

    /// Whether it may send to broadcast addresses.
    #[must_use]
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = broadcast;
        self
    }

    /// How many hops datagrams go, to a group too.
    #[must_use]
    pub fn ttl(mut self, hops: u8) -> Self {
        self.ttl = Some(u32::from(hops));
        self
    }

    /// Whether this machine gets what this socket sends to a group.
    #[must_use]
    pub fn loopback(mut self, loopback: bool) -> Self {
        self.loopback = Some(loopback);
        self
    }

    /// The interface on which groups are joined, and through which multicast leaves.
    #[must_use]
    pub fn interface(mut self, interface: Interface) -> Self {
        self.interface = interface;
        self
    }

    /// Whether other sockets that say so too may have the same address and port. A datagram to a group
    /// goes to all of them, any other to the one that was bound last.
    #[must_use]
    pub fn reuse_address(mut self, reuse: bool) -> Self {
        self.reuse_address = reuse;
        self
    }

    /// Whether several sockets of this user may have the same address and port, among which the kernel
    /// spreads senders.
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether a socket at an IPv6 address leaves IPv4 to others (`IPV6_V6ONLY`).
    #[must_use]
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = only;
        self
    }

    /// Bytes that can be on their way, with what the kernel adds (`SO_SNDBUF`).
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Bytes that can wait to be received, with what the kernel adds (`SO_RCVBUF`). What comes when it
    /// is full is lost in silence.
    #[must_use]
    pub fn recv_buffer(mut self, bytes: usize) -> Self {
        self.recv_buffer = Some(bytes);
        self
    }

    /// A socket at an address of this machine; port 0 for one that is free.
    ///
    /// It receives from everybody, and sends datagrams that have an
    /// [address](super::Message::with_address).
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
    pub async fn bind(&self, address: impl Display) -> Result<Socket, Error> {
        self.first(address, "bind", |address| self.bound(address))
            .await
    }

    /// A socket that receives what is sent to a group, at the group's address and port, and nothing
    /// else. Other sockets may do the same.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind); `ENODEV` if no interface leads there, and of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no group.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn bind_multicast(&self, group: impl Display) -> Result<Socket, Error> {
        self.first(group, "bind", |address| {
            let (address, interface) = self.on_interface(address)?;
            let options = self.clone().reuse_address(true).interface(interface);
            let socket = options.bound(address)?;
            options.interface.join(&socket, address.ip())?;
            Ok(socket)
        })
        .await
    }

    /// A socket that sends to one address, and receives from it alone.
    ///
    /// # Errors
    ///
    /// `ENETUNREACH` if no route leads there, `EACCES` for a broadcast address without
    /// [`broadcast`](Self::broadcast); those of [`bind`](Self::bind). That nobody is there is found out
    /// later: see [`Socket`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn connect(&self, address: impl Display) -> Result<Socket, Error> {
        self.first(address, "connect", |address| {
            let (address, interface) = self.on_interface(address)?;
            let options = self.clone().interface(interface);
            let local = self
                .local
                .filter(|local| local.is_ipv4() == address.is_ipv4());
            let socket = match local {
                Some(local) => options.bound(local)?,
                None => options.prepared(address)?,
            };
            socket
                .connect(&address.into())
                .map_err(|error| connecting(Error::from_io("connect", error)))?;
            Ok(socket)
        })
        .await
    }

    /// Takes a UDP socket over, such as an [inherited](crate::unix::inherited_listeners) one.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if it is no such socket.
    pub fn socket_on(&self, socket: impl Into<OwnedFd>) -> Result<Socket, Error> {
        let socket = socket.into();
        let fd = socket.as_fd();
        let family = sockopt::socket_domain(fd);
        let is_right = (family == Ok(AddressFamily::INET) || family == Ok(AddressFamily::INET6))
            && sockopt::socket_type(fd) == Ok(SocketType::DGRAM);
        if !is_right {
            return Err(Error::new(ErrorKind::InvalidInput, "socket")
                .with_reason("the descriptor is no UDP socket"));
        }
        Socket::new(socket, "inherited", self)
    }

    /// The socket at the first of a name's addresses that works.
    async fn first(
        &self,
        address: impl Display,
        operation: &'static str,
        open: impl Fn(SocketAddr) -> Result<RawSocket, Error>,
    ) -> Result<Socket, Error> {
        let text = address.to_string();
        let mut failed = None;
        for address in crate::resolve(&text, operation).await? {
            match open(address) {
                Ok(socket) => return Socket::new(socket.into(), address.to_string(), self),
                Err(error) => failed = Some(error),
            }
        }
        let error = failed.unwrap_or_else(|| crate::no_address(&text, operation));
        Err(match error.address() {
            Some(_) => error,
            None => error.with_address(text),
        })
    }

    /// A group's address with the number of its interface, which the zone of the address names, or
    /// [`interface`](Self::interface).
    fn on_interface(&self, address: SocketAddr) -> Result<(SocketAddr, Interface), Error> {
        let mut v6 = match address {
            SocketAddr::V6(v6) if v6.ip().is_multicast() => v6,
            _ => return Ok((address, self.interface.clone())),
        };
        let invalid = |reason: &'static str, remedy: &'static str| {
            Err(Error::new(ErrorKind::InvalidInput, "multicast")
                .with_address(address)
                .with_reason(reason)
                .with_remedy(remedy))
        };
        let (named, zone) = (self.interface.index()?, v6.scope_id());
        if named != 0 && zone != 0 && named != zone {
            return invalid(
                "the zone of the address is another interface than `interface`",
                "leave one of them out",
            );
        }
        v6.set_scope_id(named.max(zone));
        match v6.scope_id() {
            0 if crate::is_scoped_group(v6.ip()) => invalid(
                "a group of this scope is another one on each interface, and none is named",
                "set `interface`, or append a percent sign and its name to the address, as in \
                 `[ff02::1%eth0]` (`%25eth0` in an address with a scheme)",
            ),
            0 => Ok((v6.into(), Interface::Any)),
            index => Ok((v6.into(), Interface::Index(index))),
        }
    }

    fn bound(&self, address: SocketAddr) -> Result<RawSocket, Error> {
        let socket = self.prepared(address)?;
        crate::bind_inet(
            &socket,
            address,
            "stop the process that has it, use another port, or reuse_port in both",
        )?;
        Ok(socket)
    }

    fn prepared(&self, address: SocketAddr) -> Result<RawSocket, Error> {
        let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, None)
            .map_err(|error| Error::from_io("socket", error))?;
        set("FIONBIO", socket.set_nonblocking(true))?;
        if self.reuse_address {
            set("SO_REUSEADDR", socket.set_reuse_address(true))?;
        }
        if self.reuse_port {
            set("SO_REUSEPORT", socket.set_reuse_port(true))?;
        }
        if self.broadcast {
            set("SO_BROADCAST", socket.set_broadcast(true))?;
        }
        if let Some(bytes) = self.send_buffer {
            set("SO_SNDBUF", socket.set_send_buffer_size(bytes))?;
        }
        if let Some(bytes) = self.recv_buffer {
            set("SO_RCVBUF", socket.set_recv_buffer_size(bytes))?;
        }
        if address.is_ipv6() {
            set("IPV6_V6ONLY", socket.set_only_v6(self.only_v6))?;
            if let Some(hops) = self.ttl {
                set("IPV6_UNICAST_HOPS", socket.set_unicast_hops_v6(hops))?;
                set("IPV6_MULTICAST_HOPS", socket.set_multicast_hops_v6(hops))?;
            }
            if let Some(loopback) = self.loopback {
                set(
                    "IPV6_MULTICAST_LOOP",
                    socket.set_multicast_loop_v6(loopback),
                )?;
            }
        } else {
            if let Some(hops) = self.ttl {
                // A unicast TTL of zero there is not.
                set("IP_TTL", socket.set_ttl_v4(hops.max(1)))?;
                set("IP_MULTICAST_TTL", socket.set_multicast_ttl_v4(hops))?;
            }
            if let Some(loopback) = self.loopback {
                set("IP_MULTICAST_LOOP", socket.set_multicast_loop_v4(loopback))?;
            }
        }
        self.interface.send_through(&socket, address.is_ipv6())?;
        Ok(socket)
    }
}

fn connecting(error: Error) -> Error {
    match error.errno_name() {
        Some("EACCES") => error
            .with_reason("that is a broadcast address")
            .with_remedy("set broadcast"),
        _ => failure::of_connect(error),
    }
}
