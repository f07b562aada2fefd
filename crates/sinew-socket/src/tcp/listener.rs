use std::fmt::{self, Display};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sinew_core::Error;

use super::{Connection, Options};
use crate::acceptor::Acceptor;

/// Accepts connections: a `Stream` of [`Connection`]s.
pub struct Listener {
    acceptor: Acceptor,
    local: SocketAddr,
    options: Options,
}

impl Listener {
    pub(super) fn new(socket: OwnedFd, options: &Options) -> Result<Self, Error> {
        let local = crate::inet_addr(rustix::net::getsockname(&socket).map(Some), "getsockname")?
            .ok_or_else(|| crate::no_address("inherited", "getsockname"))?;
        Ok(Self {
            acceptor: Acceptor::new(socket, local.to_string())?,
            local,
            options: options.clone(),
        })
    }

    /// Listens with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::bind`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::bind`].
    pub async fn bind(address: impl Display) -> Result<Self, Error> {
        Options::new().bind(address).await
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM`: these are
    /// [recoverable](Error::is_recoverable), the peer waits, and the next call tries again after a
    /// while (5 ms at first, half a second at most).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection is accepted in the poll that returns it.
    pub async fn accept(&mut self) -> Result<Connection, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Where it listens, with the port that was chosen for 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connection, Error>> {
        loop {
            let (socket, from) = ready!(self.acceptor.poll_accept(cx))?;
            let address: Arc<str> = match from.and_then(|from| SocketAddr::try_from(from).ok()) {
                Some(from) => from.to_string().into(),
                None => self.acceptor.address.clone(),
            };
            match self.options.connection(socket, address.clone()) {
                Ok(connection) => return Poll::Ready(Ok(connection)),
                // It has gone again already.
                Err(error) if error.operation() == "getpeername" => {
                    tracing::debug!(address = &*address, %error, "peer was gone");
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Stream for Listener {
    type Item = Result<Connection, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.get_mut();
        let accepted = listener.poll_accept(cx);
        listener.acceptor.item(accepted)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.acceptor.socket.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
