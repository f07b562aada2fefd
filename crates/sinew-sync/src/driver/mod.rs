//! The futex driver: tasks wait for words of shared memory.

mod pool;
mod registry;
mod slot;
mod uring;
mod worker;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, Home};
use sinew_memory::View;
use tokio::runtime::Handle;

use self::pool::Pool;
use self::slot::{Outcome, Slot};
use self::uring::Uring;
use crate::lock::{Post, Sentinel};
use crate::sys;

/// A word that processes wait for and wake each other with: 32 bits in a region, aligned to four.
pub type Word = View<AtomicU32>;

/// About as long as a wake-up takes between the cores of a virtual machine, nanoseconds.
const SPIN_LIMIT: u64 = 50_000;

/// How a [`Driver`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// [`Uring`](Self::Uring) where it is to be had, otherwise [`Waitv`](Self::Waitv).
    #[default]
    Auto,
    /// One instance of io_uring for all words of a runtime: `IORING_OP_FUTEX_WAIT`, Linux 6.7. Containers
    /// often refuse io_uring, and the sysctl `kernel.io_uring_disabled` can.
    Uring,
    /// Threads that wait for up to 127 words each: futex_waitv(2), Linux 5.16. To find out about owners that have died,
    /// the runtime must have been built with [`enable_time`](tokio::runtime::Builder::enable_time).
    Waitv,
}

/// What a [`Driver`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DriverStats {
    /// Waits under way, those included that are being cancelled.
    pub waits: usize,
    /// Instances of io_uring: one, or none.
    pub rings: usize,
    /// Threads: none, or one for each 127 waits; they end after five seconds without any.
    pub threads: usize,
}

/// What lets the tasks of a runtime wait for words of shared memory, without a thread for each.
///
/// There is one for each runtime, made when it is first needed. The primitives of this crate find it by
/// themselves; it is public for protocols of one's own.
///
/// # Waking
///
/// Whoever changes a word wakes its waiters, in whatever process, with [`wake`](crate::wake) or the system
/// call. A waiter looks at the word again after each wake-up: there are more wake-ups than changes, for
/// example after the thread that had begun the wait ended.
///
/// # Dropped waits
///
/// A wake-up that arrives for a wait whose future was dropped is passed on to the next waiter, so that none
/// of those that were meant to wake one waiter is lost. With [`Backend::Waitv`], where the kernel names only one of the
/// words that were woken together, a word that has changed counts as woken, and one that has not changed,
/// or has changed back, does not.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// use sinew_memory::Region;
/// use sinew_sync::{Driver, wake};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let word = Region::anonymous(4096)?.view::<AtomicU32>(0)?;
/// let other = word.clone();
/// std::thread::spawn(move || {
///     other.store(1, Ordering::Release);
///     wake(&other, u32::MAX);
/// });
/// while word.load(Ordering::Acquire) == 0 {
///     Driver::current()?.wait(&word, 0).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Driver {
    inner: Arc<Inner>,
    sentinel: Arc<Sentinel>,
}

#[derive(Debug)]
struct Inner {
    waits: Waits,
    /// The process whose runtime waits. A child that was forked shares the ring with it.
    home: Home,
    /// For how long a task looks at something before it waits for it, nanoseconds.
    spin_limit: AtomicU64,
}

#[derive(Debug)]
enum Waits {
    Uring(Box<Uring>),
    Pool(Pool),
}

impl Driver {
    fn new(waits: Waits, runtime: &Handle) -> Self {
        // The ring's completions come by a descriptor, so that the runtime can wait for others.
        let has_io = matches!(waits, Waits::Uring(_));
        Self {
            inner: Arc::new(Inner {
                waits,
                home: Home::here(),
                spin_limit: AtomicU64::new(SPIN_LIMIT),
            }),
            sentinel: Arc::new(Sentinel::new(runtime.clone(), has_io)),
        }
    }

    /// The driver of the current runtime, which is started if there is none yet.
    ///
    /// # Errors
    ///
    /// Outside of a runtime, and where neither backend is to be had.
    pub fn current() -> Result<Self, Error> {
        registry::find(Backend::Auto)
    }

    /// Starts the driver of the current runtime with a backend of choice, before anything else has.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if there is one already with the other backend,
    /// otherwise as for [`current`](Self::current).
    pub fn start(backend: Backend) -> Result<Self, Error> {
        registry::find(backend)
    }

