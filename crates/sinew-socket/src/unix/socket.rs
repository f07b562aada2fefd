//! Making and preparing Unix sockets.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use sinew_core::time::sleep;
use sinew_core::{Error, ErrorKind, UnixEndpoint};
use tokio::time::Instant;

use crate::acceptor::FLAGS;
use crate::failure;

/// Between two looks whether a listener has come, or has room.
const RETRY: Duration = Duration::from_millis(5);

/// How sockets are prepared before they are bound or connected.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) credentials: bool,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) recv_buffer: Option<usize>,
}

fn option(name: &'static str, errno: Errno) -> Error {
    Error::from_raw_os_error("setsockopt", errno.raw_os_error()).with_detail(name)
}

impl Setup {
    pub(crate) fn socket(&self, kind: SocketType) -> Result<OwnedFd, Error> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, FLAGS, None)
            .map_err(|errno| Error::from_raw_os_error("socket", errno.raw_os_error()))?;
        self.apply(&socket)?;
        Ok(socket)
    }

    pub(crate) fn pair(&self, kind: SocketType) -> Result<(OwnedFd, OwnedFd), Error> {
        let (left, right) = rustix::net::socketpair(AddressFamily::UNIX, kind, FLAGS, None)
            .map_err(|errno| Error::from_raw_os_error("socketpair", errno.raw_os_error()))?;
        self.apply(&left)?;
        self.apply(&right)?;
        Ok((left, right))
    }

    /// Buffers, and the credentials of each message.
    pub(crate) fn apply(&self, socket: impl AsFd) -> Result<(), Error> {
        let socket = socket.as_fd();
        if self.credentials {
            sockopt::set_socket_passcred(socket, true)
                .map_err(|errno| option("SO_PASSCRED", errno))?;
        }
        if let Some(bytes) = self.send_buffer {
            sockopt::set_socket_send_buffer_size(socket, bytes)
                .map_err(|errno| option("SO_SNDBUF", errno))?;
        }
        if let Some(bytes) = self.recv_buffer {
            sockopt::set_socket_recv_buffer_size(socket, bytes)
                .map_err(|errno| option("SO_RCVBUF", errno))?;
        }
        Ok(())
    }

    /// Connects a new socket, waiting for the listener where it is to be waited for.
    pub(crate) async fn connect(
        &self,
        kind: SocketType,
        endpoint: &UnixEndpoint,
        patience: Option<Duration>,
    ) -> Result<OwnedFd, Error> {
        let addr = endpoint.to_socket_addr("connect")?;
        let begun = Instant::now();
        loop {
            let socket = self
                .socket(kind)
                .map_err(|error| error.with_address(endpoint))?;
            let errno = match rustix::net::connect(&socket, &addr) {
                Ok(()) => return Ok(socket),
                Err(errno) => errno,
            };
            let patience = match errno {
                Errno::INTR => continue,
                // Of these, EAGAIN says that it lives, and its backlog is full.
                Errno::AGAIN => patience.unwrap_or(Duration::from_secs(5)),
                Errno::NOENT | Errno::CONNREFUSED => patience.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            if begun.elapsed() >= patience {
                let error = failure::of_connect(failure::system("connect", errno, endpoint));
                return Err(if patience.is_zero() {
                    error
                } else {
                    error.with_detail(format!("waited {patience:?}"))
                });
            }
            sleep(RETRY)?.await;
        }
    }
}

/// Makes sure that a descriptor is a Unix socket of this type, and one that listens non-blocking.
pub(crate) fn check(
    socket: impl AsFd,
    kind: SocketType,
    listening: Option<bool>,
    operation: &'static str,
) -> Result<(), Error> {
    let socket = socket.as_fd();
    let is_right = sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(kind)
        && listening.is_none_or(|listening| sockopt::socket_acceptconn(socket) == Ok(listening));
    if is_right {
        return match listening {
            Some(true) => set_nonblocking(socket, operation),
            // Other processes may share it, and their calls would fail with EAGAIN.
            _ => Ok(()),
        };
    }
    let name = match kind {
        SocketType::STREAM => "SOCK_STREAM",
        SocketType::DGRAM => "SOCK_DGRAM",
        _ => "SOCK_SEQPACKET",
    };
    let listens = match listening {
        Some(true) => ", listening",
        Some(false) => ", not listening",
        None => "",
    };
    Err(
        Error::new(ErrorKind::InvalidInput, operation).with_reason(format!(
            "the descriptor is no unix socket of type {name}{listens}"
        )),
    )
}

/// For accept; everything else carries `MSG_DONTWAIT`.
pub(crate) fn set_nonblocking(socket: impl AsFd, operation: &'static str) -> Result<(), Error> {
    rustix::io::ioctl_fionbio(socket, true)
        .map_err(|errno| Error::from_raw_os_error(operation, errno.raw_os_error()))
}
