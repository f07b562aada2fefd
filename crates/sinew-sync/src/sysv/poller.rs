//! The one thread that looks again and again, for what is beyond the number of threads that may wait in the
//! kernel.
//!
//! It reads all values of a set at once, and so costs a system call for each set and look, however many wait.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};
use std::{io, thread};

use sinew_core::interrupt;

use super::demand::{Answer, Failure};
use super::op::{Fate, fate};
use super::sys;
use super::watch::{NAME, PATIENCE, STACK, Watch};

/// Between two looks, at first and at most.
const SOON: Duration = Duration::from_micros(500);
const LATE: Duration = Duration::from_millis(10);
/// For how long the thread stays when there is nothing to look at.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Poller {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    new: Vec<Arc<Watch>>,
    is_running: bool,
}

struct Polled {
    watch: Arc<Watch>,
    next: Instant,
    interval: Duration,
    called: Option<Instant>,
}

/// Has a watch looked at until nobody waits there.
pub(super) fn add(watch: &Arc<Watch>) -> io::Result<()> {
    let poller = &watch.shared.poller;
    let mut state = poller.lock();
    if !state.is_running {
        let thread = thread::Builder::new().name(NAME.to_owned());
        thread.stack_size(STACK).spawn(|| run(poller))?;
        state.is_running = true;
    }
    state.new.push(Arc::clone(watch));
    poller.changed.notify_one();
    Ok(())
}

impl Poller {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                new: Vec::new(),
                is_running: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(poller: &'static Poller) {
    interrupt::block_signals();
    let mut polled: Vec<Polled> = Vec::new();
    let mut wakers = Vec::new();
    loop {
        let mut state = poller.lock();
        if state.new.is_empty() {
            let now = Instant::now();
            let next = polled.iter().map(|one| one.next).min();
            let span = next.map_or(LINGER, |next| next.saturating_duration_since(now));
            let (guard, timeout) = poller
                .changed
                .wait_timeout(state, span)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() && polled.is_empty() && state.new.is_empty() {
                state.is_running = false;
                return;
            }
        }
        polled.extend(state.new.drain(..).map(|watch| Polled {
            watch,
            next: Instant::now(),
            interval: SOON,
            called: None,
        }));
        drop(state);
        let now = Instant::now();
        let mut sets = HashMap::new();
        polled.retain_mut(|one| {
            if one.next > now {
                return true;
            }
            if one.watch.leave_poller() {
                return false;
            }
            one.look(now, &mut sets, &mut wakers);
            true
        });
        wakers.drain(..).for_each(Waker::wake);
    }
}

impl Polled {
    fn look(
        &mut self,
        now: Instant,
        sets: &mut HashMap<i32, Option<Vec<u16>>>,
        wakers: &mut Vec<Waker>,
    ) {
        let (id, probe) = &self.watch.key;
        let values = sets.entry(*id).or_insert_with(|| {
            let count = sys::status(*id).ok()?.sem_nsems;
            sys::values(*id, u16::try_from(count).ok()?).ok()
        });
        let fate = match values {
            Some(values) => fate(&mut values.clone(), probe),
            // Whoever waits will be told why by its own call.
            None => Fate::Done,
        };
        let patience_over = self.called.is_some_and(|called| now - called >= PATIENCE);
        let mut state = self.watch.lock();
        if fate == Fate::Waits || !state.demand.begin(patience_over) {
            self.interval = (self.interval * 3 / 2).min(LATE);
        } else {
            let answer = match fate {
                Fate::Refused => Answer::Failed(Failure::Refused),
                _ => Answer::Possible,
            };
            let _nobody_interrupts = state.demand.finish(answer, wakers);
            self.called = Some(now);
            // Where it could not be told, this must not become a spin.
            self.interval = match values {
                Some(_) => SOON,
                None => (self.interval * 3 / 2).min(LATE),
            };
        }
        self.next = now + self.interval;
    }
}
