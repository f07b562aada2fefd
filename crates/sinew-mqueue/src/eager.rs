//! Trying again for a moment before waiting.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// For how long to try. A wait costs one wake-up of a thread, and two with a helper, each of which takes tens
/// of microseconds between the cores of a virtual machine; this about doubles the price of having waited at
/// once, at most.
const LIMIT: Duration = Duration::from_micros(100);
/// For how long other tasks of the same worker may be kept waiting by one poll.
const SLICE: Duration = Duration::from_micros(5);
/// Trust in trying: a success adds one, a failure takes two.
const TRUST_MAX: u32 = 8;
/// Waits without trying between two trials, at least and at most.
const GAP_MIN: u32 = 16;
const GAP_MAX: u32 = 1024;

/// Whether trying again at once has lately paid off.
#[derive(Debug, Clone)]
pub(crate) struct Eager {
    trust: u32,
    gap: u32,
    skip: u32,
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
            trust: TRUST_MAX / 2,
            gap: GAP_MIN,
            skip: 0,
            since: None,
            pause: pause as u32,
        }
    }

    /// What to do after a try that found nothing.
    pub(crate) fn step(&mut self, slice: &mut Slice) -> Step {
        if self.since.is_none() && self.trust == 0 && self.skip > 0 {
            self.skip -= 1;
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
            self.trust = (self.trust + 1).min(TRUST_MAX);
            self.gap = GAP_MIN;
        }
    }

    /// Nobody tries any more.
    pub(crate) fn reset(&mut self) {
        self.since = None;
    }

    fn fail(&mut self) {
        self.since = None;
        if self.trust == 0 {
            self.gap = (self.gap * 4).min(GAP_MAX);
        }
        self.trust = self.trust.saturating_sub(2);
        self.skip = self.gap;
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

    fn tries(eager: &mut Eager) -> u32 {
        let mut count = 0;
        loop {
            match eager.step(&mut Slice::default()) {
                Step::Wait => return count,
                _ => count += 1,
            }
        }
    }

    #[test]
    fn what_does_not_pay_is_tried_rarely() {
        let mut eager = Eager::new(Pause::Receiver);
        let eager_waits = (0..10_000).filter(|_| tries(&mut eager) > 0).count();
        assert!(eager_waits < 50, "{eager_waits} of 10,000");
        assert!(eager_waits > 3, "it never tries again");
    }

    #[test]
    fn what_pays_is_taken_up_again() {
        let mut eager = Eager::new(Pause::Receiver);
        for _ in 0..1000 {
            tries(&mut eager);
        }
        let mut successes = 0;
        for _ in 0..3 * GAP_MAX {
            if eager.step(&mut Slice::default()) == Step::Again {
                eager.succeed();
                successes += 1;
            }
        }
        assert!(successes > GAP_MAX, "{successes}");
        assert!(eager.trust > 0);
    }

    #[test]
    fn a_poll_does_not_keep_others_waiting() {
        let mut eager = Eager::new(Pause::Receiver);
        let mut slice = Slice::default();
        assert_eq!(eager.step(&mut slice), Step::Again);
        std::thread::sleep(SLICE * 2);
        assert_ne!(eager.step(&mut slice), Step::Again);
    }
}
