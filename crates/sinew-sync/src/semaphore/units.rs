//! Units as items.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Attributes, Error, Message, MessageSink, TryRecvError, TrySendError};

use super::Semaphore;
use crate::budget::proceed;

/// A unit that was acquired, or is to be posted.
///
/// As a [`Message`] it is empty; a message that has a payload or attributes is no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acquired;

impl From<Acquired> for Message {
    fn from(_: Acquired) -> Self {
        Self::new("")
    }
}

impl TryFrom<Message> for Acquired {
    type Error = Error;

    /// Any payload stands for a unit: what a semaphore carries is that something has come.
    fn try_from(message: Message) -> Result<Self, Error> {
        message.require_support("sem_post", Attributes::NONE)?;
        Ok(Self)
    }
}

type Taking = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + Sync>>;

/// A stream of units: see [`Semaphore::into_stream`]. It does not end by itself.
pub struct SemaphoreStream {
    semaphore: Semaphore,
    taking: Option<Taking>,
}

impl SemaphoreStream {
    pub(super) fn new(semaphore: Semaphore) -> Self {
        Self {
            semaphore,
            taking: None,
        }
    }

    /// The semaphore.
    pub fn get_ref(&self) -> &Semaphore {
        &self.semaphore
    }

    /// Acquires a unit.
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
        poll_fn(|cx| Pin::new(&mut *waiting.0).poll_next(cx))
            .await
            .transpose()
    }

    /// Acquires a unit if there is one.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if there is none.
    pub fn try_recv(&mut self) -> Result<Acquired, TryRecvError> {
        match self.semaphore.try_acquire() {
            Some(permit) => {
                permit.forget();
                Ok(Acquired)
            }
            None => Err(TryRecvError::Empty),
        }
    }
}

/// Ends the wait of a future that is dropped: a wake-up that it got would help nobody.
struct Waiting<'a>(&'a mut SemaphoreStream);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.taking = None;
    }
}

impl Stream for SemaphoreStream {
    type Item = Result<Acquired, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let taking = this.taking.get_or_insert_with(|| {
            let semaphore = this.semaphore.clone();
            Box::pin(async move { semaphore.take().await })
        });
        let taken = ready!(taking.as_mut().poll(cx));
        this.taking = None;
        Poll::Ready(Some(taken.map(|()| Acquired)))
    }
}

impl fmt::Debug for SemaphoreStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SemaphoreStream")
            .field(&self.semaphore)
            .finish()
    }
}

/// A sink that posts: see [`Semaphore::into_sink`]. Posting never waits.
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

    /// Posts a unit.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::post`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it is posted in the poll that says so.
    pub async fn send(&mut self, _: Acquired) -> Result<(), Error> {
        poll_fn(proceed).await;
        self.semaphore.post()
    }

    /// Posts a unit.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) at [`Semaphore::MAX`].
    pub fn try_send(&mut self, unit: Acquired) -> Result<(), TrySendError<Acquired>> {
        self.semaphore.post().map_err(|_| TrySendError::Full(unit))
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
