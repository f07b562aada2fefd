//! Waiting with io_uring.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sinew_core::{AsyncIo, Error, ErrorKind};
use slab::Slab;
use tokio::io::Interest;

use super::slot::{Outcome, Slot};
use crate::sys::{self, Ring, RingFd};

/// The number of completions that nobody waits for.
const CANCELLATION: u64 = u64::MAX;
/// For how long a runtime that ends waits for what the kernel has to say of its waits. It takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Uring {
    state: Mutex<State>,
}

struct State {
    ring: Ring,
    /// What is in the kernel. It keeps the words mapped until the kernel is done with them.
    waits: Slab<Arc<Slot>>,
    completed: Vec<(u64, i32)>,
    shut_down: bool,
}

/// Ended waits, of which somebody is to be told.
type Reaped = Vec<(Arc<Slot>, i32)>;

impl Uring {
    pub(super) fn new() -> Result<(Self, RingFd), Error> {
        let ring = Ring::new().map_err(refused)?;
        let fd = ring.fd().map_err(refused)?;
        let state = Mutex::new(State {
            ring,
            waits: Slab::new(),
            completed: Vec::new(),
            shut_down: false,
        });
        Ok((Self { state }, fd))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waits(&self) -> usize {
        self.lock().waits.len()
    }

    pub(super) fn begin(&self, slot: &Arc<Slot>) -> Result<(), Outcome> {
        let mut state = self.lock();
        if state.shut_down {
            return Err(Outcome::ShutDown);
        }
        let mut reaped = Vec::new();
        let begun = state.begin(slot, &mut reaped);
        drop(state);
        settle(&mut reaped);
        begun.map_err(|errno| {
            slot.abandon();
            Outcome::Failed(errno.raw_os_error())
        })
    }

    pub(super) fn cancel(&self, slot: &Arc<Slot>) {
        let mut state = self.lock();
        let key = slot.key();
        // The number is another's by now if the wait has ended.
        let is_under_way = state
            .waits
            .get(key)
            .is_some_and(|known| Arc::ptr_eq(known, slot));
        if is_under_way {
            // Where it cannot be asked for now, the wait ends with the next wake-up, which is passed on. If it is asked
            // for later and meets another's wait, that one begins anew.
            let _later = state.ring.cancel(key as u64, CANCELLATION);
            // It may have been woken before, and this runtime may never look again.
            let mut reaped = Vec::new();
            state.reap(&mut reaped);
            drop(state);
            settle(&mut reaped);
        }
    }

    /// Takes completions until the runtime ends.
    pub(super) async fn run(&self, fd: RingFd) {
        let fd = match AsyncIo::with_interest(fd, Interest::READABLE) {
            Ok(fd) => fd,
            Err(error) => {
                tracing::error!(%error, "the futex driver cannot wait");
                return;
            }
        };
        let mut reaped = Vec::new();
        loop {
            let ended = fd.read_with(|_| {
                self.lock().reap(&mut reaped);
                match reaped.is_empty() {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            match ended.await {
                Ok(()) => settle(&mut reaped),
                Err(_) => return,
            }
        }
    }

    /// Ends all waits: those that were woken with that, the others with the runtime.
    pub(super) fn shut_down(&self) {
        let (mut reaped, left) = {
            let mut state = self.lock();
            state.shut_down = true;
            (state.cancel_all(), state.slots())
        };
        reaped.retain(|(slot, result)| {
            let is_woken = outcome(*result) == Outcome::Woken;
            if is_woken {
                end(slot, Outcome::Woken);
            }
            !is_woken
        });
        for slot in reaped.into_iter().map(|(slot, _)| slot).chain(left) {
            slot.complete(Outcome::ShutDown);
        }
    }
}

impl State {
    fn slots(&self) -> Vec<Arc<Slot>> {
        self.waits.iter().map(|(_, slot)| slot.clone()).collect()
    }

    fn begin(&mut self, slot: &Arc<Slot>, reaped: &mut Reaped) -> Result<(), Errno> {
        let key = self.waits.insert(slot.clone());
        slot.set_key(key);
        let mut queued = self.ring.wait(&slot.word, slot.expected, key as u64);
        if is_full(queued) {
            self.reap(reaped);
            queued = self.ring.wait(&slot.word, slot.expected, key as u64);
        }
        if queued.is_err() {
            self.waits.try_remove(key);
            return queued;
        }
        let submitted = self.ring.submit();
        if !is_full(submitted) {
            return submitted;
        }
        self.reap(reaped);
        // What fails to be handed over stays queued, and may begin later: its slot stays for that.
        self.ring.submit()
    }

    /// Cancels all waits, and takes what comes of that until the kernel has none left, or does not get on with it.
    fn cancel_all(&mut self) -> Reaped {
        let mut reaped = Vec::new();
        let keys: Vec<usize> = self.waits.iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.ring.cancel(key as u64, CANCELLATION).is_err() {
                self.reap(&mut reaped);
                let _ends_with_the_ring = self.ring.cancel(key as u64, CANCELLATION);
            }
        }
        let begun = Instant::now();
        loop {
            self.reap(&mut reaped);
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if self.waits.is_empty() || left.is_zero() || self.ring.wait_for_any(left).is_err() {
                return reaped;
            }
        }
    }

    fn reap(&mut self, reaped: &mut Reaped) {
        self.ring.reap(&mut self.completed);
        for (key, result) in self.completed.drain(..) {
            let key = usize::try_from(key).unwrap_or(usize::MAX);
            if let Some(slot) = self.waits.try_remove(key) {
                reaped.push((slot, result));
            }
        }
    }
}

/// Outside of the lock: a waker may do anything.
fn settle(reaped: &mut Reaped) {
    for (slot, result) in reaped.drain(..) {
        end(&slot, outcome(result));
    }
}

/// Whether room in the completion queue may be what it takes.
fn is_full(result: Result<(), Errno>) -> bool {
    matches!(result, Err(Errno::BUSY | Errno::AGAIN))
}

fn outcome(result: i32) -> Outcome {
    const CHANGED: [Errno; 3] = [
        Errno::AGAIN,
        // Also when the thread ended that had begun the wait.
        Errno::CANCELED,
        Errno::INTR,
    ];
    match -result {
        ..=0 => Outcome::Woken,
        errno if CHANGED.iter().any(|known| known.raw_os_error() == errno) => Outcome::Changed,
        errno => Outcome::Failed(errno),
    }
}

/// Tells who waits. A wake-up that nobody sees is passed on.
fn end(slot: &Slot, outcome: Outcome) {
    if !slot.complete(outcome) && outcome == Outcome::Woken {
        sys::wake(&slot.word, 1);
    }
}

fn refused(errno: Errno) -> Error {
    Error::from_raw_os_error("io_uring_setup", errno.raw_os_error())
        .with_kind(ErrorKind::Unsupported)
        .with_reason("io_uring is not to be had here, or cannot wait for futexes")
        .with_remedy("use linux 6.7 or newer and allow io_uring (kernel.io_uring_disabled), or take Backend::Waitv")
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("waits", &self.waits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Waker;

    use sinew_memory::Region;

    use super::*;

    /// The submission queue fills with what the kernel did not take.
    #[test]
    fn a_wait_has_begun_or_failed() {
        let Ok((uring, _fd)) = Uring::new() else {
            return;
        };
        let region = Region::anonymous(4096).unwrap();
        let word = region.view::<AtomicU32>(0).unwrap();
        let begin = || uring.begin(&Slot::new(word.clone(), 0, Waker::noop().clone()));

        uring.lock().ring.refusals = usize::MAX;
        for _ in 0..200 {
            assert!(begin().is_err());
        }
        let queued = uring.waits();
        assert!(queued < 200, "those that are not even queued leave nothing");

        uring.lock().ring.refusals = 1;
        assert!(begin().is_ok());
        assert_eq!(uring.waits(), queued + 1);
        assert_eq!(sys::wake(&word, u32::MAX), queued + 1, "all have begun");
        uring.shut_down();
        assert_eq!(uring.waits(), 0);
    }
}
