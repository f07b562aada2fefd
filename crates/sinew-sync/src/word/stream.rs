use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sinew_core::{Error, TryRecvError};
use tokio::task::coop;

use super::WordValue;
use crate::driver::{Driver, Wait, Word};

/// A stream of the values that a word takes, whoever writes it.
///
/// # Changes that merge
///
/// An item is a value that was *seen*, and differs from the one before. A word has no history: what it held between two looks
/// is not known, nor that it changed at all if it changed back. Several changes may so be one item, or none, and nothing
/// tells how many they were; what is certain is that the last value is seen. Where each change counts, let
/// the word be a number that only grows, or use a semaphore.
///
/// Who changes the word must [wake](crate::wake) those who wait, or the change is seen with the next one.
///
/// It does not end by itself; after an error it is over.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::AtomicU32;
///
/// use sinew_memory::Region;
/// use sinew_sync::{WordSink, WordStream, WordValue};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let word = Region::anonymous(4096)?.view::<AtomicU32>(0)?;
/// let mut values = WordStream::new(word.clone());
///
/// WordSink::new(word).send(5_u32).await?;
/// assert_eq!(values.recv().await?, Some(WordValue(5)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WordStream {
    word: Word,
    seen: u32,
    wait: Option<Wait>,
    ended: bool,
}

impl WordStream {
    /// Begins with the first value that differs from the present one.
    pub fn new(word: Word) -> Self {
        let seen = word.load(Ordering::Acquire);
        Self::since(word, seen)
    }

    /// Begins with the first value that differs from `seen`, such as the present one.
    pub fn since(word: Word, seen: u32) -> Self {
        Self {
            word,
            seen,
            wait: None,
            ended: false,
        }
    }

    /// The word.
    pub fn get_ref(&self) -> &Word {
        &self.word
    }

    /// The value that was seen last.
    pub fn seen(&self) -> WordValue {
        WordValue(self.seen)
    }

    /// The next value that differs from the last; never `None`.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::wait`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value counts as seen in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<WordValue>, Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_recv(cx)).await.map(Some)
    }

    /// The present value, if it differs from the last.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if it does not.
    pub fn try_recv(&mut self) -> Result<WordValue, TryRecvError> {
        self.look().ok_or(TryRecvError::Empty)
    }

    fn look(&mut self) -> Option<WordValue> {
        let value = self.word.load(Ordering::Acquire);
        let differs = value != self.seen;
        self.seen = value;
        differs.then_some(WordValue(value))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<WordValue, Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            if let Some(value) = self.look() {
                self.wait = None;
                turn.made_progress();
                return Poll::Ready(Ok(value));
            }
            let wait = match &mut self.wait {
                Some(wait) => wait,
                None => self
                    .wait
                    .insert(Driver::current()?.wait(&self.word, self.seen)),
            };
            let woken = ready!(Pin::new(wait).poll(cx));
            self.wait = None;
            woken?;
        }
    }
}

/// Ends the wait of a future that is dropped.
struct Waiting<'a>(&'a mut WordStream);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.wait = None;
    }
}

impl Stream for WordStream {
    type Item = Result<WordValue, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        if stream.ended {
            return Poll::Ready(None);
        }
        let item = ready!(stream.poll_recv(cx));
        stream.ended = item.is_err();
        Poll::Ready(Some(item))
    }
}
