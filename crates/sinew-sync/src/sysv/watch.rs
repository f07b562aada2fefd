//! The helper threads that wait for operations, and who shares them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use sinew_core::interrupt::{self, Interrupter};

use super::demand::{Answer, Demand, Failure};
use super::poller;
use super::shared::{self, Shared};
use super::sys::{self, Step};

/// How many threads wait at once; what is beyond is looked at again and again by one more.
pub(super) const THREADS: usize = 64;
/// For how long a helper that nobody needs stays.
const LINGER: Duration = Duration::from_secs(1);
/// For how long one that was woken, and does not come, keeps others waiting.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);
/// It makes system calls only; what remains is for a handler of somebody else's.
pub(super) const STACK: usize = 128 << 10;
pub(super) const NAME: &str = "sinew-sysvsem";

/// A set, and what is to be possible there.
pub(super) type Key = (i32, Arc<[Step]>);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Locks go in this order: that of all watches, that of one, that of the poller.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) key: Key,
    /// Of the process that has its helper.
    pub(super) shared: &'static Shared,
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) demand: Demand,
    users: usize,
    helper: Helper,
    /// While a thread is there.
    interrupter: Option<Interrupter>,
    /// The helper need not linger.
    ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Helper {
    None,
    Thread,
    Poller,
}

/// A wait under way.
#[derive(Debug)]
pub(super) struct Ticket {
    watch: Arc<Watch>,
    number: u64,
}

