//! Waiting with io_uring.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use sinew_core::{AsyncIo, Error, ErrorKind};
use tokio::io::Interest;

use super::Word;
use super::slot::{Outcome, Slot};
use crate::sys::{self, Ring, RingFd};

/// The number of completions that nobody waits for.
const CANCELLATION: u64 = 0;

pub(super) struct Uring {
    state: Mutex<State>,
}

struct State {
    ring: Ring,
    /// What is in the kernel. It keeps the words mapped until the kernel is done with them.
    waits: HashMap<u64, (Word, Arc<Slot>)>,
    /// The last number given; numbers are never used again.
    last: u64,
    shut_down: bool,
}

impl Uring {
    pub(super) fn new() -> Result<(Self, RingFd), Error> {
        let ring = Ring::new().map_err(refused)?;
        let fd = ring.fd().map_err(refused)?;
        let state = Mutex::new(State {
            ring,
            waits: HashMap::new(),
            last: CANCELLATION,
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

    pub(super) fn begin(
        &self,
        word: &Word,
        expected: u32,
        slot: &Arc<Slot>,
    ) -> Result<(), Outcome> {
        let mut state = self.lock();
        if state.shut_down {
            return Err(Outcome::ShutDown);
        }
        state.last += 1;
        let key = state.last;
        slot.set_key(usize::try_from(key).unwrap_or(usize::MAX));
        state.waits.insert(key, (word.clone(), slot.clone()));
        let mut begun = state.ring.wait(word, expected, key);
        if matches!(begun, Err(Errno::BUSY | Errno::AGAIN)) {
            // The completion queue is full: make room, and hand over again what is queued.
            let reaped = state.reap();
            begun = state.ring.submit();
            drop(state);
            settle(reaped);
        }
        // What failed to be handed over stays queued, and may begin later: its slot stays for that.
        begun.map_err(|errno| {
            slot.abandon();
            Outcome::Failed(errno.raw_os_error())
        })
    }

    pub(super) fn cancel(&self, slot: &Slot) {
        let mut state = self.lock();
        let key = slot.key() as u64;
        if state.waits.contains_key(&key) {
            // Where it cannot be asked for now, the wait ends with the next wake-up, which is passed on.
            let _later = state.ring.cancel(key, CANCELLATION);
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
        loop {
            let reaped = fd.read_with(|_| {
                let reaped = self.lock().reap();
                match reaped.is_empty() {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(reaped),
                }
            });
            match reaped.await {
                Ok(reaped) => settle(reaped),
                Err(_) => return,
            }
        }
    }

    pub(super) fn shut_down(&self) {
        let waits = {
            let mut state = self.lock();
            state.shut_down = true;
            let keys: Vec<u64> = state.waits.keys().copied().collect();
            for key in keys {
                let _ends_with_the_ring = state.ring.cancel(key, CANCELLATION);
            }
            state
                .waits
                .values()
                .map(|(_, slot)| slot.clone())
                .collect::<Vec<_>>()
        };
        for slot in waits {
            slot.complete(Outcome::ShutDown);
        }
    }
}

/// Ended waits, of which somebody is to be told.
type Reaped = Vec<(Option<(Word, Arc<Slot>)>, i32)>;

impl State {
    fn reap(&mut self) -> Reaped {
        let mut completed = Vec::new();
        self.ring.reap(&mut completed);
        completed
            .into_iter()
            .map(|(key, result)| (self.waits.remove(&key), result))
            .collect()
    }
}

/// Outside of the lock: a waker may do anything.
fn settle(reaped: Reaped) {
    for (wait, result) in reaped {
        let Some((word, slot)) = wait else { continue };
        const CHANGED: [Errno; 3] = [
            Errno::AGAIN,
            // Also when the thread ended that had begun the wait.
            Errno::CANCELED,
            Errno::INTR,
        ];
        let outcome = match -result {
            ..=0 => Outcome::Woken,
            errno if CHANGED.iter().any(|known| known.raw_os_error() == errno) => Outcome::Changed,
            errno => Outcome::Failed(errno),
        };
        if !slot.complete(outcome) && outcome == Outcome::Woken {
            sys::wake(&word, 1);
        }
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
