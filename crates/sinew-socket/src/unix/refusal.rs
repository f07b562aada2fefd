//! Telling a peer that it is not admitted.
//!
//! A connection that is just closed looks like one whose peer has died. So a byte out of band
//! (`MSG_OOB` of recv(2), Linux 5.15) goes before the end of a stream, which is no message to a
//! foreign peer: it does not read it unless it asks for such bytes. A Sinew peer has it inline
//! (`SO_OOBINLINE`), where it stays at the head of what is to be read. Packets have nothing of this
//! kind.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, sockopt};
use sinew_core::{Error, ErrorKind};

use crate::link::SEND;
use crate::sys;

/// Tells the peer of a stream that it is not admitted. The socket is to be closed then.
pub(crate) fn tell(socket: &OwnedFd) {
    let _not_a_stream = rustix::net::send(socket, b"!", SEND | SendFlags::OOB);
}

/// Has the socket of an end that has connected keep what [`tell`] sends. Without this, which no
/// kernel refuses, it would not be told.
pub(crate) fn expect(socket: &OwnedFd) {
    let _as_before = sockopt::set_socket_oobinline(socket, true);
}

/// Whether this end was told that it is not admitted, before it was told anything else.
pub(crate) fn was_told(socket: impl AsFd) -> bool {
    let socket = socket.as_fd();
    // Not asked by a read, which would take the kernel's word of a reset away.
    sys::is_at_mark(socket) && sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
}

/// For a read that finds it.
pub(crate) fn errno() -> io::Error {
    Errno::CONNREFUSED.into()
}

pub(crate) fn error(operation: &'static str) -> Error {
    Error::new(ErrorKind::Refused, operation)
        .with_reason("the listener's policy does not admit this user or process")
        .with_remedy("run as a user that the listener admits, or change its policy")
}