impl Ticket {
    pub(super) fn new(id: i32, probe: Arc<[Step]>) -> Self {
        let shared = shared::current();
        let mut watches = lock(&shared.watches);
        let key = (id, probe);
        let watch = match watches.get(&key) {
            Some(known) => Arc::clone(known),
            None => {
                let watch = Arc::new(Watch {
                    key: key.clone(),
                    shared,
                    state: Mutex::new(State {
                        demand: Demand::new(),
                        users: 0,
                        helper: Helper::None,
                        interrupter: None,
                        ending: false,
                    }),
                    asked: Condvar::new(),
                });
                watches.insert(key, Arc::clone(&watch));
                watch
            }
        };
        let mut state = watch.lock();
        state.users += 1;
        state.ending = false;
        drop(state);
        Self {
            watch,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether it is of a process from which this one was forked, which does not have the helper.
    pub(super) fn is_stale(&self) -> bool {
        !self.watch.shared.is_current()
    }

    /// Has the helper wait. `Some` is why it cannot: see [`Demand::failure`].
    ///
    /// # Errors
    ///
    /// Where there is no helper and none can be started.
    pub(super) fn wait(&self, waker: &Waker) -> io::Result<Option<Failure>> {
        let mut state = self.watch.lock();
        if let Some(failure) = state.demand.failure(self.number) {
            return Ok(Some(failure));
        }
        let tell = state.demand.enlist(self.number, waker);
        match state.helper {
            Helper::None => {
                state.helper = match start(&self.watch)? {
                    true => Helper::Thread,
                    false => {
                        poller::add(&self.watch)?;
                        Helper::Poller
                    }
                };
            }
            Helper::Thread if tell => {
                drop(state);
                self.watch.asked.notify_one();
            }
            Helper::Thread | Helper::Poller => {}
        }
        Ok(None)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_stale() {
            // Its locks may be held by threads that this process does not have.
            return;
        }
        let mut watches = lock(&self.watch.shared.watches);
        let mut state = self.watch.lock();
        let left = state.demand.leave(self.number);
        state.users -= 1;
        if left.recall
            && let Some(interrupter) = &state.interrupter
        {
            interrupter.start();
        }
        let is_over = state.is_over();
        drop(state);
        if is_over {
            watches.remove(&self.watch.key);
        }
        drop(watches);
        if let Some(waker) = left.next {
            waker.wake();
        }
    }
}

/// A set is closed: helpers that nobody needs end at once.
pub(super) fn close(id: i32) {
    for ((of, _), watch) in &*lock(&shared::current().watches) {
        if *of == id {
            let mut state = watch.lock();
            if state.users == 0 {
                state.ending = true;
                watch.asked.notify_one();
            }
        }
    }
}

/// Starts a helper thread; false if there are as many as there may be.
fn start(watch: &Arc<Watch>) -> io::Result<bool> {
    let more = |running: usize| (running < THREADS).then_some(running + 1);
    let shared = watch.shared;
    if shared
        .running
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_err()
    {
        return Ok(false);
    }
    let running = Running(shared);
    let watch = Arc::clone(watch);
    let thread = std::thread::Builder::new().name(NAME.to_owned());
    let started = thread.stack_size(STACK).spawn(move || {
        let _running = running;
        watch.help();
    });
    started.map(|_detached| true)
}

/// Counts a thread.
struct Running(&'static Shared);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// Whether nothing is left of it.
    fn is_over(&self) -> bool {
        self.users == 0 && self.helper == Helper::None
    }
}

impl Watch {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The helper thread.
    fn help(self: &Arc<Self>) {
        interrupt::block_signals();
        let mut timer = None;
        match Interrupter::new() {
            Ok(interrupter) => self.lock().interrupter = Some(interrupter),
            Err(error) => timer = Some(Failure::Timer(errno(&error))),
        }
        let mut wakers = Vec::new();
        loop {
            if !self.rest() {
                if self.end(None, &mut wakers) {
                    return;
                }
                continue;
            }
            let answer = match timer {
                None => ask(&self.key),
                Some(failure) => Answer::Failed(failure),
            };
            // The operation and its opposite are more than the kernel takes at once: the poller does not
            // need to ask.
            let answer = match answer {
                Answer::Failed(Failure::Call(libc::E2BIG)) => None,
                answer => Some(answer),
            };
            let mut state = self.lock();
            let answered = answer.unwrap_or(Answer::Interrupted);
            if state.demand.finish(answered, &mut wakers)
                && let Some(interrupter) = &state.interrupter
            {
                interrupter.stop();
            }
            drop(state);
            let ends = match (answer, timer) {
                (None, _) => self.end(Some(libc::E2BIG), &mut wakers),
                // Whoever waits next tries it with a new helper.
                (_, Some(_)) => self.end(None, &mut wakers),
                _ => false,
            };
            wakers.drain(..).for_each(Waker::wake);
            if ends {
                return;
            }
        }
    }

    /// Rests until there is something to ask, or, with false, nobody has needed it for long enough.
    fn rest(&self) -> bool {
        let mut patience_over = false;
        let mut state = self.lock();
        loop {
            if state.demand.begin(patience_over) {
                return true;
            }
            if state.ending && !state.demand.is_wanted() {
                return false;
            }
            let patient = state.demand.is_patient();
            let span = if patient { PATIENCE } else { LINGER };
            let (guard, timeout) = self
                .asked
                .wait_timeout(state, span)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            patience_over = patient && timeout.timed_out();
            if !patient && timeout.timed_out() && !state.demand.is_wanted() {
                return false;
            }
        }
    }

    /// The thread ends, unless somebody has come meanwhile; with the errno for which it does, the poller
    /// goes on.
    fn end(self: &Arc<Self>, errno: Option<i32>, wakers: &mut Vec<Waker>) -> bool {
        let mut watches = lock(&self.shared.watches);
        let mut state = self.lock();
        if let Some(errno) = errno
            && state.demand.is_wanted()
        {
            if poller::add(self).is_ok() {
                state.helper = Helper::Poller;
                state.interrupter = None;
                return true;
            }
            let failed = Answer::Failed(Failure::Call(errno));
            let _nobody_interrupts = state.demand.finish(failed, wakers);
        }
        if state.demand.is_wanted() {
            return false;
        }
        state.helper = Helper::None;
        state.interrupter = None;
        if state.is_over() {
            drop(state);
            watches.remove(&self.key);
        }
        true
    }

    /// The poller has nothing more to do for this watch, if nobody waits.
    pub(super) fn leave_poller(&self) -> bool {
        let mut watches = lock(&self.shared.watches);
        let mut state = self.lock();
        if state.demand.is_wanted() {
            return false;
        }
        state.helper = Helper::None;
        if state.is_over() {
            drop(state);
            watches.remove(&self.key);
        }
        true
    }
}

fn ask((id, probe): &Key) -> Answer {
    match sys::operate(*id, probe) {
        Ok(()) => Answer::Possible,
        Err(error) => match errno(&error) {
            libc::EINTR => Answer::Interrupted,
            libc::EAGAIN => Answer::Failed(Failure::Refused),
            // It is the caller's to hear of, from its own call.
            libc::ERANGE => Answer::Possible,
            errno => Answer::Failed(Failure::Call(errno)),
        },
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
