//! Waiting actively for a moment before a task or thread sleeps.

mod history;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use self::history::SpinHistory;

/// The limit of every [`AdaptiveSpin`] that was given none, nanoseconds.
static LIMIT: AtomicU64 = AtomicU64::new(100_000);

/// What an end does when it finds nothing to do.
///
/// A wake-up from another core costs microseconds on bare metal and tens of them on a virtual
/// machine, a look at a cache line a fraction of one. Waiting actively therefore pays when the peer
/// answers soon and a core is free, and wastes a core otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Looks for up to a limit before it sleeps while that has lately paid off, sleeps at once when
    /// it has not, and tries again now and then. What is idle uses no CPU.
    #[default]
    Adaptive,
    /// Sleeps at once: the least CPU, and a wake-up's latency for each message that is waited for.
    Park,
    /// Never sleeps: the least latency, and a core for as long as it waits.
    ///
    /// Other tasks of the same worker still get their turn.
    Spin,
}

/// How often [`AdaptiveSpin`] looks before it lets others have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// In the poll that begins the wait.
    pub first: u32,
    /// In each later poll.
    pub turn: u32,
    /// Turns of an empty loop between two looks.
    pub pause: u32,
}

impl Looks {
    /// For memory, in a task that does nothing else meanwhile: some two microseconds, then a
    /// fraction of one.
    pub const ALONE: Self = Self {
        first: 128,
        turn: 64,
        pause: 1,
    };
    /// For memory, in a task that may have other things to do in the same poll.
    ///
    /// hyper and h2 poll for reading, then for writing, then flush: what they write is held back
    /// for as long as the read looks.
    pub const SHARED: Self = Self {
        first: 4,
        turn: 4,
        pause: 1,
    };
    /// For a system call that receives, some two microseconds in each poll. A pause between two
    /// looks makes the sender wait for room: with 64 turns, one way through a pipe carried two
    /// thirds of the messages.
    pub const RECEIVE: Self = Self {
        first: 8,
        turn: 8,
        pause: 1,
    };
    /// For a system call that sends. What is full leaves time, and a try takes a lock that the
    /// receiver needs too.
    pub const SEND: Self = Self {
        first: 1,
        turn: 1,
        pause: 160,
    };
}

/// What to do next in a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look again.
    Look,
    /// Let others have their turn, then look again: see [`give_way`].
    Yield,
    /// Sleep.
    Park,
}

/// What came of [`AdaptiveSpin::look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// What was waited for is there.
    Ready,
    /// Let others have their turn, then look again: see [`give_way`].
    Yield,
    /// Sleep.
    Park,
}

/// Looks for a moment before a wait, as long as that pays off.
///
/// One value serves one end of something: a receiver, a sender. A wait begins with a few looks
/// without the clock. Then the task gives way to the others of its worker, to timers and
/// descriptors, and looks a few times in each of its polls, until the limit is over.
/// [`SpinHistory`] decides whether to look at all.
///
/// # Examples
///
/// ```
/// use std::task::{Context, Poll, ready};
///
/// use sinew_core::{AdaptiveSpin, Looks};
///
/// fn poll_receive(
///     spin: &mut AdaptiveSpin,
///     cx: &mut Context<'_>,
///     mut receive: impl FnMut() -> Option<u8>,
///     wait: impl FnOnce(&mut Context<'_>) -> Poll<u8>,
/// ) -> Poll<u8> {
///     loop {
///         if let Some(message) = receive() {
///             spin.succeed();
///             return Poll::Ready(message);
///         }
///         if !ready!(spin.poll_again(cx, Looks::RECEIVE)) {
///             return wait(cx);
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct AdaptiveSpin {
    wait: Wait,
    /// The process's, if there is none.
    limit: Option<Duration>,
    history: SpinHistory,
    phase: Phase,
    hits: u64,
    misses: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Idle,
    /// The first looks, without the clock.
    First {
        left: u32,
    },
    Timed {
        since: Instant,
        left: u32,
    },
    /// This wait looks no more.
    Parked,
}

impl AdaptiveSpin {
    /// Waits as `wait` says, for `limit` at most where that is [`Wait::Adaptive`].
    ///
    /// About the cost of a wake-up is right for a limit: then looking at most doubles what sleeping
    /// at once would have cost.
    pub const fn new(wait: Wait, limit: Duration) -> Self {
        Self {
            wait,
            limit: Some(limit),
            history: SpinHistory::new(),
            phase: Phase::Idle,
            hits: 0,
            misses: 0,
        }
    }

    /// Waits adaptively, for the [process's limit](Self::set_process_limit) at most.
    pub const fn adaptive() -> Self {
        Self {
            limit: None,
            ..Self::new(Wait::Adaptive, Duration::ZERO)
        }
    }

