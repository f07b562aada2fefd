use sinew_core::{Error, Home};

use super::semaphore::Semaphore;

/// Units of a [`Semaphore`], given back on drop, and as they were taken: with or without undo. A
/// child that is forked has a copy, which gives nothing back.
#[derive(Debug)]
#[must_use = "dropped, it gives the units back at once"]
pub struct Permit {
    semaphore: Option<Semaphore>,
    count: u16,
    home: Home,
}

impl Permit {
    pub(super) fn new(semaphore: Semaphore, count: u16) -> Self {
        Self {
            semaphore: Some(semaphore),
            count,
            home: Home::here(),
        }
    }

    /// How many units.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Gives the units back, and says whether that has worked, which dropping cannot.
    ///
    /// # Errors
    ///
    /// As for [`Semaphore::post`]. The units are then not given back.
    pub fn release(mut self) -> Result<(), Error> {
        match self.semaphore.take() {
            Some(semaphore) => semaphore.post_many(self.count),
            None => Ok(()),
        }
    }

    /// Keeps the units, as where somebody else gives. Those that were taken with undo come back when the
    /// process ends.
    pub fn forget(mut self) {
        self.semaphore = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(semaphore) = self.semaphore.take()
            && self.home.is_here()
            && let Err(error) = semaphore.post_many(self.count)
            && !error.is_closed()
        {
            tracing::warn!(%error, "units cannot be given back");
        }
    }
}
