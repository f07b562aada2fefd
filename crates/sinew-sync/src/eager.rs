//! Looking for a moment before waiting.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sinew_core::Trust;

use crate::driver::Driver;

/// For how long other tasks of the same worker may be kept waiting by one poll.
const SLICE: Duration = Duration::from_micros(5);
/// Looks between two consultations of the clock.
const LOOKS: u32 = 16;

/// Looking before waiting, for one handle of a primitive; clones begin anew.
///
/// Who looks has not declared that it waits, so that the other side saves its system call too.
#[derive(Debug, Default)]
pub(crate) struct Eager(Mutex<Trust>);

impl Eager {
    /// Looks for a while, if that has lately paid off and no other task of the runtime does.
    ///
    /// Cancel safe: what `ready` gives is returned in the same poll.
    pub(crate) async fn look<R>(
        &self,
        driver: &Driver,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let (_turn, limit) = driver.start_looking()?;
        if !self.trust(Trust::is_given) {
            return None;
        }
        let begun = Instant::now();
        loop {
            let slice = Instant::now();
            while slice.elapsed() < SLICE {
                for _ in 0..LOOKS {
                    if let Some(done) = ready() {
                        // One that took longer is the scheduler's, which let the other side run on our core.
                        self.trust(match begun.elapsed() < limit {
                            true => Trust::succeed,
                            false => Trust::fail,
                        });
                        return Some(done);
                    }
                    std::hint::spin_loop();
                }
            }
            if begun.elapsed() >= limit {
                self.trust(Trust::fail);
                return None;
            }
            tokio::task::yield_now().await;
        }
    }

    fn trust<R>(&self, use_it: impl FnOnce(&mut Trust) -> R) -> R {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clone for Eager {
    fn clone(&self) -> Self {
        Self::default()
    }
}
