use std::fmt;
use std::time::{Duration, Instant};

use sinew_core::time;
use sinew_core::{Error, ErrorKind};
use sinew_memory::{Region, View};
use sinew_ring::sync::EventState;

use super::header::{self, Kind};
use super::sentinel::INTERVAL;
use crate::driver::{Driver, Word};
use crate::spin::SharedSpin;
use crate::sys::{self, Words};

/// An event between processes: set once, it lets everybody pass until it is cleared.
///
/// Who waits when it is set goes on, also if it is cleared again at once, and, within 100 ms, if who set it is killed
/// before it could wake anybody.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::Event;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let ready = Event::create(&region, 0)?;
/// let same = Event::attach(&region, 0)?;
/// std::thread::spawn(move || same.set());
/// ready.wait().await?;
/// assert!(ready.is_set());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Event {
    state: View<Words<EventState>>,
    word: Word,
    spin: SharedSpin,
}

impl Event {
    /// Bytes that one takes in a region.
    pub const SIZE: usize = 16;
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;

    /// Makes one in a region, not set. Whatever was there before is gone.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::create`](crate::Mutex::create).
    pub fn create(region: &Region, offset: usize) -> Result<Self, Error> {
        header::create(region, offset, Self::SIZE, Kind::Event, 0, || Ok(()))?;
        Self::attach(region, offset)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::attach`](crate::Mutex::attach).
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        header::check(region, offset, Self::SIZE, Kind::Event, 0)?;
        Ok(Self {
            state: region.view(offset + header::SIZE)?,
            word: region.view(offset + header::SIZE)?,
            spin: SharedSpin::default(),
        })
    }

    /// Sets it, and wakes everybody.
    pub fn set(&self) {
        if self.state.set() {
            sys::wake(&self.word, u32::MAX);
        }
    }

    /// Clears it.
    pub fn clear(&self) {
        self.state.clear();
    }

    /// Whether it is set now.
    pub fn is_set(&self) -> bool {
        self.state.is_set()
    }

    /// Waits until it is set, or has been since the first poll.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::wait`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait(&self) -> Result<(), Error> {
        let since = self.state.word();
        if self.state.is_over(since) {
            return Ok(());
        }
        let driver = Driver::current()?;
        let is_over = || self.state.is_over(since).then_some(());
        if self.spin.look(&driver, is_over).await.is_some() {
            return Ok(());
        }
        // Who sets it may be killed before it wakes anybody.
        let post = driver.sentinel().post({
            let state = self.state.clone();
            move || state.is_over(since)
        });
        loop {
            let word = self.state.word();
            if self.state.is_over(since) {
                return Ok(());
            }
            tokio::select! {
                biased;
                woken = driver.wait(&self.word, word) => woken?,
                () = post.alarm() => {}
            }
        }
    }

    /// As [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As for [`wait`](Self::wait).
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<(), Error> {
        let done = time::timeout(timeout, self.wait()).await?;
        done.unwrap_or_else(|| Err(self.timed_out(timeout)))
    }

    /// As [`wait`](Self::wait), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, if there is a `timeout`.
    pub fn blocking_wait(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let since = self.state.word();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let word = self.state.word();
            if self.state.is_over(since) {
                return Ok(());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let (Some(Duration::ZERO), Some(timeout)) = (left, timeout) {
                return Err(self.timed_out(timeout));
            }
            let span = left.map_or(INTERVAL, |left| left.min(INTERVAL));
            let _any = sys::wait(&self.word, word, Some(span));
        }
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        Error::new(ErrorKind::TimedOut, "wait")
            .with_address(self.word.region().name())
            .with_reason(format!("it was not set within {timeout:?}"))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("region", &self.word.region().name())
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}
