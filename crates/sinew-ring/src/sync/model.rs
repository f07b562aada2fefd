//! Loom models of the words, with a futex made of loom's own lock: it sleeps only while the word is as expected.

use ::loom::sync::atomic::{AtomicUsize, Ordering};
use ::loom::sync::{Arc, Condvar, Mutex};
use ::loom::thread;
use std::vec::Vec;

use super::*;

/// What futex(2) does: looks at the word and goes to sleep in one step, as far as wakers can tell.
#[derive(Debug)]
struct Futex {
    /// Wake-ups given and not yet taken, and who sleeps.
    queue: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Futex {
    fn new() -> Self {
        Self {
            queue: Mutex::new((0, 0)),
            changed: Condvar::new(),
        }
    }

    fn wait(&self, is_expected: impl Fn() -> bool) {
        let mut queue = self.queue.lock().unwrap();
        if !is_expected() {
            return;
        }
        queue.1 += 1;
        while queue.0 == 0 {
            queue = self.changed.wait(queue).unwrap();
        }
        queue.0 -= 1;
        queue.1 -= 1;
    }

    fn wake(&self, count: usize) {
        let mut queue = self.queue.lock().unwrap();
        let sleeping = queue.1 - queue.0;
        queue.0 += count.min(sleeping);
        drop(queue);
        self.changed.notify_all();
    }
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

fn acquire(state: &SemaphoreState, futex: &Futex) {
    if state.try_acquire() {
        return;
    }
    state.enter();
    while !state.acquire_waiting() {
        futex.wait(|| state.value() == 0);
    }
}

fn post(state: &SemaphoreState, futex: &Futex) {
    if state.post().unwrap() {
        futex.wake(1);
    }
}

/// Two wait for two units that come one by one: both get one, none is left, no wake-up is lost.
#[test]
fn semaphore() {
    model(3, || {
        let shared = Arc::new((SemaphoreState::new(0), Futex::new()));
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || acquire(&shared.0, &shared.1))
            })
            .collect();
        post(&shared.0, &shared.1);
        post(&shared.0, &shared.1);
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!((shared.0.value(), shared.0.waiters()), (0, 0));
    });
}

/// One of two waiters gives up; a wake-up that it had taken is passed on, and the other gets the unit.
#[test]
fn semaphore_with_a_dropped_waiter() {
    model(3, || {
        let shared = Arc::new((SemaphoreState::new(0), Futex::new()));
        let dropped = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.0.enter();
                // As the driver does for a wait that was dropped: it cannot know whether it took one.
                shared.0.leave();
                shared.1.wake(1);
            }
        });
        let taker = thread::spawn({
            let shared = shared.clone();
            move || acquire(&shared.0, &shared.1)
        });
        post(&shared.0, &shared.1);
        dropped.join().unwrap();
        taker.join().unwrap();
        assert_eq!((shared.0.value(), shared.0.waiters()), (0, 0));
    });
}

fn lock(state: &MutexState, futex: &Futex, owner: u64) {
    if state.try_lock(owner).is_ok() {
        return;
    }
    state.enter();
    loop {
        let turn = state.turn();
        if state.try_lock(owner).is_ok() {
            break;
        }
        futex.wait(|| state.turn() == turn);
    }
    state.leave();
}

fn unlock(state: &MutexState, futex: &Futex) {
    if state.unlock() {
        futex.wake(1);
    }
}

/// Two lock and unlock: never both at once, nobody sleeps for ever.
#[test]
fn mutex() {
    model(3, || {
        let shared = Arc::new((MutexState::new(), Futex::new(), AtomicUsize::new(0)));
        let work = |owner: u64, shared: Arc<(MutexState, Futex, AtomicUsize)>| {
            move || {
                lock(&shared.0, &shared.1, owner);
                let seen = shared.2.load(Ordering::Relaxed);
                shared.2.store(seen + 1, Ordering::Relaxed);
                unlock(&shared.0, &shared.1);
            }
        };
        let other = thread::spawn(work(1, shared.clone()));
        work(2, shared.clone())();
        other.join().unwrap();
        assert_eq!(shared.2.load(Ordering::Relaxed), 2);
        assert_eq!(shared.0.owner(), 0);
    });
}

/// An owner has died; of two who know that, one takes the lock, and the other gets it afterwards.
#[test]
fn mutex_of_a_dead_owner() {
    model(3, || {
        let shared = Arc::new((MutexState::new(), Futex::new(), AtomicUsize::new(0)));
        shared.0.try_lock(9).unwrap();
        let heir = |owner: u64, shared: Arc<(MutexState, Futex, AtomicUsize)>| {
            move || {
                shared.0.enter();
                loop {
                    let turn = shared.0.turn();
                    if shared.0.take_from(9, owner).is_ok() {
                        shared.2.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    if shared.0.try_lock(owner).is_ok() {
                        break;
                    }
                    shared.1.wait(|| shared.0.turn() == turn);
                }
                shared.0.leave();
                unlock(&shared.0, &shared.1);
            }
        };
        let other = thread::spawn(heir(1, shared.clone()));
        heir(2, shared.clone())();
        other.join().unwrap();
        assert_eq!(shared.2.load(Ordering::Relaxed), 1, "one heir");
        assert_eq!(shared.0.owner(), 0);
    });
}

/// An event that is set and cleared at once wakes whoever waits.
#[test]
fn event() {
    model(4, || {
        let shared = Arc::new((EventState::new(), Futex::new(), AtomicUsize::new(0)));
        let since = shared.0.word();
        let setter = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.2.store(7, Ordering::Relaxed);
                if shared.0.set() {
                    shared.1.wake(usize::MAX);
                }
                shared.0.clear();
            }
        });
        while !shared.0.is_over(since) {
            let word = shared.0.word();
            if shared.0.is_over(since) {
                break;
            }
            shared.1.wait(|| shared.0.word() == word);
        }
        assert_eq!(shared.2.load(Ordering::Relaxed), 7, "set after that");
        setter.join().unwrap();
    });
}
