use super::Semaphore;

/// A unit of a [`Semaphore`], given back on drop.
#[derive(Debug)]
#[must_use = "dropped, it gives the unit back at once"]
pub struct Permit<'a> {
    semaphore: Option<&'a Semaphore>,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(semaphore: &'a Semaphore) -> Self {
        Self {
            semaphore: Some(semaphore),
        }
    }

    /// Keeps the unit for good, as where somebody else posts.
    pub fn forget(mut self) {
        self.semaphore = None;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(semaphore) = self.semaphore {
            // At the largest value there is no room for it, and nobody waits.
            let _overflow = semaphore.post();
        }
    }
}
