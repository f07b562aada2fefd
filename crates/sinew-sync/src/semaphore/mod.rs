//! POSIX semaphores, named and in any region.

mod named;
mod permit;
mod units;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sinew_core::time;
use sinew_core::{Error, ErrorKind, Home};
use sinew_memory::{Region, View};
use sinew_ring::sync::SemaphoreState;

pub use self::named::SemaphoreOptions;
pub use self::permit::Permit;
pub use self::units::{Acquired, SemaphoreSink, SemaphoreStream};
use crate::budget;
use crate::driver::{Driver, Word};
use crate::slow::Slow;
use crate::spin::SharedSpin;
use crate::sys::{self, Words};

/// A counting semaphore that processes share: glibc's `sem_t`, awaited from Tokio.
///
/// It lies in any [`Region`], or has a [name](Self::open) by which C programs' `sem_open` finds it too. All
/// that sem_overview(7) says of it holds, and programs may mix: `sem_post` in C wakes a task here, and the
/// other way round.
///
/// # Owners
///
/// A POSIX semaphore does not know who took a unit. A process that dies with one takes it along; where that
/// must not be, use a [`Mutex`](crate::Mutex), or a SysV semaphore with its undo.
///
/// A process that is killed just when it has posted, or was woken, wakes nobody any more: as with glibc, a waiter may
/// sleep on then although there is a unit, until the next post. Wait with a timeout where that may be.
///
/// # Layout
///
/// That of 64-bit glibc, 32 bytes of which the first eight count: the value in the low half, the number of
/// waiters in the high one. Elsewhere making or opening one is an error of kind
/// [`Unsupported`](ErrorKind::Unsupported).
///
/// # Fairness
///
/// None: whoever comes just when a unit is posted may have it before those who have been waiting.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::Semaphore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let slots = Semaphore::create(&region, 0, 2)?;
///
/// let permit = slots.acquire().await?;
/// assert_eq!(slots.value(), 1);
/// drop(permit);
/// assert_eq!(slots.value(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    state: View<Words<SemaphoreState>>,
    /// The low half of the state, for the kernel to look at.
    word: Word,
    spin: SharedSpin,
    unlink: Option<std::sync::Arc<named::Unlink>>,
}

impl Semaphore {
    /// The largest value: `SEM_VALUE_MAX`.
    pub const MAX: u32 = SemaphoreState::MAX;
    /// Bytes that one takes in a region: `sizeof(sem_t)`.
    pub const SIZE: usize = 32;
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;

    /// Makes one of `value` units in a region: `sem_init` with `pshared`.
    ///
    /// Whatever was there before is gone; make it before others use it.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for a value above [`MAX`](Self::MAX), an offset
    /// that is not aligned or past the end, or a region that was attached for reading.
    #[doc(alias = "sem_init")]
    pub fn create(region: &Region, offset: usize, value: u32) -> Result<Self, Error> {
        check_value(value)?;
        let semaphore = Self::attach(region, offset)?;
        region.store(offset, &contents(value))?;
        Ok(semaphore)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        check_platform()?;
        // To the end of the `sem_t`, though only its beginning is used.
        region.load::<[u64; 4]>(offset)?;
        Ok(Self {
            state: region.view(offset)?,
            word: region.view(offset)?,
            spin: SharedSpin::default(),
            unlink: None,
        })
    }

