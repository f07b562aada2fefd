//! Hosts and ports: what TCP and UDP share.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use sinew_core::{Error, ErrorKind, thread};
use socket2::Socket;

/// All addresses of `host:port`, without blocking.
pub(crate) async fn resolve(text: &str, operation: &'static str) -> Result<Vec<SocketAddr>, Error> {
    if let Some(address) = parse_addr(text) {
        return Ok(vec![address.map_err(|error| match error.address() {
            Some(_) => error,
            None => error.with_address(text),
        })?]);
    }
    let name = text.to_owned();
    let lookup = move || name.to_socket_addrs().map(Iterator::collect);
    let found = thread::run("sinew-resolver", lookup)
        .await
        .map_err(|error| error.with_address(text))?;
    found.map_err(|error| unresolved(error, text, operation))
}

/// Parses an IP address and a port, which need no resolver: `127.0.0.1:9000`, `[::1]:9000`, or
/// `[fe80::1%eth0]:9000` with the name or the number of an interface, the zone of [RFC 4007].
/// `None` if the text is something else.
///
/// # Errors
///
/// `ENODEV` if there is no such interface; of kind [`InvalidInput`](ErrorKind::InvalidInput) for a
/// link-local address without one.
///
/// [RFC 4007]: https://www.rfc-editor.org/rfc/rfc4007#section-11
pub fn parse_addr(text: &str) -> Option<Result<SocketAddr, Error>> {
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) => {
            let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
            let (ip, zone) = host.split_once('%')?;
            let (ip, port) = (ip.parse().ok()?, port.parse().ok()?);
            match index_of(zone) {
                Ok(index) => SocketAddrV6::new(ip, port, 0, index).into(),
                Err(error) => return Some(Err(error)),
            }
        }
    };
    if let SocketAddr::V6(v6) = address
        && v6.ip().is_unicast_link_local()
        && v6.scope_id() == 0
    {
        return Some(Err(Error::new(ErrorKind::InvalidInput, "resolve")
            .with_reason("a link-local address needs the interface on which it is meant")
            .with_remedy(format!(
                "append a percent sign and its name, as in `[{}%eth0]` (`%25eth0` in an address \
                 with a scheme)",
                v6.ip()
            ))));
    }
    Some(Ok(address))
}

/// The number of a network interface, by its name.
pub(crate) fn index_of(name: &str) -> Result<u32, Error> {
    let failed = |operation: &'static str| {
        move |errno: Errno| Error::from_raw_os_error(operation, errno.raw_os_error())
    };
    // Any socket will do, and this kind exists wherever Sinew runs.
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed("socket"))?;
    name_to_index(socket, name).map_err(|errno| {
        failed("ioctl(SIOCGIFINDEX)")(errno)
            .with_address(name)
            .with_kind(ErrorKind::InvalidInput)
            .with_reason("there is no such network interface")
            .with_remedy("see `ip link` for those that there are")
    })
}

/// Whether a multicast address means another group on each interface: those of interface and link
/// scope.
pub(crate) fn is_scoped_group(ip: &Ipv6Addr) -> bool {
    ip.is_multicast() && matches!(ip.segments()[0] & 0xf, 1 | 2)
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
