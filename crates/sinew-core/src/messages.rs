use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message, MessageSink, MessageStream};

/// A receiver or a sender of any mechanism, seen as a stream or a sink of [`Message`]s.
///
/// It is made by [`MessageStream::into_messages`] and [`MessageSink::into_messages`]. A type that is
/// both a stream and a sink has both methods, so name it here: [`Messages::new`].
#[derive(Debug)]
pub struct Messages<T> {
    inner: T,
}

impl<T> Messages<T> {
    /// Wraps a receiver, a sender, or something that is both.
    pub fn new(inner: T) -> Self {
        Self { inner }
    }

    /// The receiver or sender inside.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The receiver or sender inside.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The receiver or sender again. Nothing is buffered in between.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<S: MessageStream + Unpin> Stream for Messages<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner)
            .poll_next(cx)
            .map(|item| item.map(|result| result.map(Into::into)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<S: MessageSink + Unpin> Sink<Message> for Messages<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let native = S::Native::try_from(message).map_err(Into::into)?;
        Pin::new(&mut self.inner).start_send(native)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
