use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sinew_core::{BoundPath, Error, ErrorKind, TryRecvError};

use crate::unix::Message;
use crate::unix::packet::Inbox;

/// The half of a [`Socket`](super::Socket) that receives: a `Stream` of [`Message`]s without an end.
///
/// Where several datagrams wait, up to eight are received with one system call. Those that nobody has asked
/// for are dropped with the receiver.
///
/// A payload shares the memory of the block that it was received into, with others: copy small ones that
/// are kept for long.
///
/// An error that [`is_recoverable`](Error::is_recoverable) is about one message, and the stream goes on;
/// after another error it ends, and `recv` repeats the error.
pub struct Receiver {
    _path: Option<Arc<BoundPath>>,
    inbox: Inbox,
    failed: Option<Error>,
    yielded: bool,
}

impl Receiver {
    pub(super) fn new(path: Option<Arc<BoundPath>>, inbox: Inbox) -> Self {
        Self {
            _path: path,
            inbox,
            failed: None,
            yielded: false,
        }
    }

    /// Receives the next message.
    ///
    /// # Errors
    ///
    /// [Recoverable](Error::is_recoverable): for a message that is longer than
    /// [`max_message`](super::Options::max_message), that has more descriptors than
    /// [`max_fds`](super::Options::max_fds), or for whose descriptors this process has no numbers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        match self.inbox.try_recv() {
            None => Err(TryRecvError::Empty),
            Some(received) => Ok(self.kept(received)?),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let received = ready!(self.inbox.poll_recv(cx));
        Poll::Ready(self.kept(received))
    }

    fn kept(&mut self, received: Result<Option<Message>, Error>) -> Result<Message, Error> {
        let error = match received {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => self
                .inbox
                .link
                .named(Error::new(ErrorKind::Closed, "recv").with_reason("it was shut down")),
            Err(error) => error,
        };
        if !error.is_recoverable() {
            self.failed = Some(error.clone());
        }
        Err(error)
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.yielded {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx));
        receiver.yielded = receiver.failed.is_some();
        Poll::Ready(Some(item))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.link.socket()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.inbox.link.address)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
