//! What the errors of sockets mean.

use std::fmt::Display;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use sinew_core::{Error, ErrorKind};

fn errno(error: &Error) -> Option<Errno> {
    error.errno().map(Errno::from_raw_os_error)
}

/// An error of a system call on what is named `address`.
pub(crate) fn system(operation: &'static str, errno: Errno, address: &dyn Display) -> Error {
    Error::from_raw_os_error(operation, errno.raw_os_error()).with_address(address)
}

/// An error of a connection: the peer that is gone, or does not answer any more, has crashed.
pub(crate) fn of_connection(operation: &'static str, error: io::Error) -> Error {
    let error = Error::from_io(operation, error);
    match errno(&error) {
        Some(Errno::CONNRESET) => error
            .with_kind(ErrorKind::PeerCrashed)
            .with_reason("the peer died, or closed before it had read all that it was sent"),
        Some(Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETRESET) => error
            .with_kind(ErrorKind::PeerCrashed)
            .with_reason("the peer does not answer any more"),
        Some(Errno::PIPE) => error
            .with_kind(ErrorKind::Closed)
            .with_reason("the peer does not receive any more"),
        Some(Errno::TOOMANYREFS) => too_many_in_flight(error),
        _ => error,
    }
}

fn too_many_in_flight(error: Error) -> Error {
    error
        .with_reason(
            "this user has more descriptors on their way through sockets than a process can have open",
        )
        .with_remedy("wait until some were received, or raise RLIMIT_NOFILE (ulimit -n)")
}

/// An error of sending a packet or a datagram of `len` bytes.
pub(crate) fn of_packet(
    error: io::Error,
    socket: BorrowedFd<'_>,
    len: usize,
    address: &dyn Display,
) -> Error {
    let error = of_connection("send", error);
    let error = match error.address() {
        Some(_) => error,
        None => error.with_address(address),
    };
    match errno(&error) {
        Some(Errno::MSGSIZE) => {
            let error = error.with_detail(format!("{len} bytes"));
            match sockopt::socket_domain(socket) {
                Ok(rustix::net::AddressFamily::UNIX) => {
                    let room = sockopt::socket_send_buffer_size(socket).unwrap_or(0);
                    error
                        .with_reason(format!("the send buffer has {room} bytes"))
                        .with_remedy(
                            "send less in one message, or raise send_buffer, for which net.core.wmem_max is the limit",
                        )
                }
                _ => error
                    .with_reason("a datagram of UDP has at most 65,507 bytes over IPv4")
                    .with_remedy("send less in one message"),
            }
        }
        Some(Errno::NOTCONN | Errno::DESTADDRREQ) => error
            .with_kind(ErrorKind::InvalidInput)
            .with_reason("the message has no address, and the socket is not connected")
            .with_remedy("give the message an address, or connect the socket"),
        Some(Errno::ISCONN) => error
            .with_kind(ErrorKind::InvalidInput)
            .with_reason("the message has an address, and the socket is connected")
            .with_remedy("leave the address away"),
        _ => error,
    }
}

/// An error of connecting, or of resolving a name.
pub(crate) fn of_connect(error: Error) -> Error {
    match errno(&error) {
        // A thread that could not be started, for one.
        _ if error.operation() != "connect" => error,
        Some(Errno::NOENT) => error
            .with_reason("there is no such socket")
            .with_remedy("start the listener first, or wait for it"),
        Some(Errno::CONNREFUSED) => error
            .with_reason("nobody listens there")
            .with_remedy("start the listener first, or wait for it"),
        Some(Errno::AGAIN) => error
            .with_reason("the listener's backlog is full")
            .with_remedy("try again later; the listener accepts too slowly"),
        Some(Errno::PROTOTYPE) => error
            .with_reason("the socket there is of another type")
            .with_remedy("check the address: stream, datagram and seqpacket do not mix"),
        Some(Errno::PERM) => error
            .with_reason("the socket there is connected, and hears its peer alone")
            .with_remedy("use the address of a socket that is not connected"),
        _ => error,
    }
}

/// The errors after which a listener goes on once something was freed.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// The errors of accept(2) that are the connection's, not the listener's: there is a next one.
pub(crate) fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::PERM
        )
    )
}
