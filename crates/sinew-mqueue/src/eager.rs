//! Trying again for a moment before waiting.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sinew_core::Trust;

/// For how long to try. A wait costs one wake-up of a thread, and two with a helper, each of which takes tens
/// of microseconds between the cores of a virtual machine; this about doubles the price of having waited at
/// once, at most.
const LIMIT: Duration = Duration::from_micros(100);
/// For how long other tasks of the same worker may be kept waiting by one poll.
const SLICE: Duration = Duration::from_micros(5);
/// Whether trying again at once has lately paid off.
#[derive(Debug, Clone)]
pub(crate) struct Eager {
    trust: Trust,
    since: Option<Instant>,
    pause: u32,
}

/// Turns of an empty loop between two tries: a try takes the queue's lock, which the other end needs, too.
/// Who waits for room in a queue that is full of messages has the time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pause {
    Receiver = 16,
    Sender = 160,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Again,
    Yield,
    Wait,
}

/// The tries of one poll.
#[derive(Debug, Default)]
pub(crate) struct Slice(Option<Instant>);

impl Eager {
    pub(crate) const fn new(pause: Pause) -> Self {
        Self {
            trust: Trust::new(),
            since: None,
            pause: pause as u32,
        }
    }

    /// What to do after a try that found nothing.
    pub(crate) fn step(&mut self, slice: &mut Slice) -> Step {
        if self.since.is_none() && !self.trust.is_given() {
            return Step::Wait;
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now - since > LIMIT {
            self.fail();
            return Step::Wait;
        }
        if now - *slice.0.get_or_insert(now) > SLICE {
            return Step::Yield;
        }
        for _ in 0..self.pause {
            std::hint::spin_loop();
        }
        Step::Again
    }

    /// A try has succeeded.
    #[inline]
    pub(crate) fn succeed(&mut self) {
        if let Some(since) = self.since.take() {
            // One that took longer is the scheduler's, which let the peer run on our core.
            if since.elapsed() > LIMIT {
                self.fail();
                return;
            }
            self.trust.succeed();
        }
    }

    /// Nobody tries any more.
    pub(crate) fn reset(&mut self) {
        self.since = None;
    }

    fn fail(&mut self) {
        self.since = None;
        self.trust.fail();
    }
}

/// Has the current task polled again after the worker's other tasks, timers and descriptors.
pub(crate) fn give(cx: &mut Context<'_>) -> Poll<()> {
    // The first poll registers the waker with the scheduler and is pending.
    pin!(tokio::task::yield_now()).poll(cx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_does_not_keep_others_waiting() {
        let mut eager = Eager::new(Pause::Receiver);
        let mut slice = Slice::default();
        assert_eq!(eager.step(&mut slice), Step::Again);
        std::thread::sleep(SLICE * 2);
        assert_ne!(eager.step(&mut slice), Step::Again);
    }
}
