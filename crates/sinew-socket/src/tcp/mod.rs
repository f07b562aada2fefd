//! TCP: streams of bytes with messages framed on them, between hosts. See [tcp(7)].
//!
//! A [`Connection`] frames by [`Framing`](sinew_core::Framing): lines, or length and payload. As
//! [`ByteStream`] it is an `AsyncRead + AsyncWrite` for any codec of `tokio-util`, and for everything else
//! that runs on one.
//!
//! Hosts are given as text (`localhost:9000`, `127.0.0.1:9000`, `[::1]:9000`) or as a
//! [`SocketAddr`](std::net::SocketAddr). Names are resolved without blocking, and all of a name's addresses are
//! tried. A listener at `[::]` accepts IPv4 as well, unless it is [told not to](Options::only_v6).
//!
//! [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html

mod bytes;
mod connect;
mod connection;
mod io;
mod listener;
mod options;
mod receiver;
mod sender;

pub use bytes::ByteStream;
pub use connection::{Connection, connect};
pub use listener::Listener;
pub use options::{Keepalive, Options};
pub use receiver::Receiver;
pub use sender::Sender;
