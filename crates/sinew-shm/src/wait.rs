//! How an end waits: for how long it looks before it parks.

use std::time::{Duration, Instant};

use sinew_core::Trust;

/// What an end does when it finds nothing to do.
///
/// A wake-up from another core costs microseconds on bare metal and tens of them on a virtual machine,
/// a look at a cache line a fraction of one. Waiting actively therefore pays when the peer answers
/// soon and a core is free, and wastes a core otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Looks for up to [`spin_limit`](crate::Options::spin_limit) before parking while that has lately
    /// paid off, parks at once when it has not, and tries again now and then. An idle channel uses no
    /// CPU.
    #[default]
    Adaptive,
    /// Parks at once: the least CPU, and a wake-up's latency for each message that is waited for.
    Park,
    /// Never parks: the least latency, and a core for as long as it waits.
    ///
    /// Other tasks of the same worker still get their turn.
    Spin,
}

/// What to do next, after some looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is something to do.
    Ready,
    /// Let others have their turn, then go on looking.
    Yield,
    /// Go to sleep.
    Park,
}

/// Looks in a glance.
const GLANCES: u32 = 256;
/// Looks between two consultations of the clock.
const LOOKS_PER_TICK: u32 = 16;
/// For how long other tasks of the same worker may be kept waiting by one poll.
const SLICE: Duration = Duration::from_micros(5);

#[derive(Debug)]
pub(crate) struct Waiter {
    mode: Wait,
    limit: Duration,
    trust: Trust,
    started: Option<Instant>,
    /// What the last glance found of whether to go on looking.
    willing: bool,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl Waiter {
    pub(crate) fn new(mode: Wait, limit: Duration) -> Self {
        Self {
            mode,
            limit,
            trust: Trust::new(),
            started: None,
            willing: false,
            hits: 0,
            misses: 0,
        }
    }

    pub(crate) fn set_mode(&mut self, mode: Wait) {
        self.mode = mode;
    }

    /// Looks for a moment, without consulting the clock: enough for a peer on another core that answers
    /// at once. To be followed by [`look`](Self::look) unless it sees something.
    #[inline]
    pub(crate) fn glance(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if self.started.is_some() {
            return false;
        }
        if self.mode == Wait::Park || !self.may_spin() {
            self.willing = false;
            return false;
        }
        for _ in 0..GLANCES {
            if ready() {
                self.hit();
                return true;
            }
            std::hint::spin_loop();
        }
        self.willing = true;
        false
    }

    /// Looks for a while whether there is something to do.
    #[inline]
    pub(crate) fn look(&mut self, ready: impl FnMut() -> bool) -> Step {
        if !self.willing && self.started.is_none() {
            Step::Park
        } else {
            self.look_on(ready)
        }
    }

    #[cold]
    fn look_on(&mut self, mut ready: impl FnMut() -> bool) -> Step {
        let slice = Instant::now();
        let started = *self.started.get_or_insert(slice);
        loop {
            for _ in 0..LOOKS_PER_TICK {
                if ready() {
                    // A success that took longer than the limit is one of the scheduler's, which let
                    // the peer run on our core.
                    if self.mode == Wait::Spin || started.elapsed() <= self.limit {
                        self.started = None;
                        self.hit();
                    } else {
                        self.miss();
                    }
                    return Step::Ready;
                }
                std::hint::spin_loop();
            }
            if self.mode != Wait::Spin && started.elapsed() > self.limit {
                self.miss();
                return Step::Park;
            }
            if slice.elapsed() > SLICE {
                if self.mode == Wait::Spin {
                    // Where there are fewer cores than spinners, the peer may be waiting for this one.
                    std::thread::yield_now();
                }
                return Step::Yield;
            }
        }
    }

    /// Forgets a look that was broken off, because what was waited for came otherwise or nobody waits
    /// any more.
    #[inline]
    pub(crate) fn reset(&mut self) {
        if self.started.is_some() {
            self.started = None;
        }
    }

    #[inline]
    fn may_spin(&mut self) -> bool {
        self.mode == Wait::Spin || self.trust.is_given()
    }

    #[inline]
    fn hit(&mut self) {
        self.hits += 1;
        self.trust.succeed();
    }

    fn miss(&mut self) {
        self.started = None;
        self.misses += 1;
        self.trust.fail();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(mode: Wait) -> Waiter {
        Waiter::new(mode, Duration::from_micros(20))
    }

    fn until_not_yield(waiter: &mut Waiter, mut ready: impl FnMut() -> bool) -> Step {
        loop {
            if waiter.glance(&mut ready) {
                return Step::Ready;
            }
            match waiter.look(&mut ready) {
                Step::Yield => {}
                step => return step,
            }
        }
    }

    #[test]
    fn adaptive_stops_when_it_does_not_pay_and_tries_again_rarely() {
        let mut waiter = waiter(Wait::Adaptive);
        let mut looks = 0;
        for _ in 0..100_000 {
            let step = until_not_yield(&mut waiter, || {
                looks += 1;
                false
            });
            assert_eq!(step, Step::Park);
        }
        assert!(
            waiter.misses < 200,
            "{} waits out of 100,000 were active",
            waiter.misses
        );
        assert_eq!(waiter.hits, 0);
    }

    #[test]
    fn adaptive_takes_it_up_again_once_it_pays() {
        let mut waiter = waiter(Wait::Adaptive);
        for _ in 0..1000 {
            until_not_yield(&mut waiter, || false);
        }
        for _ in 0..3000 {
            until_not_yield(&mut waiter, || true);
        }
        let before = waiter.hits;
        for _ in 0..1000 {
            assert!(waiter.glance(|| true));
        }
        assert_eq!(waiter.hits - before, 1000);
    }

    #[test]
    fn spin_never_parks_and_gives_others_their_turn() {
        let mut waiter = waiter(Wait::Spin);
        for _ in 0..100 {
            assert!(!waiter.glance(|| false));
            assert_eq!(waiter.look(|| false), Step::Yield);
        }
        assert_eq!(waiter.look(|| true), Step::Ready);
    }

    #[test]
    fn park_never_looks() {
        let mut waiter = waiter(Wait::Park);
        assert!(!waiter.glance(|| panic!("looked")));
        assert_eq!(waiter.look(|| panic!("looked")), Step::Park);
    }
}
