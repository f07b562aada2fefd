//! What a wait and the driver know of each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Word;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By a wake-up, which is to be passed on if nobody sees it.
    Woken,
    /// Because the word was not as expected, or for no reason.
    Changed,
    /// With the runtime.
    ShutDown,
    /// With an errno.
    Failed(i32),
}

#[derive(Debug)]
enum State {
    Waiting(Waker),
    Done(Outcome),
    /// The future was dropped while it waited.
    Abandoned,
}

/// A wait under way. Whoever waits for the word holds it, and by that keeps the word mapped.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    pub(super) word: Word,
    pub(super) expected: u32,
    /// The driver's own mark, set before the wait begins.
    key: AtomicUsize,
}

impl Slot {
    pub(super) fn new(word: Word, expected: u32, waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Waiting(waker)),
            word,
            expected,
            key: AtomicUsize::new(0),
        })
    }

    pub(super) fn key(&self) -> usize {
        self.key.load(Ordering::Relaxed)
    }

    pub(super) fn set_key(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
    }

    /// Whether the word is not what the wait was to last for.
    pub(super) fn has_changed(&self) -> bool {
        self.word.load(Ordering::Acquire) != self.expected
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut *self.lock() {
            State::Waiting(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Done(outcome) => Poll::Ready(*outcome),
            State::Abandoned => Poll::Ready(Outcome::Changed),
        }
    }

    /// The driver says how it ended. False if nobody waits any more.
    pub(super) fn complete(&self, outcome: Outcome) -> bool {
        self.complete_with(outcome, || {})
    }

    /// The same; if somebody waits, `before` is called before they are woken.
    pub(super) fn complete_with(&self, outcome: Outcome, before: impl FnOnce()) -> bool {
        let waker = {
            let mut state = self.lock();
            match &*state {
                State::Waiting(_) => {}
                State::Done(_) => return true,
                State::Abandoned => return false,
            }
            match std::mem::replace(&mut *state, State::Done(outcome)) {
                State::Waiting(waker) => waker,
                State::Done(_) | State::Abandoned => return true,
            }
        };
        before();
        waker.wake();
        true
    }

    /// The future is dropped: how the wait had ended, or `None` if it is to be cancelled.
    pub(super) fn abandon(&self) -> Option<Outcome> {
        match std::mem::replace(&mut *self.lock(), State::Abandoned) {
            State::Done(outcome) => Some(outcome),
            State::Waiting(_) | State::Abandoned => None,
        }
    }
}
