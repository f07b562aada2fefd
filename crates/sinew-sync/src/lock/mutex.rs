use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytemuck::Pod;
use sinew_core::Error;
use sinew_memory::Region;

use super::core::{DATA, Taken};
use super::error::{LockError, LockResult};
use super::header::{self, Kind};
use super::protected::Protected;
use crate::budget;
use crate::slow::Slow;

/// A mutual exclusion between processes, with the data that it protects, awaited from Tokio.
///
/// # An owner that dies
///
/// A process that is killed while it holds the lock does not keep it: waiters, and whoever locks next, get
/// [`LockError::OwnerDied`] within 100 ms, with the lock and the data. They [recover](crate::OwnerDied::recover) it,
/// or [give the data up](crate::OwnerDied::poison). A process that executes another program counts
/// as one that died.
///
/// The owner is a process that has a lock on the region's file (see
/// [`Region::presence`](crate::Region::presence)), which works between containers, too. SysV segments
/// and anonymous memory have no file: there, an owner in another pid or time namespace is an error
/// of kind [`Unsupported`](sinew_core::ErrorKind::Unsupported), after 40 ms of waiting for it.
///
/// # Children
///
/// A guard belongs to the process that has locked. A child that is forked can drop its copy, which
/// changes nothing, and can lock for itself.
///
/// A guard that is leaked (`std::mem::forget`) by a process that lives on keeps the lock for as long.
///
/// # Fairness
///
/// None: whoever comes just when the lock is freed may have it before those who have been waiting. A waiter
/// is woken with each turn.
///
/// # Cost
///
/// Free, an exchange each to lock and to unlock; otherwise a wait of the [`Driver`](crate::Driver)'s.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::Mutex;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let counter = Mutex::create(&region, 0, 0_u64)?;
///
/// // In another process, or here:
/// let same = Mutex::<u64>::attach(&region, 0)?;
/// *same.lock().await? += 1;
/// assert_eq!(*counter.lock().await?, 1);
/// # Ok(())
/// # }
/// ```
pub struct Mutex<T> {
    lock: Protected<T>,
}

impl<T: Pod> Mutex<T> {
    /// Bytes that one takes in a region.
    pub const SIZE: usize = (DATA + size_of::<T>()).next_multiple_of(8);
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;

    /// Makes one in a region, free, with this value. Whatever was there before is gone.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) for an offset that is not aligned or
    /// past the end, or a region that was attached for reading.
    pub fn create(region: &Region, offset: usize, value: T) -> Result<Self, Error> {
        header::create(
            region,
            offset,
            Self::SIZE,
            Kind::Mutex,
            size_of::<T>(),
            || region.store(offset + DATA, &value),
        )?;
        Self::attach(region, offset)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create), and of kind [`Protocol`](sinew_core::ErrorKind::Protocol) if there
    /// is none, or one for a type of another size.
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        header::check(region, offset, Self::SIZE, Kind::Mutex, size_of::<T>())?;
        Ok(Self {
            lock: Protected::attach(region, offset, None, offset + DATA)?,
        })
    }

    /// Locks it, waiting until it is free.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the lock, if the process that held it has died;
    /// [`LockError::Poisoned`]; those of [`Driver::wait`](crate::Driver::wait).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it does not hold the lock, and a wake-up that was meant for it
    /// goes to another waiter.
    #[inline]
    pub fn lock(&self) -> impl Future<Output = LockResult<'_, T>> + Send {
        Lock {
            lock: &self.lock,
            slow: Slow::new(),
        }
    }

    /// As [`lock`](Self::lock), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](sinew_core::ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`lock`](Self::lock).
    ///
    /// # Cancel safety
    ///
    /// As for [`lock`](Self::lock).
    pub async fn lock_timeout(&self, timeout: Duration) -> LockResult<'_, T> {
        self.lock.within(timeout, self.lock()).await?
    }

    /// Locks it if it is free, or if its owner has died, which takes system calls to find out.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock); `Ok(None)` if somebody holds it.
    #[inline]
    pub fn try_lock(&self) -> Result<Option<super::Guard<'_, T>>, LockError<'_, T>> {
        if let Some(taken) = self.lock.core.take_at_once() {
            return self.lock.finish(taken).map(Some);
        }
        match self.lock.core.try_take_now()? {
            Some(taken) => self.lock.finish(taken).map(Some),
            None => Ok(None),
        }
    }

    /// As [`lock`](Self::lock), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock), and of kind [`TimedOut`](sinew_core::ErrorKind::TimedOut) when the time
    /// is up, if there is a `timeout`.
    #[inline]
    pub fn blocking_lock(&self, timeout: Option<Duration>) -> LockResult<'_, T> {
        if let Some(taken) = self.lock.core.take_at_once() {
            return self.lock.finish(taken);
        }
        let taken = self.lock.core.blocking_take(timeout)?;
        self.lock.finish(taken)
    }

    /// Writes the data anew, and makes the lock an ordinary one again, if it was poisoned.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::wait`](crate::Driver::wait).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the data are written in the poll that completes it.
    pub async fn reset(&self, value: T) -> Result<(), Error> {
        self.lock.reset(&value).await
    }
}

/// The future of [`Mutex::lock`]: a free lock is taken without the state of one that waits.
struct Lock<'a, T> {
    lock: &'a Protected<T>,
    slow: Slow<'a, Result<Taken, Error>>,
}

impl<'a, T: Pod> Future for Lock<'a, T> {
    type Output = LockResult<'a, T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lock = self.lock;
        if !self.slow.is_begun() {
            ready!(budget::poll(cx));
            if let Some(taken) = lock.core.take_at_once() {
                return Poll::Ready(lock.finish(taken));
            }
        }
        Poll::Ready(match ready!(self.slow.poll(cx, || lock.core.take())) {
            Ok(taken) => lock.finish(taken),
            Err(error) => Err(LockError::Failed(error)),
        })
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
        }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("region", &self.lock.core.name())
            .field("is_locked", &(self.lock.core.state().owner() != 0))
            .finish_non_exhaustive()
    }
}
