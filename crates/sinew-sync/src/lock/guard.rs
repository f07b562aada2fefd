use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use sinew_core::Error;

use super::core::Clean;
use super::protected::Protected;

/// A lock that is held for writing, with the data; freed on drop.
///
/// It has a copy of the data. What was changed is written back when the lock is freed, so that an owner that
/// dies while it computes leaves the data as they were.
///
/// It may be sent to another task or thread, and held across `.await`. A child that is forked has a
/// copy, which holds nothing: dropped there, it changes neither the lock nor the data. A child that
/// takes the same lock itself must drop that copy before.
#[must_use = "dropped, it frees the lock at once"]
pub struct Guard<'a, T: Pod> {
    lock: &'a Protected<T>,
    value: T,
    state: Value,
}

/// Whether the copy is as it was found. As wide as its neighbours: a guard without padding, and with the variants of
/// the results around it in the same word, is moved in whole words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Value {
    Found,
    Changed,
}

impl<'a, T: Pod> Guard<'a, T> {
    /// Of a lock that was taken.
    #[inline]
    pub(super) fn new(lock: &'a Protected<T>, value: T) -> Self {
        Self {
            lock,
            value,
            state: Value::Found,
        }
    }

    /// Writes what was changed back now.
    ///
    /// # Errors
    ///
    /// None that could be met where locking was.
    #[inline]
    pub fn write_back(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.state, Value::Found) == Value::Changed {
            self.lock.store(&self.value)?;
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> &'a Protected<T> {
        self.lock
    }
}

impl<T: Pod> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Pod> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.state = Value::Changed;
        &mut self.value
    }
}

impl<T: Pod> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A child that was forked leaves the lock and the data to its parent.
        if self.lock.core.is_held() {
            // The range was checked when the lock was attached.
            let _cannot_fail = self.write_back();
            self.lock.core.unlock();
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.value).finish()
    }
}

/// A lock whose owner has died, with the data as it left them.
///
/// Dropped as it is, it frees the lock, and the next who locks is told the same.
#[must_use = "dropped, it leaves the matter to the next who locks"]
pub struct OwnerDied<'a, T: Pod> {
    guard: Guard<'a, T>,
}

impl<'a, T: Pod> OwnerDied<'a, T> {
    pub(super) fn new(guard: Guard<'a, T>) -> Self {
        Self { guard }
    }

    /// The data are fine, or have been made so: the lock is an ordinary one again.
    pub fn recover(self) -> Guard<'a, T> {
        self.guard.lock.core.set_clean(Clean::YES);
        self.guard
    }

    /// The data are not to be saved: everybody who locks is told so, until somebody resets them.
    pub fn poison(self) {
        self.guard.lock.core.set_clean(Clean::POISONED);
    }

    pub(super) fn name(&self) -> &str {
        self.guard.lock.core.name()
    }
}

impl<T: Pod> Deref for OwnerDied<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: Pod> DerefMut for OwnerDied<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for OwnerDied<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnerDied").field(&self.guard.value).finish()
    }
}