    /// Takes a unit, waiting for one where there is none. It is given back when the permit is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::wait`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has taken nothing, and a wake-up that was meant for it goes
    /// to another waiter.
    #[doc(alias = "sem_wait")]
    #[inline]
    pub fn acquire(&self) -> impl Future<Output = Result<Permit<'_>, Error>> + Send {
        Acquire {
            semaphore: self,
            slow: Slow::new(),
        }
    }

    /// As [`acquire`](Self::acquire), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire).
    #[doc(alias = "sem_timedwait")]
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Error> {
        let acquired = time::timeout(timeout, self.acquire()).await?;
        acquired.unwrap_or_else(|| Err(self.timed_out(timeout)))
    }

    /// Takes a unit if there is one.
    #[doc(alias = "sem_trywait")]
    #[inline]
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.state
            .try_acquire()
            .then(|| Permit::new(self, &self.state))
    }

    /// As [`acquire`](Self::acquire), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, if there is a `timeout`.
    #[inline]
    pub fn blocking_acquire(&self, timeout: Option<Duration>) -> Result<Permit<'_>, Error> {
        if !self.state.try_acquire() {
            self.block(timeout)?;
        }
        Ok(Permit::new(self, &self.state))
    }

    /// Takes a unit for good, blocking the thread.
    #[cold]
    fn block(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let waiter = Waiter::new(&self.state);
        while !waiter.try_acquire() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let (Some(Duration::ZERO), Some(timeout)) = (left, timeout) {
                return Err(self.timed_out(timeout));
            }
            // Woken, timed out or neither: the unit is what counts.
            let _any = sys::wait(&self.word, 0, left);
        }
        waiter.done();
        Ok(())
    }

    /// Gives a unit, and wakes a waiter.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` at [`MAX`](Self::MAX).
    #[doc(alias = "sem_post")]
    #[inline]
    pub fn post(&self) -> Result<(), Error> {
        match self.state.post() {
            Some(true) => {
                self.wake();
                Ok(())
            }
            Some(false) => Ok(()),
            None => Err(self.overflow()),
        }
    }

    fn wake(&self) {
        sys::wake(&self.word, 1);
    }

    #[cold]
    fn overflow(&self) -> Error {
        let errno = rustix::io::Errno::OVERFLOW.raw_os_error();
        Error::from_raw_os_error("sem_post", errno)
            .with_address(self.name())
            .with_reason(format!("it has {} units, the most there can be", Self::MAX))
            .with_remedy("acquire before posting more")
    }

    /// The units that are to be had; another process may change it at once.
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> u32 {
        self.state.value()
    }

    /// The name, or what is known of the region.
    pub fn name(&self) -> &str {
        self.state.region().name()
    }

    /// A stream with an item for each unit acquired. The units are not given back.
    pub fn into_stream(self) -> SemaphoreStream {
        SemaphoreStream::new(self)
    }

    /// A sink that posts a unit for each item.
    pub fn into_sink(self) -> SemaphoreSink {
        SemaphoreSink::new(self)
    }

    /// Takes a unit for good.
    pub(crate) async fn take(&self) -> Result<(), Error> {
        // A loop that always finds a unit must give others their turn, too. Before it is taken: a future
        // that is dropped here has nothing.
        poll_fn(budget::poll).await;
        if self.state.try_acquire() {
            return Ok(());
        }
        let driver = Driver::current()?;
        let taken = || self.state.try_acquire().then_some(());
        if self.spin.look(&driver, taken).await.is_some() {
            return Ok(());
        }
        let waiter = Waiter::new(&self.state);
        while !waiter.try_acquire() {
            driver.wait(&self.word, 0).await?;
        }
        waiter.done();
        Ok(())
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        Error::new(ErrorKind::TimedOut, "sem_wait")
            .with_address(self.name())
            .with_reason(format!("no unit was posted within {timeout:?}"))
    }
}

/// The future of [`Semaphore::acquire`]: a unit that is there is taken without the state of one that waits.
struct Acquire<'a> {
    semaphore: &'a Semaphore,
    slow: Slow<'a, Result<(), Error>>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let semaphore = self.semaphore;
        if !self.slow.is_begun() {
            ready!(budget::poll(cx));
            let state: &SemaphoreState = &semaphore.state;
            if state.try_acquire() {
                return Poll::Ready(Ok(Permit::new(semaphore, state)));
            }
        }
        ready!(self.slow.poll(cx, || semaphore.take()))?;
        Poll::Ready(Ok(Permit::new(semaphore, &semaphore.state)))
    }
}

/// A declared waiter, which takes its declaration back.
struct Waiter<'a> {
    state: &'a SemaphoreState,
    home: Home,
}

impl<'a> Waiter<'a> {
    fn new(state: &'a SemaphoreState) -> Self {
        state.enter();
        Self {
            state,
            home: Home::here(),
        }
    }

    fn try_acquire(&self) -> bool {
        self.state.acquire_waiting()
    }

    /// The declaration went with the unit.
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.home.is_here() {
            self.state.leave();
        }
    }
}

/// A `sem_t`, for processes to share: as glibc 2.21 and later make it.
fn contents(value: u32) -> [u64; 4] {
    /// `FUTEX_PRIVATE_FLAG`, in the meaning of glibc's field: not private.
    const SHARED: u64 = 128;
    [u64::from(value), SHARED, 0, 0]
}

fn check_value(value: u32) -> Result<(), Error> {
    if value <= Semaphore::MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "sem_init")
        .with_reason(format!(
            "{value} is above SEM_VALUE_MAX, {}",
            Semaphore::MAX
        ))
        .with_remedy("begin with fewer units"))
}

fn check_platform() -> Result<(), Error> {
    if cfg!(all(
        target_pointer_width = "64",
        target_endian = "little",
        target_env = "gnu"
    )) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, "sem_open")
        .with_reason("only the layout of 64-bit little-endian glibc is known")
        .with_remedy("use a SysV semaphore, or a build for glibc"))
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("name", &self.name())
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}
