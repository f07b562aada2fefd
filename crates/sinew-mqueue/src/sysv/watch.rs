//! The helper thread that waits for messages, and who shares it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use libc::c_int;
use sinew_core::interrupt::{self, Interrupter};

use super::demand::{Answer, Demand, Look};
use super::select::Select;
use crate::sys;

/// For how long a helper that nobody asks stays.
const LINGER: Duration = Duration::from_secs(1);
/// It makes system calls only; what remains is for a handler of somebody else's.
const STACK: usize = 128 << 10;

type Key = (i32, Select);

/// The receivers of this process share a helper where they have the same queue and the same selection.
static WATCHES: LazyLock<Mutex<HashMap<Key, Arc<Watch>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Watch {
    key: Key,
    state: Mutex<State>,
    asked: Condvar,
    /// A copy of [`Demand::is_quiet`], for a look without the lock.
    quiet: AtomicBool,
}

#[derive(Debug)]
struct State {
    demand: Demand,
    receivers: usize,
    helper: bool,
    /// While the helper is there.
    interrupter: Option<Interrupter>,
}

/// A receiver's part in a watch.
#[derive(Debug)]
pub(super) struct Watcher {
    watch: Arc<Watch>,
    receiver: u64,
    interested: bool,
}

impl Watcher {
    pub(super) fn new(id: i32, select: Select) -> Self {
        let key = (id, select);
        let mut watches = lock(&WATCHES);
        let watch = watches.entry(key).or_insert_with(|| {
            Arc::new(Watch {
                key,
                state: Mutex::new(State {
                    demand: Demand::new(),
                    receivers: 0,
                    helper: false,
                    interrupter: None,
                }),
                asked: Condvar::new(),
                quiet: AtomicBool::new(true),
            })
        });
        lock(&watch.state).receivers += 1;
        Self {
            watch: Arc::clone(watch),
            receiver: NEXT.fetch_add(1, Ordering::Relaxed),
            interested: false,
        }
    }

    /// What there is before a try; see [`Demand::look`]. Without a waker nothing is registered.
    #[inline]
    pub(super) fn look(&mut self, waker: Option<&Waker>) -> Look {
        if !self.interested && self.watch.quiet.load(Ordering::Acquire) {
            return Look::Try;
        }
        let mut state = lock(&self.watch.state);
        let look = state.demand.look(self.receiver, waker);
        self.watch.publish(&state);
        match look {
            Look::Wait => self.interested |= waker.is_some(),
            _ => self.interested = false,
        }
        look
    }

    /// Has the helper wait on behalf of this receiver; see [`Demand::wait`].
    ///
    /// # Errors
    ///
    /// Where there is no helper and none can be started.
    pub(super) fn wait(&mut self, waker: &Waker) -> io::Result<Look> {
        let mut state = lock(&self.watch.state);
        let look = state.demand.wait(self.receiver, waker);
        self.interested = look == Look::Wait;
        self.watch.publish(&state);
        if !self.interested {
            return Ok(look);
        }
        if state.helper {
            drop(state);
            self.watch.asked.notify_one();
            return Ok(look);
        }
        let watch = Arc::clone(&self.watch);
        let started = std::thread::Builder::new()
            .name("sinew-sysvmq".to_owned())
            .stack_size(STACK)
            .spawn(move || watch.help());
        match started {
            Ok(_detached) => {
                state.helper = true;
                Ok(look)
            }
            Err(error) => {
                drop(state);
                self.withdraw();
                Err(error)
            }
        }
    }

