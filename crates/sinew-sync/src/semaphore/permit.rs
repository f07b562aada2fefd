use sinew_core::Home;
use sinew_ring::sync::SemaphoreState;

use super::Semaphore;

/// A unit of a [`Semaphore`], given back on drop. A child that is forked has a copy, which gives
/// nothing back.
#[derive(Debug)]
#[must_use = "dropped, it gives the unit back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    state: &'a SemaphoreState,
    home: Home,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(semaphore: &'a Semaphore, state: &'a SemaphoreState) -> Self {
        Self {
            semaphore,
            state,
            home: Home::here(),
        }
    }

    /// Keeps the unit for good, as where somebody else posts.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        // At the largest value there is no room for it, and nobody waits.
        if self.home.is_here()
            && let Some(true) = self.state.post()
        {
            self.semaphore.wake();
        }
    }
}