    /// Sleeps at once.
    pub const fn never() -> Self {
        Self::new(Wait::Park, Duration::ZERO)
    }

    /// Looks as one that has had `history`.
    #[must_use]
    pub fn with_history(mut self, history: SpinHistory) -> Self {
        self.history = history;
        self
    }

    /// Whether looking has lately paid off.
    pub fn history(&self) -> &SpinHistory {
        &self.history
    }

    /// Sets the limit of all that were given none of their own, in this process: 100 µs, unless
    /// this is called. Zero: they sleep at once.
    pub fn set_process_limit(limit: Duration) {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        LIMIT.store(limit, Ordering::Relaxed);
    }

    /// Changes how later waits are spent.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
        self.phase = Phase::Idle;
    }

    /// Waits that ended while this looked.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Waits in which this looked in vain.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    fn limit(&self) -> Duration {
        self.limit
            .unwrap_or_else(|| Duration::from_nanos(LIMIT.load(Ordering::Relaxed)))
    }

    /// What to do after a look that found nothing.
    #[inline]
    pub fn step(&mut self, looks: Looks) -> Step {
        match &mut self.phase {
            Phase::First { left } | Phase::Timed { left, .. } if *left > 0 => {
                *left -= 1;
                for _ in 0..looks.pause {
                    std::hint::spin_loop();
                }
                Step::Look
            }
            Phase::Parked => Step::Park,
            _ => self.step_on(looks),
        }
    }

    fn step_on(&mut self, looks: Looks) -> Step {
        let since = match self.phase {
            Phase::Parked => return Step::Park,
            Phase::Idle => {
                if self.may_look() {
                    self.phase = Phase::First { left: looks.first };
                    return self.step(looks);
                }
                self.phase = Phase::Parked;
                return Step::Park;
            }
            Phase::First { .. } => Instant::now(),
            Phase::Timed { since, .. } if self.is_late(since) => {
                self.miss();
                self.phase = Phase::Parked;
                return Step::Park;
            }
            Phase::Timed { since, .. } => since,
        };
        let left = looks.turn;
        self.phase = Phase::Timed { since, left };
        if self.wait == Wait::Spin {
            // Where there are fewer cores than spinners, the peer may be waiting for this one.
            std::thread::yield_now();
        }
        Step::Yield
    }

    fn is_late(&self, since: Instant) -> bool {
        self.wait != Wait::Spin && since.elapsed() > self.limit()
    }

    fn miss(&mut self) {
        self.misses += 1;
        self.history.fail();
    }

    fn may_look(&mut self) -> bool {
        match self.wait {
            Wait::Adaptive => !self.limit().is_zero() && self.history.is_given(),
            Wait::Spin => true,
            Wait::Park => false,
        }
    }

    /// Looks until `ready` says yes, or until others are to have their turn.
    #[inline]
    pub fn look(&mut self, looks: Looks, mut ready: impl FnMut() -> bool) -> Looked {
        loop {
            match self.step(looks) {
                Step::Look if ready() => {
                    self.succeed();
                    return Looked::Ready;
                }
                Step::Look => {}
                Step::Yield => return Looked::Yield,
                Step::Park => return Looked::Park,
            }
        }
    }

    /// After a try that found nothing: ready with whether to try again, or else to sleep. Pending
    /// when others have their turn; the task is polled again soon.
    #[inline]
    pub fn poll_again(&mut self, cx: &mut Context<'_>, looks: Looks) -> Poll<bool> {
        match self.step(looks) {
            Step::Look => Poll::Ready(true),
            Step::Yield => {
                give_way(cx);
                Poll::Pending
            }
            Step::Park => Poll::Ready(false),
        }
    }

    /// The wait is over: what was waited for came.
    #[inline]
    pub fn succeed(&mut self) {
        if !matches!(self.phase, Phase::Idle) {
            self.found();
        }
    }

    fn found(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle | Phase::Parked => {}
            // What took longer is the scheduler's success, which let the peer run on this core.
            Phase::Timed { since, .. } if self.is_late(since) => self.miss(),
            Phase::First { .. } | Phase::Timed { .. } => {
                self.hits += 1;
                self.history.succeed();
            }
        }
    }

    /// The wait is over, without anything that tells whether looking would have paid off.
    #[inline]
    pub fn reset(&mut self) {
        self.phase = Phase::Idle;
    }
}

/// Has the current task polled again after the worker's other tasks, timers and descriptors. The
/// caller then returns
/// [`Poll::Pending`].
///
/// A plain wake-up would do for a spawned task, but the main future of `block_on` would then be
/// polled again before anything else, at the price of a system call each time.
pub fn give_way(cx: &mut Context<'_>) {
    // The first poll registers the waker with the scheduler and is pending.
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests;
