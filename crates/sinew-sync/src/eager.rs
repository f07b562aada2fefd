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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn on_a_runtime(test: impl AsyncFnOnce(Driver)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async { test(Driver::current().unwrap()).await });
    }

    #[test]
    fn what_comes_soon_is_found() {
        on_a_runtime(async |driver| {
            let mut looks = 0;
            let found = Eager::default()
                .look(&driver, || {
                    looks += 1;
                    (looks == 3).then_some("it")
                })
                .await;
            assert_eq!(found, Some("it"));
        });
    }

    #[test]
    fn others_have_their_turn_until_it_is_given_up() {
        on_a_runtime(async |driver| {
            driver.set_spin_limit(Duration::from_millis(20));
            let turns = Rc::new(Cell::new(0));
            let other = tokio::task::spawn_local({
                let turns = turns.clone();
                async move {
                    loop {
                        turns.set(turns.get() + 1);
                        tokio::task::yield_now().await;
                    }
                }
            });
            assert_eq!(Eager::default().look(&driver, || None::<()>).await, None);
            assert!(turns.get() > 1, "{}", turns.get());
            other.abort();
        });
    }

    #[test]
    fn one_looks_at_a_time_and_none_without_a_limit() {
        on_a_runtime(async |driver| {
            let looks = Cell::new(0);
            let look = || {
                looks.set(looks.get() + 1);
                None::<()>
            };
            {
                let _another = driver.start_looking().unwrap();
                assert_eq!(Eager::default().look(&driver, look).await, None);
            }
            driver.set_spin_limit(Duration::ZERO);
            assert_eq!(Eager::default().look(&driver, look).await, None);
            assert_eq!(looks.get(), 0);
        });
    }
}
