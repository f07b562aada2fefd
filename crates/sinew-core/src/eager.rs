use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::Trust;

/// For how long to try, in nanoseconds. A wait costs one wake-up of a thread, and two with a helper, each of which takes
/// tens of microseconds between the cores of a virtual machine; this about doubles the price of having waited at
/// once, at most.
static LIMIT: AtomicU64 = AtomicU64::new(100_000);
/// For how long other tasks of the same worker may be kept waiting by one poll.
const SLICE: Duration = Duration::from_micros(5);
/// A task that is polled again this long after it made way has not made way for nothing.
const BUSY: Duration = Duration::from_micros(20);

/// Trying a system call again for a moment before waiting for the other side, as long as that pays off.
///
/// It is for one direction of one descriptor or queue, whose operation costs a system call: a try is made about
/// twice in a microsecond. [`Trust`] says whether it has lately paid off. It goes on for 100 µs at most, or for what
/// [`set_limit`](Self::set_limit) says, in
/// slices of 5 µs, between which the other tasks, timers and descriptors of the worker have their turn; and it ends
/// where those have something to do, because a worker that is busy is not woken. One task of a worker looks at a time:
/// the others wait for their descriptors, after which the runtime looks between its slices.
///
/// # Examples
///
/// ```
/// use std::task::{Context, Poll, ready};
///
/// use sinew_core::{Eager, Slice};
///
/// fn poll_receive(
///     eager: &mut Eager,
///     cx: &mut Context<'_>,
///     mut receive: impl FnMut() -> Option<u8>,
///     wait: impl FnOnce(&mut Context<'_>) -> Poll<u8>,
/// ) -> Poll<u8> {
///     let mut slice = Slice::default();
///     loop {
///         if let Some(message) = receive() {
///             eager.succeed();
///             return Poll::Ready(message);
///         }
///         if !ready!(eager.poll_again(cx, &mut slice)) {
///             return wait(cx);
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Eager {
    trust: Trust,
    looking: Option<Looking>,
    /// Turns of an empty loop between two tries, if there is to be more than one.
    pause: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Looking {
    since: Instant,
    /// The last try, or what was next to it.
    last: Instant,
}

thread_local! {
    /// When somebody last looked on this thread, unless that has come to an end.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The tries of one poll.
#[derive(Debug, Default)]
pub struct Slice(Option<Instant>);

impl Eager {
    /// For who waits for messages.
    pub const fn receiver() -> Self {
        Self::with_pause(Some(16))
    }

    /// For who waits for room. In what is full of messages there is time, and a try takes a lock that the other
    /// end needs, too.
    pub const fn sender() -> Self {
        Self::with_pause(Some(160))
    }

    /// Sets for how long anything in this process tries before it waits; zero: it waits at once. 100 µs, unless this is
    /// called.
    ///
    /// A try costs what the machine's idle core is worth: where cores are few and shared, wait at once.
    pub fn set_limit(limit: Duration) {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        LIMIT.store(limit, Ordering::Relaxed);
    }

    fn limit() -> Duration {
        Duration::from_nanos(LIMIT.load(Ordering::Relaxed))
    }

    /// For who waits at once.
    pub const fn never() -> Self {
        Self::with_pause(None)
    }

    const fn with_pause(pause: Option<u32>) -> Self {
        Self {
            trust: Trust::new(),
            looking: None,
            pause,
        }
    }

    /// After a try that found nothing: ready with whether to try again, or else to wait. Pending after a slice;
    /// the task is polled again soon.
    #[inline]
    pub fn poll_again(&mut self, cx: &mut Context<'_>, slice: &mut Slice) -> Poll<bool> {
        match self.pause {
            Some(pause) if self.looking.is_some() || self.trust.is_given() => {
                self.poll_look(cx, slice, pause)
            }
            _ => Poll::Ready(false),
        }
    }

    fn poll_look(&mut self, cx: &mut Context<'_>, slice: &mut Slice, pause: u32) -> Poll<bool> {
        let now = Instant::now();
        let limit = Self::limit();
        let Some(looking) = &mut self.looking else {
            let is_taken = LOOKED.get().is_some_and(|looked| now - looked < BUSY);
            if is_taken || limit.is_zero() {
                return Poll::Ready(false);
            }
            // It may have come since it was last asked for.
            self.looking = Some(Looking {
                since: now,
                last: now,
            });
            slice.0.get_or_insert(now);
            return Poll::Ready(true);
        };
        let is_busy = now - looking.last > BUSY;
        looking.last = now;
        LOOKED.set(Some(now));
        if is_busy || now - looking.since > limit {
            self.fail();
            return Poll::Ready(false);
        }
        if now - *slice.0.get_or_insert(now) > SLICE {
            // The first poll registers the waker with the scheduler and is pending.
            return pin!(tokio::task::yield_now()).poll(cx).map(|()| true);
        }
        for _ in 0..pause {
            std::hint::spin_loop();
        }
        Poll::Ready(true)
    }

    /// A try has succeeded.
    #[inline]
    pub fn succeed(&mut self) {
        if let Some(looking) = self.looking.take() {
            self.found(looking);
        }
    }

    fn found(&mut self, looking: Looking) {
        LOOKED.set(None);
        // One that took longer is the scheduler's, which let the peer run on our core; or nobody looked.
        if looking.since.elapsed() > Self::limit() || looking.last.elapsed() > BUSY {
            self.trust.fail();
        } else {
            self.trust.succeed();
        }
    }

    /// Nobody tries any more.
    pub fn reset(&mut self) {
        if self.looking.take().is_some() {
            LOOKED.set(None);
        }
    }

    fn fail(&mut self) {
        self.reset();
        self.trust.fail();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::thread;

    use super::*;

    fn step(eager: &mut Eager, slice: &mut Slice) -> Poll<bool> {
        eager.poll_again(&mut Context::from_waker(Waker::noop()), slice)
    }

    #[test]
    fn a_poll_does_not_keep_others_waiting() {
        let mut eager = Eager::receiver();
        let mut slice = Slice::default();
        assert_eq!(step(&mut eager, &mut slice), Poll::Ready(true));
        let begun = Instant::now();
        while begun.elapsed() < SLICE * 2 {}
        assert_ne!(step(&mut eager, &mut slice), Poll::Ready(true));
    }

    #[test]
    fn it_is_given_up_where_others_had_much_to_do() {
        let mut eager = Eager::receiver();
        assert_eq!(step(&mut eager, &mut Slice::default()), Poll::Ready(true));
        thread::sleep(BUSY * 2);
        assert_eq!(step(&mut eager, &mut Slice::default()), Poll::Ready(false));
    }

    #[test]
    fn one_looks_at_a_time() {
        let (mut one, mut other) = (Eager::receiver(), Eager::receiver());
        let mut slice = Slice::default();
        assert_eq!(step(&mut one, &mut slice), Poll::Ready(true));
        assert_eq!(step(&mut one, &mut slice), Poll::Ready(true));
        if step(&mut other, &mut Slice::default()) == Poll::Ready(true) {
            // It took so long that nobody is taken to look any more.
            assert!(slice.0.unwrap().elapsed() > BUSY);
            return;
        }
        one.succeed();
        assert_eq!(step(&mut other, &mut Slice::default()), Poll::Ready(true));
    }

    #[test]
    fn what_never_pays_is_given_up() {
        let mut eager = Eager::receiver();
        let mut waits = 0;
        for _ in 0..100 {
            let begun = Instant::now();
            while step(&mut eager, &mut Slice::default()) != Poll::Ready(false) {
                assert!(begun.elapsed() < Duration::from_secs(10));
            }
            if begun.elapsed() < Eager::limit() {
                waits += 1;
            }
        }
        assert!(waits > 50, "{waits} of 100 waited at once");
    }
}