    /// Ends the interest in what has not come yet.
    pub(super) fn withdraw(&mut self) {
        if std::mem::take(&mut self.interested) {
            let mut state = lock(&self.watch.state);
            self.watch.withdraw(&mut state, self.receiver);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watches = lock(&WATCHES);
        let mut state = lock(&self.watch.state);
        self.watch.withdraw(&mut state, self.receiver);
        state.receivers -= 1;
        self.watch.forget_if_unused(&state, &mut watches);
        drop(state);
        self.watch.asked.notify_one();
    }
}

impl Watch {
    fn withdraw(&self, state: &mut State, receiver: u64) {
        if state.demand.withdraw(receiver)
            && let Some(interrupter) = &state.interrupter
        {
            interrupter.start();
        }
        self.put_back(state);
        self.publish(state);
    }

    /// Returns a message to the queue that nobody wants any more. It has no payload, so that it fits
    /// also where the queue is full. Without permission to write it stays, for the next receiver.
    fn put_back(&self, state: &mut State) {
        let Some(kind) = state.demand.unwanted() else {
            return;
        };
        let sent = sys::tag(kind).and_then(|tag| sys::send(self.key.0, tag, &[], &mut Vec::new()));
        match sent {
            Ok(()) => state.demand.returned(),
            Err(error) if super::queue::is_removed(&error) => state.demand.returned(),
            Err(error) => tracing::warn!(
                queue = self.key.0,
                kind,
                %error,
                "a message without payload cannot go back into the queue"
            ),
        }
    }

    /// Takes it off the list once nobody has a part in it. As long as a message is held that could not be put
    /// back, or the helper may bring one, it stays for the next receiver.
    fn forget_if_unused(&self, state: &State, watches: &mut HashMap<Key, Arc<Self>>) {
        if state.receivers == 0
            && !state.demand.may_hold()
            && let Entry::Occupied(entry) = watches.entry(self.key)
            && std::ptr::eq(Arc::as_ptr(entry.get()), self)
        {
            entry.remove();
        }
    }

    #[inline]
    fn publish(&self, state: &State) {
        self.quiet.store(state.demand.is_quiet(), Ordering::Release);
    }

    /// The helper thread.
    fn help(&self) {
        interrupt::block_signals();
        let (id, select) = self.key;
        let asked = Interrupter::new().and_then(|interrupter| {
            lock(&self.state).interrupter = Some(interrupter);
            select.arguments()
        });
        let mut wakers = Vec::new();
        let mut lingered = false;
        let mut state = lock(&self.state);
        loop {
            if !state.demand.begin() {
                if lingered || state.receivers == 0 {
                    break;
                }
                let (guard, timeout) = self
                    .asked
                    .wait_timeout(state, LINGER)
                    .unwrap_or_else(PoisonError::into_inner);
                state = guard;
                lingered = timeout.timed_out();
                continue;
            }
            lingered = false;
            self.publish(&state);
            drop(state);
            let answer = match &asked {
                Ok(arguments) => ask(id, *arguments),
                Err(error) => failed(error),
            };
            state = lock(&self.state);
            if state.demand.finish(answer, &mut wakers)
                && let Some(interrupter) = &state.interrupter
            {
                interrupter.stop();
            }
            self.put_back(&mut state);
            self.publish(&state);
            if asked.is_err() {
                // Whoever waits next tries it with a new helper.
                break;
            }
            if !wakers.is_empty() {
                drop(state);
                wakers.drain(..).for_each(Waker::wake);
                state = lock(&self.state);
            }
        }
        state.helper = false;
        state.interrupter = None;
        drop(state);
        let mut watches = lock(&WATCHES);
        self.forget_if_unused(&lock(&self.state), &mut watches);
        drop(watches);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn ask(id: i32, (kind, flags): (libc::c_long, c_int)) -> Answer {
    match sys::watch(id, kind, flags) {
        Ok(kind) => Answer::Empty(kind),
        Err(error) => match error.raw_os_error() {
            Some(libc::E2BIG) => Answer::Message,
            Some(libc::EINTR) => Answer::Interrupted,
            _ => failed(&error),
        },
    }
}

fn failed(error: &io::Error) -> Answer {
    Answer::Failed(error.raw_os_error().unwrap_or(libc::EINVAL))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
