//! Who waits for messages of one selection, and what the helper thread does about it: the states, without a
//! thread, a clock or a system call.
//!
//! The helper asks the kernel *whether there is a message*, with a receive that has no room for a payload:
//! the kernel wakes it with `E2BIG` and leaves the message where it is. A receiver then takes it itself, in
//! the poll that returns it. So nothing is in the helper's hands that a cancellation could lose, except for
//! a message without payload, which does fit in no room. That one is *held* until a receiver takes it, or put
//! back into the queue once none wants it any more.
//!
//! | phase | the helper | a receiver that looks |
//! |---|---|---|
//! | [`Resting`](Phase::Resting) | waits to be asked, or is not there | takes what is held, or tries by itself |
//! | [`Asking`](Phase::Asking) | is in the kernel, or on its way | joins those who wait: there was no message |
//! | [`Recalled`](Phase::Recalled) | is being interrupted, because nobody waits | likewise; the helper asks again |
//!
//! While the helper asks, receivers do not try by themselves. Otherwise one could take a message that came
//! after one without payload which the helper has received and not yet reported.

use std::task::Waker;

/// Where the helper thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Resting,
    Asking,
    Recalled,
}

/// A receiver that has waited and has neither taken anything nor withdrawn since.
#[derive(Debug, Clone)]
struct Interest {
    receiver: u64,
    /// Not there once it was woken.
    waker: Option<Waker>,
}

/// What the helper brings from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is a message; it is in the queue.
    Message,
    /// A message of this type and without payload was received.
    Empty(i64),
    /// It was interrupted.
    Interrupted,
    /// The call failed.
    Failed(i32),
}

/// What a receiver finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The helper rests: try by yourself.
    Try,
    /// A message of this type and without payload.
    Empty(i64),
    /// The helper's call failed.
    Failed(i32),
    /// The helper asks, and will wake.
    Wait,
}

#[derive(Debug, Clone)]
pub(super) struct Demand {
    interests: Vec<Interest>,
    phase: Phase,
    held: Option<i64>,
    failed: Option<i32>,
}

impl Demand {
    pub(super) const fn new() -> Self {
        Self {
            interests: Vec::new(),
            phase: Phase::Resting,
            held: None,
            failed: None,
        }
    }

    /// Whether a receiver that has no interest here may try without looking first.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Resting && self.held.is_none() && self.failed.is_none()
    }

    /// Whether a message is held, or the helper may bring one.
    pub(super) fn may_hold(&self) -> bool {
        self.phase != Phase::Resting || self.held.is_some()
    }

    /// What there is for a receiver that begins to look, or looks again. With `Wait` it is registered.
    pub(super) fn look(&mut self, receiver: u64, waker: Option<&Waker>) -> Look {
        if let Some(found) = self.take(receiver) {
            return found;
        }
        if self.phase == Phase::Resting {
            self.forget(receiver);
            return Look::Try;
        }
        if let Some(waker) = waker {
            self.register(receiver, waker);
        }
        Look::Wait
    }

    /// Registers a receiver that has tried and found nothing. With `Wait` the helper is to be called.
    pub(super) fn wait(&mut self, receiver: u64, waker: &Waker) -> Look {
        if let Some(found) = self.take(receiver) {
            return found;
        }
        self.register(receiver, waker);
        Look::Wait
    }

    /// Ends the interest of a receiver. Returns whether the helper is to be interrupted.
    pub(super) fn withdraw(&mut self, receiver: u64) -> bool {
        self.forget(receiver);
        if self.interests.is_empty() {
            self.failed = None;
        }
        let recall = self.phase == Phase::Asking && !self.is_wanted();
        if recall {
            self.phase = Phase::Recalled;
        }
        recall
    }

    /// Whether somebody waits to be woken.
    pub(super) fn is_wanted(&self) -> bool {
        self.interests.iter().any(|one| one.waker.is_some())
    }

    /// The message to put back, if nobody is interested in it any more.
    pub(super) fn unwanted(&self) -> Option<i64> {
        self.held.filter(|_| self.interests.is_empty())
    }

    #[cfg(test)]
    pub(super) fn held_for_test(&self) -> Option<i64> {
        self.held
    }

    /// The message was put back.
    pub(super) fn returned(&mut self) {
        self.held = None;
    }

    /// The helper begins, if somebody waits.
    pub(super) fn begin(&mut self) -> bool {
        let begins = self.is_wanted() && self.held.is_none();
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
            Answer::Interrupted => return recalled,
            Answer::Message => {}
            Answer::Empty(kind) => self.held = Some(kind),
            Answer::Failed(errno) => self.failed = Some(errno),
        }
        wakers.extend(self.interests.iter_mut().filter_map(|one| one.waker.take()));
        recalled
    }

    fn take(&mut self, receiver: u64) -> Option<Look> {
        let found = match (self.held.take(), self.failed) {
            (Some(kind), _) => Look::Empty(kind),
            (None, Some(errno)) => {
                self.failed = None;
                Look::Failed(errno)
            }
            (None, None) => return None,
        };
        self.forget(receiver);
        Some(found)
    }

    fn register(&mut self, receiver: u64, waker: &Waker) {
        let known = self
            .interests
            .iter_mut()
            .find(|one| one.receiver == receiver);
        match known {
            Some(one) => match &mut one.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            },
            None => self.interests.push(Interest {
                receiver,
                waker: Some(waker.clone()),
            }),
        }
    }

    fn forget(&mut self, receiver: u64) {
        self.interests.retain(|one| one.receiver != receiver);
    }
}
