use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytemuck::Pod;
use sinew_core::time;
use sinew_core::{Error, ErrorKind, Home};
use sinew_memory::{Region, View};

use super::error::{LockError, LockResult};
use super::guard::Guard;
use super::header::{self, Kind};
use crate::driver::{Driver, Word};
use crate::sys;

/// A condition variable between processes: a place to wait for what somebody changes under a lock.
///
/// As everywhere, waiting can end without a reason: look at the condition again, in a loop.
///
/// A process that is killed just when [`notify_one`](Self::notify_one) has woken it takes that along; where
/// that may be, use [`notify_all`](Self::notify_all).
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::{Condvar, Mutex};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let ready = Mutex::create(&region, 0, 0_u32)?;
/// let changed = Condvar::create(&region, 256)?;
///
/// let (theirs, bell) = (ready.clone(), changed.clone());
/// tokio::spawn(async move {
///     *theirs.lock().await? = 1;
///     bell.notify_all();
///     Ok::<_, sinew_core::Error>(())
/// });
///
/// let mut guard = ready.lock().await?;
/// while *guard == 0 {
///     guard = changed.wait(guard).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Condvar {
    turn: Word,
    waiters: View<AtomicU32>,
}

impl Condvar {
    /// Bytes that one takes in a region.
    pub const SIZE: usize = 16;
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;

    /// Makes one in a region. Whatever was there before is gone.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::create`](crate::Mutex::create).
    pub fn create(region: &Region, offset: usize) -> Result<Self, Error> {
        header::create(region, offset, Self::SIZE, Kind::Condvar, 0, || Ok(()))?;
        Self::attach(region, offset)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::attach`](crate::Mutex::attach).
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        header::check(region, offset, Self::SIZE, Kind::Condvar, 0)?;
        Ok(Self {
            turn: region.view(offset + header::SIZE)?,
            waiters: region.view(offset + header::SIZE + 4)?,
        })
    }

    /// Frees the lock, waits until notified, and locks again.
    ///
    /// What is changed after the lock was freed and then notified is not missed.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::lock`](crate::Mutex::lock); the lock is free then, but for
    /// [`LockError::OwnerDied`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it does not hold the lock, and a notification of one that was
    /// meant for it goes to another waiter.
    pub async fn wait<'a, T: Pod>(&self, guard: Guard<'a, T>) -> LockResult<'a, T> {
        let driver = Driver::current()?;
        let lock = guard.lock();
        let _waiter = Waiter::new(&self.waiters);
        let turn = self.turn.load(Ordering::SeqCst);
        drop(guard);
        driver.wait(&self.turn, turn).await?;
        let notified = Notified::new(&self.turn);
        let taken = lock.core.take().await?;
        notified.keep();
        lock.finish(taken)
    }

    /// As [`wait`](Self::wait), for `timeout` at most, after which the lock is free.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As for [`wait`](Self::wait).
    pub async fn wait_timeout<'a, T: Pod>(
        &self,
        guard: Guard<'a, T>,
        timeout: Duration,
    ) -> LockResult<'a, T> {
        match time::timeout(timeout, self.wait(guard)).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(LockError::Failed(self.timed_out(timeout))),
            Err(error) => Err(LockError::Failed(error)),
        }
    }

    /// As [`wait`](Self::wait), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait); when the time is up it returns with the lock, as for no reason.
    pub fn blocking_wait<'a, T: Pod>(
        &self,
        guard: Guard<'a, T>,
        timeout: Option<Duration>,
    ) -> LockResult<'a, T> {
        let lock = guard.lock();
        let waiter = Waiter::new(&self.waiters);
        let turn = self.turn.load(Ordering::SeqCst);
        drop(guard);
        let notified = sys::wait(&self.turn, turn, timeout)
            .is_ok()
            .then(|| Notified::new(&self.turn));
        drop(waiter);
        let taken = lock.core.blocking_take(None)?;
        if let Some(notified) = notified {
            notified.keep();
        }
        lock.finish(taken)
    }

    /// Wakes one of those who wait. Whether there was one.
    pub fn notify_one(&self) -> bool {
        self.notify(1) > 0
    }

    /// Wakes all who wait. How many there were.
    pub fn notify_all(&self) -> usize {
        self.notify(u32::MAX)
    }

    fn notify(&self, count: u32) -> usize {
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.turn.fetch_add(1, Ordering::SeqCst);
        sys::wake(&self.turn, count)
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        Error::new(ErrorKind::TimedOut, "wait")
            .with_address(self.turn.region().name())
            .with_reason(format!("nobody notified within {timeout:?}"))
    }
}

struct Waiter<'a>(&'a AtomicU32, Home);

impl<'a> Waiter<'a> {
    fn new(waiters: &'a AtomicU32) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters, Home::here())
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.1.is_here() {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A notification that may have been the only one, passed on unless its waiter has the lock again.
struct Notified<'a>(&'a AtomicU32, Home);

impl<'a> Notified<'a> {
    fn new(turn: &'a AtomicU32) -> Self {
        Self(turn, Home::here())
    }
}

impl Notified<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if self.1.is_here() {
            self.0.fetch_add(1, Ordering::SeqCst);
            sys::wake(self.0, 1);
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("region", &self.turn.region().name())
            .finish_non_exhaustive()
    }
}