    /// The backend in use: not [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match &self.inner.waits {
            Waits::Uring(_) => Backend::Uring,
            Waits::Pool(_) => Backend::Waitv,
        }
    }

    /// What it holds now.
    pub fn stats(&self) -> DriverStats {
        match &self.inner.waits {
            Waits::Uring(uring) => DriverStats {
                waits: uring.waits(),
                rings: 1,
                threads: 0,
            },
            Waits::Pool(pool) => pool.stats(),
        }
    }

    /// Waits until `word` is woken, or is not `expected`.
    ///
    /// It may also end for no reason: look at the word, and wait again. The wait begins with the first poll.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EAGAIN` where there is no memory or thread for another wait, and of kind
    /// [`Closed`](ErrorKind::Closed) when the runtime shuts down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: see [*Dropped waits*](Self#dropped-waits).
    pub fn wait(&self, word: &Word, expected: u32) -> Wait {
        Wait {
            driver: self.inner.clone(),
            word: word.clone(),
            expected,
            slot: None,
        }
    }

    /// Has `look` called every 40 ms, by one task of the runtime for all who watch, until the
    /// result is dropped: for what nobody wakes one for, such as the
    /// [end](sinew_memory::Presence::judge) of a process.
    ///
    /// `look` must not block; it wakes whom it may concern. It is called in the runtime of this driver, whose end is
    /// that of all watches, and may be under way while the result is dropped. One that panics is not called again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use sinew_sync::Driver;
    /// use tokio::sync::Notify;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sinew_core::Error> {
    /// let looked = Arc::new(Notify::new());
    /// let _watch = Driver::current()?.watch({
    ///     let looked = looked.clone();
    ///     move || looked.notify_one()
    /// });
    /// looked.notified().await;
    /// looked.notified().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, look: impl Fn() + Send + 'static) -> Watch {
        Watch {
            _post: self.sentinel.post(move || {
                look();
                false
            }),
        }
    }

    /// Sets for how long a task looks again and again before it waits for a semaphore, lock, event or barrier; 50 µs
    /// unless set, never with zero.
    ///
    /// It does so only while that has lately paid off for that handle, and yields to the runtime's
    /// other tasks after a few looks. A semaphore that is posted soon is acquired without a system
    /// call at either end then, in a fraction of a microsecond instead of tens.
    pub fn set_spin_limit(&self, limit: Duration) {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.inner.spin_limit.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn spin_limit(&self) -> Duration {
        Duration::from_nanos(self.inner.spin_limit.load(Ordering::Relaxed))
    }

    pub(crate) fn sentinel(&self) -> &Arc<Sentinel> {
        &self.sentinel
    }

    fn shut_down(&self) {
        if !self.inner.home.is_here() {
            return;
        }
        match &self.inner.waits {
            Waits::Uring(uring) => uring.shut_down(),
            Waits::Pool(pool) => pool.shut_down(),
        }
    }
}

/// What [`Driver::watch`] looks after, until this is dropped.
#[must_use = "dropped, it ends"]
pub struct Watch {
    _post: Post,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// The future of [`Driver::wait`].
#[must_use = "futures do nothing unless polled"]
pub struct Wait {
    driver: Arc<Inner>,
    word: Word,
    expected: u32,
    slot: Option<Arc<Slot>>,
}

impl Future for Wait {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(slot) = &this.slot {
            let outcome = ready!(slot.poll(cx));
            this.slot = None;
            return Poll::Ready(this.report(outcome));
        }
        let slot = Slot::new(this.word.clone(), this.expected, cx.waker().clone());
        let begun = match &this.driver.waits {
            Waits::Uring(uring) => uring.begin(&slot),
            Waits::Pool(pool) => pool.begin(&slot),
        };
        match begun {
            Ok(()) => {
                this.slot = Some(slot);
                Poll::Pending
            }
            Err(outcome) => Poll::Ready(this.report(outcome)),
        }
    }
}

impl Wait {
    fn report(&self, outcome: Outcome) -> Result<(), Error> {
        let error = match outcome {
            Outcome::Woken | Outcome::Changed => return Ok(()),
            Outcome::ShutDown => Error::new(ErrorKind::Closed, "futex_wait")
                .with_reason("the runtime that waits is shutting down"),
            Outcome::Failed(errno) => Error::from_raw_os_error("futex_wait", errno),
        };
        Err(error.with_address(self.word.region().name()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if !self.driver.home.is_here() {
            return;
        }
        match slot.abandon() {
            None => match &self.driver.waits {
                Waits::Uring(uring) => uring.cancel(&slot),
                Waits::Pool(pool) => pool.cancel(&slot),
            },
            Some(Outcome::Woken) => {
                sys::wake(&self.word, 1);
            }
            Some(_) => {}
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("word", &self.word)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Neither backend is to be had.
fn unsupported(errno: Errno) -> Error {
    Error::from_raw_os_error("futex_waitv", errno.raw_os_error())
        .with_kind(ErrorKind::Unsupported)
        .with_reason(
            "this system lets a program wait for words neither with io_uring nor with futex_waitv",
        )
        .with_remedy("use linux 5.16 or newer, and allow futex_waitv in the sandbox")
}
