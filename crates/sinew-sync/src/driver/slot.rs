//! What a wait and the driver know of each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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

/// A wait under way.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// The driver's own mark, set before the wait begins.
    key: AtomicUsize,
}

impl Slot {
    pub(super) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Waiting(waker)),
            key: AtomicUsize::new(0),
        })
    }

    pub(super) fn key(&self) -> usize {
        self.key.load(Ordering::Relaxed)
    }

    pub(super) fn set_key(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
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
        waker.wake();
        true
    }

    /// Whether the future was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(*self.lock(), State::Abandoned)
    }

    /// The future is dropped: how the wait had ended, or `None` if it is to be cancelled.
    pub(super) fn abandon(&self) -> Option<Outcome> {
        match std::mem::replace(&mut *self.lock(), State::Abandoned) {
            State::Done(outcome) => Some(outcome),
            State::Waiting(_) | State::Abandoned => None,
        }
    }
}
