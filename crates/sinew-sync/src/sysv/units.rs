use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Error, MessageSink, TryRecvError, TrySendError};

use super::operation::Operation;
use super::semaphore::Semaphore;
use crate::Acquired;
use crate::budget::proceed;

/// A stream of units: see [`Semaphore::into_stream`]. It ends when the set is removed, and after an error.
pub struct SemaphoreStream {
    semaphore: Semaphore,
    taking: Option<Operation>,
    ended: bool,
}

impl SemaphoreStream {
    pub(super) fn new(semaphore: Semaphore) -> Self {
        Self {
            semaphore,
            taking: None,
            ended: false,
        }
    }

    /// The semaphore.
    pub fn get_ref(&self) -> &Semaphore {
        &self.semaphore
    }

    /// Acquires a unit; `None` once the set was removed.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a unit is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Acquired>, Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_recv(cx)).await
    }

    /// Acquires a unit if there is one.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if there is none, [`Closed`](TryRecvError::Closed) once the set was
    /// removed, otherwise as for [`Semaphore::acquire`].
    pub fn try_recv(&mut self) -> Result<Acquired, TryRecvError> {
        match self.semaphore.try_acquire() {
            Ok(Some(permit)) => {
                permit.forget();
                Ok(Acquired)
            }
            Ok(None) => Err(TryRecvError::Empty),
            Err(error) if error.is_closed() => Err(TryRecvError::Closed),
            Err(error) => Err(error.into()),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Acquired>, Error>> {
        let taking = self.taking.get_or_insert_with(|| self.semaphore.taking());
        let taken = ready!(Pin::new(taking).poll(cx));
        self.taking = None;
        Poll::Ready(match taken {
            Ok(()) => Ok(Some(Acquired)),
            Err(error) if error.is_closed() => Ok(None),
            Err(error) => Err(error),
        })
    }
}

/// Ends the wait of a future that is dropped.
struct Waiting<'a>(&'a mut SemaphoreStream);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.taking = None;
    }
}

impl Stream for SemaphoreStream {
    type Item = Result<Acquired, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        if stream.ended {
            return Poll::Ready(None);
        }
        let item = ready!(stream.poll_recv(cx)).transpose();
        stream.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl fmt::Debug for SemaphoreStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SemaphoreStream")
            .field(&self.semaphore)
            .finish()
    }
}

/// A sink that gives units: see [`Semaphore::into_sink`].
///
/// It never waits. At [`Semaphore::MAX`] giving is an error, because the kernel tells nobody when there is
/// room again; the sink goes on.
#[derive(Debug)]
pub struct SemaphoreSink {
    semaphore: Semaphore,
}

impl SemaphoreSink {
    pub(super) fn new(semaphore: Semaphore) -> Self {
        Self { semaphore }
    }

    /// The semaphore.
    pub fn get_ref(&self) -> &Semaphore {
        &self.semaphore
    }

    /// Gives a unit.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::post`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it is given in the poll that says so.
    pub async fn send(&mut self, _: Acquired) -> Result<(), Error> {
        poll_fn(proceed).await;
        self.semaphore.post()
    }

    /// Gives a unit.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) at [`Semaphore::MAX`], otherwise as for [`Semaphore::post`].
    pub fn try_send(&mut self, unit: Acquired) -> Result<(), TrySendError<Acquired>> {
        match self.semaphore.post() {
            Ok(()) => Ok(()),
            Err(error) if error.errno() == Some(libc::ERANGE) => Err(TrySendError::Full(unit)),
            Err(error) => Err(TrySendError::failed(unit, error)),
        }
    }
}

impl Sink<Acquired> for SemaphoreSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        proceed(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, _: Acquired) -> Result<(), Error> {
        self.semaphore.post()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl MessageSink for SemaphoreSink {
    type Native = Acquired;
}
