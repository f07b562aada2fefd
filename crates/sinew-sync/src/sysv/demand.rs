//! Who waits for one operation, and what the helper thread does about it: the states, without a thread, a
//! clock or a system call.
//!
//! The helper asks the kernel *whether the operation could be done*, by one that does it and takes it back at
//! once ([`Steps::probe`](super::op::Steps::probe)). Whoever waits then does it by itself, in the poll that
//! says so. So there is nothing in the helper's hands that a cancellation could lose.
//!
//! | phase | the helper |
//! |---|---|
//! | [`Resting`](Phase::Resting) | waits to be told, or is not there |
//! | [`Asking`](Phase::Asking) | is in the kernel, or on its way |
//! | [`Recalled`](Phase::Recalled) | is being interrupted, because nobody waits |
//!
//! Not all are woken for what may be a single unit, but the first in the *queue*, which is *called*. When it
//! has had what it wanted, or gives up, the next is called; when it finds nothing it queues again, and the
//! helper asks. One that is called and does not come, because nobody polls it, keeps the others waiting for no longer than
//! the helper's patience.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// Where the helper thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Resting,
    Asking,
    Recalled,
}

/// Why the helper cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    /// One operation would have to wait that is not to.
    Refused,
    /// The system call has failed.
    Call(i32),
    /// It has no timer.
    Timer(i32),
}

/// What the helper brings from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    /// It could be done.
    Possible,
    /// It was interrupted.
    Interrupted,
    Failed(Failure),
}

#[derive(Debug, Clone)]
pub(super) struct Demand {
    phase: Phase,
    /// Who is to be woken, by number: first come, first called.
    queue: BTreeMap<u64, Waker>,
    called: BTreeSet<u64>,
    failed: BTreeMap<u64, Failure>,
}

/// What is to be done after somebody has left.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Left {
    /// The next, to be woken.
    pub(super) next: Option<Waker>,
    /// The helper is to be interrupted.
    pub(super) recall: bool,
}

impl Demand {
    pub(super) const fn new() -> Self {
        Self {
            phase: Phase::Resting,
            queue: BTreeMap::new(),
            called: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Somebody has tried and found nothing: it waits to be woken, at its old place if it has had one.
    /// Returns whether the helper is to be told.
    pub(super) fn enlist(&mut self, number: u64, waker: &Waker) -> bool {
        self.called.remove(&number);
        match self.queue.get_mut(&number) {
            Some(known) => known.clone_from(waker),
            None => {
                self.queue.insert(number, waker.clone());
            }
        }
        self.phase == Phase::Resting && self.called.is_empty()
    }

    /// Why the helper cannot wait for somebody, which has tried and found nothing.
    pub(super) fn failure(&mut self, number: u64) -> Option<Failure> {
        self.failed.remove(&number)
    }

    /// Somebody has had what it wanted, or gives up.
    pub(super) fn leave(&mut self, number: u64) -> Left {
        self.queue.remove(&number);
        self.failed.remove(&number);
        let next = match self.called.remove(&number) && self.called.is_empty() {
            true => self.call(),
            false => None,
        };
        let recall = self.phase == Phase::Asking && self.queue.is_empty();
        if recall {
            self.phase = Phase::Recalled;
        }
        Left { next, recall }
    }

    /// Whether somebody waits to be called.
    pub(super) fn is_wanted(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the helper waits for one that was called.
    pub(super) fn is_patient(&self) -> bool {
        self.is_wanted() && !self.called.is_empty()
    }

    /// The helper begins, if somebody waits and nobody was called, or the helper's patience is over.
    pub(super) fn begin(&mut self, patience_over: bool) -> bool {
        let begins = self.is_wanted() && (patience_over || self.called.is_empty());
        if begins {
            self.phase = Phase::Asking;
        }
        begins
    }

    /// The helper is back. Returns whether it was being interrupted. `wakers` gets who is to be woken.
    pub(super) fn finish(&mut self, answer: Answer, wakers: &mut Vec<Waker>) -> bool {
        let recalled = self.phase == Phase::Recalled;
        self.phase = Phase::Resting;
        match answer {
            Answer::Interrupted => {}
            Answer::Possible => wakers.extend(self.call()),
            Answer::Failed(failure) => {
                for (number, waker) in std::mem::take(&mut self.queue) {
                    self.failed.insert(number, failure);
                    wakers.push(waker);
                }
            }
        }
        recalled
    }

    fn call(&mut self) -> Option<Waker> {
        let (number, waker) = self.queue.pop_first()?;
        self.called.insert(number);
        Some(waker)
    }

    #[cfg(test)]
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }
}
