//! Looking for a moment before waiting, for a primitive that several tasks wait for.

use std::sync::{Mutex, PoisonError};

use sinew_core::{AdaptiveSpin, Looked, Looks, SpinHistory, Wait};

use crate::driver::Driver;

/// What the waits for one handle of a primitive have taught; a clone begins anew.
///
/// A task that looks has not declared that it waits, so that the other side saves its system call
/// too.
#[derive(Debug, Default)]
pub(crate) struct SharedSpin(Mutex<SpinHistory>);

impl SharedSpin {
    /// Looks for a while, if that has lately paid off.
    ///
    /// Cancel safe: what `ready` gives is returned in the same poll.
    pub(crate) async fn look<R>(
        &self,
        driver: &Driver,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let limit = driver.spin_limit();
        if limit.is_zero() {
            return None;
        }
        let mut spin = AdaptiveSpin::new(Wait::Adaptive, limit).with_history(self.get());
        loop {
            let mut done = None;
            let looked = spin.look(Looks::ALONE, || {
                done = ready();
                done.is_some()
            });
            if looked == Looked::Yield {
                tokio::task::yield_now().await;
                continue;
            }
            self.set(spin.history().clone());
            return done;
        }
    }

    fn get(&self) -> SpinHistory {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, history: SpinHistory) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = history;
    }
}

impl Clone for SharedSpin {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

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
            let found = SharedSpin::default()
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
            assert_eq!(
                SharedSpin::default().look(&driver, || None::<()>).await,
                None
            );
            assert!(turns.get() > 1, "{}", turns.get());
            other.abort();
        });
    }

    #[test]
    fn none_looks_without_a_limit() {
        on_a_runtime(async |driver| {
            let mut looks = 0;
            driver.set_spin_limit(Duration::ZERO);
            let look = || {
                looks += 1;
                None::<()>
            };
            assert_eq!(SharedSpin::default().look(&driver, look).await, None);
            assert_eq!(looks, 0);
        });
    }

    #[test]
    fn many_that_wait_in_vain_teach_the_handle_not_to_look() {
        on_a_runtime(async |driver| {
            let spin = SharedSpin::default();
            let mut looked = 0;
            for _ in 0..100 {
                let mut looks = 0;
                let look = || {
                    looks += 1;
                    None::<()>
                };
                assert_eq!(spin.look(&driver, look).await, None);
                looked += u32::from(looks > 0);
            }
            assert!(looked < 10, "{looked} of 100");
        });
    }
}
