use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use sinew_core::{Error, ErrorKind};
use socket2::{InterfaceIndexOrAddress, Socket};

/// A network interface of this machine, for multicast.
///
/// It is written as its name (`eth0`), its number, or one of its IPv4 addresses.
///
/// # Examples
///
/// ```
/// use sinew_socket::udp::Interface;
///
/// assert_eq!("lo".parse::<Interface>()?, Interface::Name("lo".to_owned()));
/// assert_eq!("2".parse::<Interface>()?, Interface::Index(2));
/// assert_eq!("127.0.0.1".parse::<Interface>()?.to_string(), "127.0.0.1");
/// # Ok::<(), sinew_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interface {
    /// The one that the routing table says.
    #[default]
    Any,
    /// By its name.
    Name(String),
    /// By its number.
    Index(u32),
    /// By an address that it has; for IPv4 groups alone.
    Address(Ipv4Addr),
}

impl Interface {
    /// Its number; 0 for any.
    pub(super) fn index(&self) -> Result<u32, Error> {
        match self {
            Self::Any => Ok(0),
            Self::Index(index) => Ok(*index),
            Self::Name(name) => crate::index_of(name),
            Self::Address(address) => Err(Error::new(ErrorKind::InvalidInput, "multicast")
                .with_address(address)
                .with_reason("for IPv6, an interface has no IPv4 address")
                .with_remedy("give its name or its number")),
        }
    }

    fn v4(&self) -> Result<InterfaceIndexOrAddress, Error> {
        match self {
            Self::Address(address) => Ok(InterfaceIndexOrAddress::Address(*address)),
            _ => self.index().map(InterfaceIndexOrAddress::Index),
        }
    }

    pub(super) fn join(&self, socket: &Socket, group: IpAddr) -> Result<(), Error> {
        let joined = match group {
            IpAddr::V4(group) => socket.join_multicast_v4_n(&group, &self.v4()?),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, self.index()?),
        };
        joined.map_err(|error| self.explain("join", error, group))
    }

    pub(super) fn leave(&self, socket: &Socket, group: IpAddr) -> Result<(), Error> {
        let left = match group {
            IpAddr::V4(group) => socket.leave_multicast_v4_n(&group, &self.v4()?),
            IpAddr::V6(group) => socket.leave_multicast_v6(&group, self.index()?),
        };
        left.map_err(|error| self.explain("leave", error, group))
    }

    /// Has multicast leave through this interface.
    pub(super) fn send_through(&self, socket: &Socket, is_v6: bool) -> Result<(), Error> {
        let set = match (is_v6, self) {
            (_, Self::Any) => return Ok(()),
            (true, _) => socket.set_multicast_if_v6(self.index()?),
            (false, Self::Address(address)) => socket.set_multicast_if_v4(address),
            (false, _) => {
                let index = self.index()?;
                rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                    socket,
                    &Ipv4Addr::UNSPECIFIED,
                    &Ipv4Addr::UNSPECIFIED,
                    index,
                )
                .map_err(Into::into)
            }
        };
        set.map_err(|error| Error::from_io("setsockopt", error).with_detail("IP_MULTICAST_IF"))
    }

    fn explain(&self, operation: &'static str, error: std::io::Error, group: IpAddr) -> Error {
        let error = Error::from_io(operation, error).with_address(group);
        let error = match self {
            Self::Any => error,
            _ => error.with_detail(format!("interface {self}")),
        };
        if !group.is_multicast() {
            return error
                .with_kind(ErrorKind::InvalidInput)
                .with_reason("that is no multicast group")
                .with_remedy("groups are 224.0.0.0 to 239.255.255.255, and ff00::/8");
        }
        match error.errno_name() {
            Some("ENODEV") => error
                .with_reason("no interface leads there")
                .with_remedy("name the interface, or add a route for multicast"),
            Some("ENOBUFS") => error
                .with_reason("this socket has joined too many groups")
                .with_remedy("raise net.ipv4.igmp_max_memberships, or use another socket"),
            Some("EADDRNOTAVAIL") => error.with_reason(
                "it has joined already, or was not a member, or there is no such interface",
            ),
            _ => error,
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => index.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Interface {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "parse")
                .with_reason("the interface is missing")
                .with_remedy("write its name, its number, or an IPv4 address that it has"));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        Ok(match text.parse() {
            Ok(index) => Self::Index(index),
            Err(_) => Self::Name(text.to_owned()),
        })
    }
}
