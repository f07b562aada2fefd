//! Units as items.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Attributes, Error, Message, MessageSink, TryRecvError};

use super::Semaphore;

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

type Taking = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

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
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))
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
}

impl Sink<Acquired> for SemaphoreSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
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
