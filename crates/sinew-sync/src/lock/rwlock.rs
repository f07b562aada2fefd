use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use sinew_core::Error;
use sinew_memory::Region;

use super::core::{Clean, Core, DATA, Waiter};
use super::error::{LockError, LockResult, poisoned};
use super::header::{self, Kind};
use super::protected::Protected;
use super::readers::Readers;
use crate::budget;
use crate::driver::Driver;

/// A lock that one process may write under, or up to 56 read, awaited from Tokio.
///
/// Of the death of a writer the same is true as of a [`Mutex`](crate::Mutex)'s owner: whoever comes next, also to read,
/// gets [`LockError::OwnerDied`], and with it the lock for writing. The death of a reader changes nothing: its place
/// is free within 100 ms.
///
/// # Fairness
///
/// Writers come first: while one waits for readers to go, no more readers come in. Among writers there is no
/// order.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::RwLock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let settings = RwLock::create(&region, 0, [1_u32, 2])?;
/// {
///     let (one, other) = (settings.read().await?, settings.read().await?);
///     assert_eq!(*one, *other);
/// }
/// settings.write().await?[0] = 7;
/// assert_eq!(settings.read().await?[0], 7);
/// # Ok(())
/// # }
/// ```
pub struct RwLock<T> {
    lock: Protected<T>,
    readers: Readers,
}

impl<T: Pod> RwLock<T> {
    /// Bytes that one takes in a region.
    pub const SIZE: usize = (DATA + Readers::SIZE + size_of::<T>()).next_multiple_of(8);
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;
    /// Readers at a time, of all processes; more wait.
    pub const MAX_READERS: usize = Readers::MOST;

    const VALUE: usize = DATA + Readers::SIZE;

    /// Makes one in a region, free, with this value. Whatever was there before is gone.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::create`](crate::Mutex::create).
    pub fn create(region: &Region, offset: usize, value: T) -> Result<Self, Error> {
        header::create(
            region,
            offset,
            Self::SIZE,
            Kind::RwLock,
            size_of::<T>(),
            || region.store(offset + Self::VALUE, &value),
        )?;
        Self::attach(region, offset)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::attach`](crate::Mutex::attach).
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        header::check(region, offset, Self::SIZE, Kind::RwLock, size_of::<T>())?;
        let readers = Readers::attach(region, offset + DATA)?;
        Ok(Self {
            lock: Protected::attach(region, offset, Some(readers.clone()), offset + Self::VALUE)?,
            readers,
        })
    }

    /// Locks it for writing, waiting until nobody writes or reads.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::lock`](crate::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As for [`Mutex::lock`](crate::Mutex::lock).
    pub async fn write(&self) -> LockResult<'_, T> {
        let taken = self.lock.core.take().await?;
        self.lock.finish(taken)
    }

