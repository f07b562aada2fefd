//! Waiting with threads, each for as many words as futex_waitv(2) takes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::slot::{Outcome, Slot};
use super::{DriverStats, Word};
use crate::sys;

/// Words for one thread: 128, less the one by which it is told of news.
const WORDS: usize = 127;
/// A thread that has had nothing to wait for as long ends.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    threads: Vec<Arc<Shared>>,
    last: usize,
    shut_down: bool,
}

/// What a thread and the pool share.
#[derive(Debug)]
struct Shared {
    /// Changed, and woken, when there is something to look at.
    news: AtomicU32,
    jobs: Mutex<Jobs>,
}

#[derive(Debug)]
struct Jobs {
    waits: Vec<Job>,
    /// The thread has ended or is about to.
    ended: bool,
}

#[derive(Debug, Clone)]
struct Job {
    word: Word,
    expected: u32,
    slot: Arc<Slot>,
}

impl Pool {
    /// Finds out whether the kernel has the call.
    pub(super) fn new() -> Result<Self, Errno> {
        match sys::wait_any(&[(&AtomicU32::new(1), 0)], None) {
            Ok(_) | Err(Errno::AGAIN) => Ok(Self {
                state: Mutex::new(State {
                    threads: Vec::new(),
                    last: 0,
                    shut_down: false,
                }),
            }),
            Err(errno) => Err(errno),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> DriverStats {
        let state = self.lock();
        let mut stats = DriverStats::default();
        for shared in &state.threads {
            let jobs = shared.lock();
            stats.waits += jobs.waits.len();
            stats.threads += usize::from(!jobs.ended);
        }
        stats
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
        state.last = state.last.wrapping_add(1);
        slot.set_key(state.last);
        let job = Job {
            word: word.clone(),
            expected,
            slot: slot.clone(),
        };
        state.threads.retain(|shared| !shared.lock().ended);
        for shared in &state.threads {
            if shared.offer(&job) {
                return Ok(());
            }
        }
        let shared = Arc::new(Shared {
            news: AtomicU32::new(0),
            jobs: Mutex::new(Jobs {
                waits: vec![job],
                ended: false,
            }),
        });
        let spawned = std::thread::Builder::new()
            .name("sinew-futex".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            });
        match spawned {
            Ok(_) => {
                state.threads.push(shared);
                Ok(())
            }
            Err(error) => Err(Outcome::Failed(
                error
                    .raw_os_error()
                    .unwrap_or_else(|| Errno::AGAIN.raw_os_error()),
            )),
        }
    }

    pub(super) fn cancel(&self, slot: &Slot) {
        let threads = self.lock().threads.clone();
        for shared in threads {
            let found = {
                let mut jobs = shared.lock();
                let at = jobs
                    .waits
                    .iter()
                    .position(|job| job.slot.key() == slot.key());
                at.map(|at| jobs.waits.swap_remove(at))
            };
            if found.is_some() {
                shared.tell();
                return;
            }
        }
    }

    pub(super) fn shut_down(&self) {
        let threads = {
            let mut state = self.lock();
            state.shut_down = true;
            std::mem::take(&mut state.threads)
        };
        for shared in threads {
            let waits = {
                let mut jobs = shared.lock();
                jobs.ended = true;
                std::mem::take(&mut jobs.waits)
            };
            shared.tell();
            for job in waits {
                job.slot.complete(Outcome::ShutDown);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.fetch_add(1, Ordering::Release);
        sys::wake(&self.news, 1);
    }

    /// False if this thread has no room.
    fn offer(&self, job: &Job) -> bool {
        let mut jobs = self.lock();
        if jobs.ended || jobs.waits.len() >= WORDS {
            return false;
        }
        jobs.waits.push(job.clone());
        drop(jobs);
        self.tell();
        true
    }

    fn run(&self) {
        loop {
            let news = self.news.load(Ordering::Acquire);
            let waits = {
                let mut jobs = self.lock();
                if jobs.ended {
                    return;
                }
                // Somebody may have changed a word before this thread came to wait for it.
                jobs.finish(None);
                jobs.waits.clone()
            };
            let mut words = Vec::with_capacity(waits.len() + 1);
            words.push((&self.news, news));
            words.extend(waits.iter().map(|job| (&*job.word, job.expected)));
            let timeout = waits.is_empty().then_some(IDLE);
            let woken = match sys::wait_any(&words, timeout) {
                // The kernel names the last of those that were woken: with the first, no other was.
                Ok(index) => index.checked_sub(1),
                Err(Errno::TIMEDOUT) => {
                    let mut jobs = self.lock();
                    if jobs.waits.is_empty() {
                        jobs.ended = true;
                        return;
                    }
                    continue;
                }
                Err(Errno::AGAIN | Errno::INTR) => None,
                Err(errno) => {
                    // Out of memory, or a word whose memory is gone: everybody is told, rather than one
                    // chosen wrongly.
                    for job in std::mem::take(&mut self.lock().waits) {
                        job.slot.complete(Outcome::Failed(errno.raw_os_error()));
                    }
                    continue;
                }
            };
            let woken = woken.and_then(|index| waits.get(index));
            self.lock().finish(woken.map(|job| job.slot.key()));
            // Waits that were cancelled meanwhile may have taken wake-ups.
            for job in &waits {
                let is_woken = woken.is_some_and(|woken| Arc::ptr_eq(&woken.slot, &job.slot));
                let changed = is_woken || job.word.load(Ordering::Acquire) != job.expected;
                // Only these: one that is completed here would stay among the jobs, if its word changed back.
                if changed && job.slot.is_abandoned() {
                    sys::wake(&job.word, 1);
                }
            }
        }
    }
}

impl Jobs {
    /// Ends the waits whose words have changed, and the one that was woken.
    fn finish(&mut self, woken: Option<usize>) {
        self.waits.retain(|job| {
            let ends =
                woken == Some(job.slot.key()) || job.word.load(Ordering::Acquire) != job.expected;
            // One that was abandoned is dealt with by whoever abandoned it, and by the thread.
            !(ends && job.slot.complete(Outcome::Woken))
        });
    }
}
