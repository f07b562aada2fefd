//! Waiting with threads, each for as many words as futex_waitv(2) takes. Where that is missing,
//! each waits for one word with futex(2).

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::DriverStats;
use super::slot::{Outcome, Slot};
use super::worker::{WORDS, Worker};
use crate::sys::WaitList;

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    /// For how many words a thread waits.
    words: usize,
    /// The worker that was the last to end a wait: it has room, is awake, and gets the next wait, which is often
    /// for the same word.
    roomy: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    /// By number; the numbers are never used again.
    workers: Vec<(usize, Arc<Worker>)>,
    last: usize,
    shut_down: bool,
}

impl Pool {
    /// Finds out whether the kernel has futex_waitv(2), of Linux 5.16, and lets this process call
    /// it.
    pub(super) fn new() -> Result<Self, Errno> {
        let word = AtomicU32::new(1);
        let mut list = WaitList::new();
        list.push(&word, 0);
        let words = match list.wait(None) {
            Ok(_) | Err(Errno::AGAIN) => WORDS,
            Err(Errno::NOSYS | Errno::PERM) => 1,
            Err(errno) => return Err(errno),
        };
        Ok(Self {
            state: Mutex::new(State {
                workers: Vec::new(),
                last: 0,
                shut_down: false,
            }),
            words,
            roomy: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> DriverStats {
        let state = self.lock();
        let mut stats = DriverStats::default();
        for (_, worker) in &state.workers {
            if let Some(waits) = worker.waits() {
                stats.waits += waits;
                stats.threads += 1;
            }
        }
        stats
    }

    pub(super) fn begin(&self, slot: &Arc<Slot>) -> Result<(), Outcome> {
        let mut state = self.lock();
        if state.shut_down {
            return Err(Outcome::ShutDown);
        }
        let roomy = self.roomy.load(Ordering::Relaxed);
        let State { workers, last, .. } = &mut *state;
        let first = workers.iter().find(|(number, _)| *number == roomy);
        // The youngest next: while there are more and more waits, only that one has room.
        for (number, worker) in first.into_iter().chain(workers.iter().rev()) {
            slot.set_key(*number);
            if worker.offer(slot) {
                return Ok(());
            }
        }
        workers.retain(|(_, worker)| worker.waits().is_some());
        *last += 1;
        slot.set_key(*last);
        match Worker::start(*last, slot, &self.roomy, self.words) {
            Ok(worker) => {
                workers.push((*last, worker));
                Ok(())
            }
            Err(error) => Err(Outcome::Failed(
                error
                    .raw_os_error()
                    .unwrap_or_else(|| Errno::AGAIN.raw_os_error()),
            )),
        }
    }

    pub(super) fn cancel(&self, slot: &Arc<Slot>) {
        let state = self.lock();
        let found = state
            .workers
            .iter()
            .find(|(number, _)| *number == slot.key());
        if let Some((_, worker)) = found {
            worker.cancel(slot);
        }
    }

    pub(super) fn shut_down(&self) {
        let workers = {
            let mut state = self.lock();
            state.shut_down = true;
            std::mem::take(&mut state.workers)
        };
        for (_, worker) in workers {
            worker.shut_down();
        }
    }
}