    /// As [`write`](Self::write), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::lock_timeout`](crate::Mutex::lock_timeout).
    ///
    /// # Cancel safety
    ///
    /// As for [`write`](Self::write).
    pub async fn write_timeout(&self, timeout: Duration) -> LockResult<'_, T> {
        self.lock.within(timeout, self.write()).await?
    }

    /// Locks it for writing if nobody writes or reads.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::try_lock`](crate::Mutex::try_lock).
    pub fn try_write(&self) -> Result<Option<super::Guard<'_, T>>, LockError<'_, T>> {
        match self.lock.core.try_take_now()? {
            Some(taken) => self.lock.finish(taken).map(Some),
            None => Ok(None),
        }
    }

    /// As [`write`](Self::write), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::blocking_lock`](crate::Mutex::blocking_lock).
    pub fn blocking_write(&self, timeout: Option<Duration>) -> LockResult<'_, T> {
        let taken = self.lock.core.blocking_take(timeout)?;
        self.lock.finish(taken)
    }

    /// Locks it for reading, waiting until nobody writes.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::lock`](crate::Mutex::lock).
    ///
    /// # Cancel safety
    ///
    /// As for [`Mutex::lock`](crate::Mutex::lock).
    pub async fn read(&self) -> ReadResult<'_, T> {
        let me = self.lock.core.presence().enter()?;
        poll_fn(budget::poll).await;
        if let Some(guard) = self.try_enter(me)? {
            return Ok(guard);
        }
        let driver = Driver::current()?;
        let core = &self.lock.core;
        let entered = || self.try_enter(me).transpose();
        if let Some(entered) = core.spin().look(&driver, entered).await {
            return entered;
        }
        let _waiter = Waiter::new(core.state());
        let post = driver.sentinel().post({
            let core = self.lock.core.clone();
            move || core.is_suspicious()
        });
        let mut look = false;
        loop {
            let turn = self.lock.core.state().turn();
            if let Some(guard) = self.try_read_once(me, look)? {
                return Ok(guard);
            }
            tokio::select! {
                biased;
                woken = driver.wait(self.lock.core.turn(), turn) => {
                    woken?;
                    look = false;
                }
                () = post.alarm() => look = true,
            }
        }
    }

    /// As [`read`](Self::read), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](sinew_core::ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`read`](Self::read).
    ///
    /// # Cancel safety
    ///
    /// As for [`read`](Self::read).
    pub async fn read_timeout(&self, timeout: Duration) -> ReadResult<'_, T> {
        self.lock.within(timeout, self.read()).await?
    }

    /// Locks it for reading if nobody writes.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::try_lock`](crate::Mutex::try_lock).
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_, T>>, LockError<'_, T>> {
        self.try_read_once(self.lock.core.presence().enter()?, true)
    }

    /// As [`read`](Self::read), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::blocking_lock`](crate::Mutex::blocking_lock).
    pub fn blocking_read(&self, timeout: Option<Duration>) -> ReadResult<'_, T> {
        let me = self.lock.core.presence().enter()?;
        if let Some(guard) = self.try_enter(me)? {
            return Ok(guard);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _waiter = Waiter::new(self.lock.core.state());
        self.lock.core.block(deadline, timeout, |look| {
            self.try_read_once(me, look).transpose()
        })?
    }

    /// As [`Mutex::reset`](crate::Mutex::reset).
    ///
    /// # Errors
    ///
    /// As for [`Mutex::reset`](crate::Mutex::reset).
    ///
    /// # Cancel safety
    ///
    /// As for [`Mutex::reset`](crate::Mutex::reset).
    pub async fn reset(&self, value: T) -> Result<(), Error> {
        self.lock.reset(&value).await
    }

    fn try_read_once(
        &self,
        me: u64,
        look: bool,
    ) -> Result<Option<ReadGuard<'_, T>>, LockError<'_, T>> {
        if let Some(guard) = self.try_enter(me)? {
            return Ok(Some(guard));
        }
        if !look || !self.lock.core.is_dead(self.lock.core.state().owner())? {
            return Ok(None);
        }
        // The heir of a writer has to write: so that is what it gets.
        match self.lock.core.try_take_now()? {
            Some(taken) => match self.lock.finish(taken) {
                Ok(written) => {
                    drop(written);
                    self.try_enter(me)
                }
                Err(error) => Err(error),
            },
            None => Ok(None),
        }
    }

    /// Comes in if nobody writes: declares itself, then looks, as a writer does in the other order.
    fn try_enter(&self, me: u64) -> Result<Option<ReadGuard<'_, T>>, LockError<'_, T>> {
        if self.lock.core.state().owner() != 0 {
            return Ok(None);
        }
        if self.lock.core.clean() == Clean::OWNER_DIED {
            return self.try_inherit();
        }
        let Some(index) = self.readers.enter(me) else {
            return Ok(None);
        };
        let place = Place {
            core: &self.lock.core,
            readers: &self.readers,
            index,
            owner: me,
        };
        if self.lock.core.state().owner() != 0 {
            return Ok(None);
        }
        match self.lock.core.clean() {
            Clean::YES => {}
            Clean::OWNER_DIED => {
                drop(place);
                return self.try_inherit();
            }
            _ => {
                return Err(LockError::Poisoned(poisoned(self.lock.core.name())));
            }
        }
        Ok(Some(ReadGuard {
            value: self.lock.load()?,
            _place: place,
        }))
    }

    /// Of a free lock that nobody has looked at since an owner died: takes it for writing, once all readers are gone.
    ///
    /// While there are any it changes nothing: that would wake those who wait, this reader among them.
    fn try_inherit(&self) -> Result<Option<ReadGuard<'_, T>>, LockError<'_, T>> {
        if !self.readers.are_gone()? {
            return Ok(None);
        }
        match self.lock.core.try_take_now()? {
            Some(taken) => match self.lock.finish(taken) {
                Ok(_recovered_meanwhile) => Ok(None),
                Err(error) => Err(error),
            },
            None => Ok(None),
        }
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
            readers: self.readers.clone(),
        }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("region", &self.lock.core.name())
            .field("is_written", &(self.lock.core.state().owner() != 0))
            .finish_non_exhaustive()
    }
}

/// What locking for reading gives.
pub type ReadResult<'a, T> = Result<ReadGuard<'a, T>, LockError<'a, T>>;

/// A reader's place, given back on drop.
struct Place<'a> {
    core: &'a Core,
    readers: &'a Readers,
    index: usize,
    /// The word of the process that reads.
    owner: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.core.is_mine(self.owner) {
            self.readers.leave(self.index);
            self.core.wake_if_waiting();
        }
    }
}

/// A lock that is held for reading, with a copy of the data; freed on drop.
#[must_use = "dropped, it frees the lock at once"]
pub struct ReadGuard<'a, T: Pod> {
    value: T,
    _place: Place<'a>,
}

impl<T: Pod> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&self.value).finish()
    }
}
