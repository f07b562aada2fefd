use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use rustix::net::Shutdown;
use sinew_core::{Error, TryRecvError};

use crate::unix::Message;
use crate::unix::packet::Inbox;

/// Packets that are dropped in a row before others have their turn.
const DISCARD: usize = 64;

/// The half of a [`Connection`](super::Connection) that receives: a `Stream` of [`Message`]s.
///
/// Where several packets wait, up to eight are received with one system call. Those that nobody has asked
/// for are dropped with the receiver.
///
/// A payload shares the memory of the block that it was received into, with others: copy small ones that
/// are kept for long.
///
/// # Ends
///
/// `None` once the peer has closed and everything was received; an error with
/// [`is_peer_crashed`](Error::is_peer_crashed) instead, if it went away without having read all that was
/// sent to it. An error that [`is_recoverable`](Error::is_recoverable) is about one message, and the
/// stream goes on; after another error it ends, and `recv` repeats the error.
///
/// Dropping the receiver has the peer's `send` fail.
pub struct Receiver {
    inbox: Inbox,
    failed: Option<Error>,
    yielded: bool,
    keep_open: bool,
}

impl Receiver {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            failed: None,
            yielded: false,
            keep_open: false,
        }
    }

    /// Receives the next message; `None` once the peer has closed and everything was received.
    ///
    /// # Errors
    ///
    /// See [*Ends*](Self#ends). Recoverable: for a message that is longer than
    /// [`max_message`](super::Options::max_message), that has more descriptors than
    /// [`max_fds`](super::Options::max_fds), or for whose descriptors this process has no numbers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        match self.inbox.try_recv() {
            None => Err(TryRecvError::Empty),
            Some(received) => match self.kept(received)? {
                Some(message) => Ok(message),
                None => Err(TryRecvError::Closed),
            },
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let received = ready!(self.inbox.poll_recv(cx));
        Poll::Ready(self.kept(received))
    }

    fn kept<T>(&mut self, received: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &received
            && !error.is_recoverable()
        {
            self.failed = Some(error.clone());
        }
        received
    }

    pub(super) fn keep_open(&mut self) {
        self.keep_open = true;
    }

    /// Drops what is there, and is woken for more.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) {
        for _ in 0..DISCARD {
            match self.poll_recv(cx) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Err(error)) if error.is_recoverable() => {}
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    pub(super) fn discard_now(&mut self) {
        for _ in 0..DISCARD {
            match self.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Failed(error)) if error.is_recoverable() => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let link = &self.inbox.link;
        if !self.keep_open && link.is_here() {
            let _gone = link.shutdown(Shutdown::Read);
        }
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
        Poll::Ready(item.transpose())
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
