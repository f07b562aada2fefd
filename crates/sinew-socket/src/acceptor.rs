//! Accepting connections: what the listeners of every kind share.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SocketAddrAny, SocketFlags};
use sinew_core::{AsyncIo, Error, ErrorKind};
use tokio::io::Interest;

use crate::backoff::Backoff;
use crate::failure;

/// Flags of every socket made here.
pub(crate) const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// For how long a listener that finds no descriptor free leaves the next peer waiting: at first, and at
/// most.
const SHORTAGE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

pub(crate) struct Acceptor {
    pub(crate) socket: AsyncIo<OwnedFd>,
    pub(crate) address: Arc<str>,
    backoff: Backoff,
    failed: Option<Error>,
    yielded: bool,
}

pub(crate) type Accepted = (OwnedFd, Option<SocketAddrAny>);

impl Acceptor {
    /// Of a socket that listens, in non-blocking mode.
    pub(crate) fn new(socket: OwnedFd, address: impl Into<Arc<str>>) -> Result<Self, Error> {
        Ok(Self {
            socket: AsyncIo::with_interest(socket, Interest::READABLE)?,
            address: address.into(),
            backoff: Backoff::new(SHORTAGE.0, SHORTAGE.1),
            failed: None,
            yielded: false,
        })
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        ready!(self.backoff.poll_over(cx));
        loop {
            let accepted = self.socket.poll_read_with(cx, |socket| {
                rustix::net::acceptfrom_with(socket, FLAGS).map_err(io::Error::from)
            });
            match ready!(accepted) {
                Ok(peer) => {
                    self.backoff.succeeded();
                    return Poll::Ready(Ok(peer));
                }
                Err(error) if failure::is_of_connection(&error) => {}
                Err(error) if failure::is_shortage(&error) => {
                    self.backoff.failed()?;
                    let error = Error::from_io("accept", error).with_address(&self.address);
                    // The peer waits in the backlog, and accepting goes on.
                    return Poll::Ready(Err(error.with_kind(ErrorKind::Lost)));
                }
                Err(error) => {
                    let error = Error::from_io("accept", error).with_address(&self.address);
                    self.failed = Some(error.clone());
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// As the item of a stream, which ends after an error that is final.
    pub(crate) fn item<T>(
        &mut self,
        accepted: Poll<Result<T, Error>>,
    ) -> Poll<Option<Result<T, Error>>> {
        if self.yielded {
            return Poll::Ready(None);
        }
        if accepted.is_ready() && self.failed.is_some() {
            self.yielded = true;
        }
        accepted.map(Some)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("address", &self.address)
            .field("socket", &self.socket)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
