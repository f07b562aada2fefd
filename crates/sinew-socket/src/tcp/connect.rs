//! Connecting, to one after the other of a name's addresses.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use sinew_core::time;
use sinew_core::{AsyncIo, Error, ErrorKind};
use tokio::time::Instant;

use super::{Connection, Options};
use crate::failure;

/// Between two attempts, while nobody listens.
const RETRY: Duration = Duration::from_millis(10);

impl Options {
    /// Connects to a listener.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` if nobody listens there (at once, or after
    /// [`wait_for_listener`](Self::wait_for_listener)), of kind [`TimedOut`](ErrorKind::TimedOut) if
    /// nobody answers within [`connect_timeout`](Self::connect_timeout), `EHOSTUNREACH` or
    /// `ENETUNREACH`; of kind [`InvalidInput`](ErrorKind::InvalidInput) if the host cannot be resolved.
    /// Where a name has several addresses, it is the error of the last.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves no connection behind.
    pub async fn connect(&self, address: impl Display) -> Result<Connection, Error> {
        let text = address.to_string();
        let begun = Instant::now();
        loop {
            let left = self.connect_timeout.saturating_sub(begun.elapsed());
            let attempt = time::timeout(left, self.connect_any(&text));
            let error = match attempt.await? {
                Some(Ok((socket, address))) => {
                    return self.connection(socket, address.to_string().into());
                }
                Some(Err(error)) => error,
                None => {
                    return Err(Error::new(ErrorKind::TimedOut, "connect")
                        .with_address(&text)
                        .with_reason(format!("nobody answered within {:?}", self.connect_timeout))
                        .with_remedy(
                            "check the address and the firewalls, or raise connect_timeout",
                        ));
                }
            };
            let refused = error.errno() == Some(Errno::CONNREFUSED.raw_os_error());
            let patience = self.wait_for_listener.unwrap_or_default();
            if !refused || begun.elapsed() >= patience {
                let error = failure::of_connect(error.with_address(&text));
                return Err(match refused && !patience.is_zero() {
                    true => error.with_detail(format!("waited {patience:?}")),
                    false => error,
                });
            }
            time::sleep(RETRY)?.await;
        }
    }

    async fn connect_any(&self, text: &str) -> Result<(OwnedFd, SocketAddr), Error> {
        let mut failed = None;
        for address in crate::resolve(text, "connect").await? {
            match self.connect_to(address).await {
                Ok(socket) => return Ok((socket, address)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| crate::no_address(text, "connect")))
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<OwnedFd, Error> {
        let socket = self.socket(address)?;
        if let Some(local) = self.local_for(address) {
            crate::bind_inet(&socket, local, "use another port, or 0 for any")?;
        }
        let connect = |error| {
            let error = Error::from_io("connect", error);
            match error.errno().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN | Errno::ADDRNOTAVAIL) => error
                    .with_reason(
                        "no local port is free, or the local address is not this machine's",
                    )
                    .with_remedy("close connections, or widen net.ipv4.ip_local_port_range"),
                _ => error,
            }
        };
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {
                let waiting = AsyncIo::new(OwnedFd::from(socket))?;
                let connected = waiting.write_with(|socket| {
                    match sockopt::socket_error(socket)? {
                        Ok(()) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    match rustix::net::getpeername(socket) {
                        Ok(_) => Ok(()),
                        Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
                        Err(errno) => Err(errno.into()),
                    }
                });
                connected.await.map_err(connect)?;
                return Ok(waiting.into_inner());
            }
            Err(error) => return Err(connect(error)),
        }
        Ok(socket.into())
    }
}
