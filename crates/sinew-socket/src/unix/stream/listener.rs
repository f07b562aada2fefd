use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sinew_core::{Error, UnixEndpoint};

use super::{Connection, Options};
use crate::unix::listener::Admission;

/// Accepts connections at a path or an abstract name: a `Stream` of [`Connection`]s.
///
/// Binding takes the path of a listener that died, and never that of one that lives. Dropping the
/// listener removes its path; connections that were accepted live on. A peer that the policy does
/// not admit is turned away, counted in [`rejected`](Self::rejected) and traced. It is told so by a
/// byte out of band: what it does with the connection fails with an error of kind
/// [`Refused`](sinew_core::ErrorKind::Refused).
pub struct Listener {
    admission: Admission,
    options: Options,
}

impl Listener {
    pub(super) fn new(admission: Admission, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            admission,
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
    pub async fn bind(endpoint: impl Into<UnixEndpoint>) -> Result<Self, Error> {
        Options::new().bind(endpoint).await
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

    /// Where it listens; `None` for an inherited socket without an address.
    pub fn endpoint(&self) -> Option<&UnixEndpoint> {
        self.admission.endpoint.as_ref()
    }

    /// How many peers were turned away so far.
    pub fn rejected(&self) -> u64 {
        self.admission.rejected
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connection, Error>> {
        let (socket, _) = ready!(self.admission.poll_accept(cx))?;
        let address = self.admission.acceptor.address.clone();
        Poll::Ready(self.options.connection(socket, address))
    }
}

impl Stream for Listener {
    type Item = Result<Connection, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.get_mut();
        let accepted = listener.poll_accept(cx);
        listener.admission.acceptor.item(accepted)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.admission.acceptor.socket.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("endpoint", &self.admission.endpoint)
            .field("rejected", &self.admission.rejected)
            .finish_non_exhaustive()
    }
}
