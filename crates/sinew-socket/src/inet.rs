//! Hosts and ports: what TCP and UDP share.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use sinew_core::{Error, ErrorKind, thread};
use socket2::Socket;

/// All addresses of `host:port`, without blocking.
pub(crate) async fn resolve(text: &str, operation: &'static str) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let name = text.to_owned();
    let lookup = move || name.to_socket_addrs().map(Iterator::collect);
    let found = thread::run("sinew-resolver", lookup)
        .await
        .map_err(|error| error.with_address(text))?;
    found.map_err(|error| unresolved(error, text, operation))
}

fn unresolved(error: io::Error, text: &str, operation: &'static str) -> Error {
    let reason = error.to_string();
    Error::new(ErrorKind::InvalidInput, operation)
        .with_address(text)
        .with_reason(format!("the host cannot be resolved: {reason}"))
        .with_remedy(
            "write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`, and check the name",
        )
        .with_source(error)
}

/// The error of a name that has no address at all.
pub(crate) fn no_address(text: &str, operation: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, operation)
        .with_address(text)
        .with_reason("there is no address")
}

pub(crate) fn inet_addr(
    address: Result<Option<SocketAddrAny>, Errno>,
    operation: &'static str,
) -> Result<Option<SocketAddr>, Error> {
    let address =
        address.map_err(|errno| Error::from_raw_os_error(operation, errno.raw_os_error()))?;
    Ok(address.and_then(|address| SocketAddr::try_from(address).ok()))
}

pub(crate) fn bind_inet(
    socket: &Socket,
    address: SocketAddr,
    remedy: &'static str,
) -> Result<(), Error> {
    socket.bind(&address.into()).map_err(|error| {
        let errno = Errno::from_io_error(&error);
        let error = Error::from_io("bind", error).with_address(address);
        match errno {
            Some(Errno::ADDRINUSE) => error.with_reason("the port is in use").with_remedy(remedy),
            Some(Errno::ACCESS) => error
                .with_reason(
                    "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
                )
                .with_remedy("use a higher port"),
            _ => error,
        }
    })
}
