//! A lock with the data that it protects.

use std::future::Future;
use std::time::Duration;

use bytemuck::Pod;
use sinew_core::Error;
use sinew_core::time;
use sinew_memory::{Region, Slot};

use super::core::{Clean, Core, Taken};
use super::error::{LockError, LockResult, poisoned, timed_out};
use super::guard::{Guard, OwnerDied};
use super::readers::Readers;

/// What mutex and rwlock consist of.
#[derive(Debug)]
pub(super) struct Protected<T> {
    pub(super) core: Core,
    data: Slot<T>,
}

impl<T: Pod> Protected<T> {
    pub(super) fn attach(
        region: &Region,
        offset: usize,
        readers: Option<Readers>,
        data: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            core: Core::attach(region, offset, readers)?,
            data: region.slot(data)?,
        })
    }

    #[inline]
    pub(super) fn load(&self) -> Result<T, Error> {
        self.data.load()
    }

    #[inline]
    pub(super) fn store(&self, value: &T) -> Result<(), Error> {
        self.data.store(value)
    }

    /// Of a lock that was taken.
    #[inline]
    pub(super) fn finish(&self, Taken(clean): Taken) -> LockResult<'_, T> {
        match self.load() {
            Ok(value) if clean == Clean::YES => Ok(Guard::new(self, value)),
            value => self.finish_unclean(clean, value),
        }
    }

    #[cold]
    fn finish_unclean(&self, clean: Clean, value: Result<T, Error>) -> LockResult<'_, T> {
        if clean.is_poisoned() {
            self.core.unlock();
            return Err(LockError::Poisoned(poisoned(self.core.name())));
        }
        match value {
            Ok(value) => Err(LockError::OwnerDied(OwnerDied::new(Guard::new(
                self, value,
            )))),
            Err(error) => {
                self.core.unlock();
                Err(LockError::Failed(error))
            }
        }
    }

    pub(super) async fn within<R>(
        &self,
        timeout: Duration,
        work: impl Future<Output = R>,
    ) -> Result<R, Error> {
        let done = time::timeout(timeout, work).await?;
        done.ok_or_else(|| timed_out(self.core.name(), timeout))
    }

    /// Takes the lock, whatever became of earlier owners, and writes the data anew.
    pub(super) async fn reset(&self, value: &T) -> Result<(), Error> {
        let Taken(_) = self.core.take().await?;
        let stored = self.store(value);
        if stored.is_ok() {
            self.core.set_clean(Clean::YES);
        }
        self.core.unlock();
        stored
    }
}

impl<T> Clone for Protected<T> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            data: self.data.clone(),
        }
    }
}
