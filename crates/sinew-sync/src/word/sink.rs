use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_sink::Sink;
use sinew_core::{Error, MessageSink};

use super::WordValue;
use crate::budget::proceed;
use crate::driver::Word;
use crate::sys;

/// A sink that stores each item in a word, and wakes all that wait for it.
///
/// It never waits. A value that was not looked at before the next is stored is not seen by anybody: see
/// [`WordStream`](super::WordStream#changes-that-merge).
#[derive(Debug)]
pub struct WordSink {
    word: Word,
}

impl WordSink {
    /// Stores in this word.
    pub fn new(word: Word) -> Self {
        Self { word }
    }

    /// The word.
    pub fn get_ref(&self) -> &Word {
        &self.word
    }

    /// Stores a value, and wakes.
    ///
    /// # Errors
    ///
    /// None at present.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it is stored in the poll that says so.
    pub async fn send(&mut self, value: impl Into<WordValue>) -> Result<(), Error> {
        poll_fn(proceed).await;
        self.store(value.into());
        Ok(())
    }

    /// Stores a value, and wakes. There always is room.
    ///
    /// # Errors
    ///
    /// None.
    pub fn try_send(&mut self, value: impl Into<WordValue>) -> Result<(), Infallible> {
        self.store(value.into());
        Ok(())
    }

    fn store(&self, WordValue(value): WordValue) {
        self.word.store(value, Ordering::Release);
        sys::wake(&self.word, u32::MAX);
    }
}

impl Sink<WordValue> for WordSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        proceed(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, value: WordValue) -> Result<(), Error> {
        self.store(value);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl MessageSink for WordSink {
    type Native = WordValue;
}
