//! UDP: datagrams between hosts, with multicast and broadcast. See [udp(7)].
//!
//! A datagram can be lost, doubled or overtaken on its way, and nothing tells (but for what
//! [`Socket`] says of ICMP). There is no end: a receiver waits for the next sender when the last has gone.
//! A socket at `[::]` receives over IPv4 as well, unless it is [told not to](Options::only_v6).
//!
//! # Multicast
//!
//! [`Options::bind_multicast`] receives what is sent to a group, and nothing else; several sockets of a
//! machine can do so at once, and each gets everything. Any socket can send to a group:
//! [`interface`](Options::interface), [`ttl`](Options::ttl) and [`loopback`](Options::loopback) say how
//! far that goes.
//!
//! [udp(7)]: https://man7.org/linux/man-pages/man7/udp.7.html

mod interface;
mod message;
mod options;
mod receiver;
mod sender;
mod socket;

pub use interface::Interface;
pub use message::Message;
pub use options::Options;
pub use receiver::Receiver;
pub use sender::Sender;
pub use socket::Socket;
