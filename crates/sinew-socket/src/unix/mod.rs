//! Unix domain sockets: streams, datagrams and packets, at paths and abstract names, with descriptors
//! and credentials. See [unix(7)].
//!
//! | module | boundaries | order | connected | largest message |
//! |---|---|---|---|---|
//! | [`stream`] | made by a framing | yes | yes | 16 MiB, configurable |
//! | [`seqpacket`] | kept by the kernel | yes | yes | the send buffer, 208 KiB by default |
//! | [`datagram`] | kept by the kernel | yes, and nothing is lost | no, or yes | likewise |
//!
//! All three carry up to 253 descriptors with a message, and can tell who sent each. At a path, the
//! permissions of the file say who may connect; an abstract name has none, so that listeners there admit
//! the same user and root unless they are told otherwise. (A *datagram* socket with an abstract name
//! has nobody to ask: everybody in the network namespace can send to it. Ask for credentials.)
//!
//! # Descriptors
//!
//! Descriptors that arrive are close-on-exec. Those that a receiver does not allow
//! (`max_fds`), or for which this process has no number left, are closed, and in
//! place of their message there is an error that [`is_recoverable`](sinew_core::Error::is_recoverable):
//! a message is never delivered without its descriptors.
//!
//! [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html

pub mod datagram;
pub mod seqpacket;
pub mod stream;

mod inherited;
mod listener;
mod message;
mod packet;
mod policy;
pub(crate) mod refusal;
mod socket;
pub(crate) mod unread;

use std::os::unix::ffi::OsStrExt;

use rustix::net::SocketAddrUnix;

pub use inherited::{Inherited, inherited_listeners};
pub use message::Message;
pub(crate) use packet::too_long;
pub use sinew_core::UnixEndpoint as Endpoint;
pub(crate) use socket::set_nonblocking;

/// An address as the kernel tells it; `None` for a socket without one.
fn endpoint_of(address: &SocketAddrUnix) -> Option<Endpoint> {
    if let Some(name) = address.abstract_name() {
        return Some(Endpoint::Abstract(name.to_vec()));
    }
    let path = address.path()?;
    let path = std::ffi::OsStr::from_bytes(path.to_bytes());
    Some(Endpoint::Path(path.into()))
}
