use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use sinew_core::{Error, ErrorKind, Home};
use sinew_memory::{Region, View};

use super::header::{self, Kind};
use super::sentinel::INTERVAL;
use crate::driver::{Driver, Word};
use crate::spin::SharedSpin;
use crate::sys;

/// A barrier between processes: as many as were agreed on wait for each other, as often as they like.
///
/// A process that dies between its arrival and the others' has arrived; one that dies before it leaves the
/// others waiting: give [`wait`](Self::wait) a timeout where that may be. If the last to arrive is killed before it could
/// wake the others, they find out within 100 ms.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
/// use sinew_sync::Barrier;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let barrier = Barrier::create(&region, 0, 2)?;
/// let (one, other) = tokio::try_join!(barrier.wait(), barrier.wait())?;
/// assert!(one.is_leader() != other.is_leader());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Barrier {
    /// How often it was passed, in the upper half, and who has arrived since, in the lower one.
    word: Word,
    spin: SharedSpin,
    parties: View<AtomicU32>,
}

/// Those who have arrived, in the word.
const ARRIVED: u32 = 0xffff;
const PASSED: u32 = 0x1_0000;

/// What [`Barrier::wait`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this one was the last to arrive, which exactly one is.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl Barrier {
    /// The most that can wait for each other.
    pub const MAX: u32 = ARRIVED - 1;
    /// Bytes that one takes in a region.
    pub const SIZE: usize = 16;
    /// Of what its offset must be a multiple, bytes.
    pub const ALIGN: usize = 8;

    /// Makes one for `parties` in a region. Whatever was there before is gone.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::create`](crate::Mutex::create), and for no party or more than [`MAX`](Self::MAX).
    pub fn create(region: &Region, offset: usize, parties: u32) -> Result<Self, Error> {
        if parties == 0 || parties > Self::MAX {
            return Err(Error::new(ErrorKind::InvalidInput, "barrier")
                .with_reason(format!("{parties} cannot wait for each other"))
                .with_remedy(format!("choose a number from 1 to {}", Self::MAX)));
        }
        header::create(region, offset, Self::SIZE, Kind::Barrier, 0, || {
            region.store(offset + header::SIZE + 4, &parties)
        })?;
        Self::attach(region, offset)
    }

    /// Attaches to the one that is in a region.
    ///
    /// # Errors
    ///
    /// As for [`Mutex::attach`](crate::Mutex::attach).
    pub fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        header::check(region, offset, Self::SIZE, Kind::Barrier, 0)?;
        Ok(Self {
            word: region.view(offset + header::SIZE)?,
            spin: SharedSpin::default(),
            parties: region.view(offset + header::SIZE + 4)?,
        })
    }

    /// How many wait for each other.
    pub fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    /// Arrives, and waits until all have.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::wait`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has not arrived, unless everybody had.
    pub async fn wait(&self) -> Result<BarrierWaitResult, Error> {
        let driver = Driver::current()?;
        let Some(arrival) = self.arrive() else {
            return Ok(BarrierWaitResult { is_leader: true });
        };
        let passed = || {
            let word = self.word.load(Ordering::Acquire);
            (word / PASSED != arrival.passed).then_some(())
        };
        if self.spin.look(&driver, passed).await.is_some() {
            return Ok(BarrierWaitResult { is_leader: false });
        }
        // The last may be killed before it wakes anybody.
        let post = driver.sentinel().post({
            let (word, passed) = (self.word.clone(), arrival.passed);
            move || word.load(Ordering::Acquire) / PASSED != passed
        });
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word / PASSED != arrival.passed {
                return Ok(BarrierWaitResult { is_leader: false });
            }
            tokio::select! {
                biased;
                woken = driver.wait(&self.word, word) => woken?,
                () = post.alarm() => {}
            }
        }
    }

    /// As [`wait`](Self::wait), for a thread that is not part of a runtime.
    pub fn blocking_wait(&self) -> BarrierWaitResult {
        let Some(arrival) = self.arrive() else {
            return BarrierWaitResult { is_leader: true };
        };
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word / PASSED != arrival.passed {
                return BarrierWaitResult { is_leader: false };
            }
            let _any = sys::wait(&self.word, word, Some(INTERVAL));
        }
    }

    /// `None` for the last, who has opened it.
    fn arrive(&self) -> Option<Arrival<'_>> {
        let parties = self.parties();
        let arrived = |word: u32| {
            Some(match word & ARRIVED {
                before if before + 1 >= parties => (word / PASSED).wrapping_add(1) << 16,
                _ => word + 1,
            })
        };
        let word = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, arrived)
            .unwrap_or_else(|word| word);
        if (word & ARRIVED) + 1 >= parties {
            sys::wake(&self.word, u32::MAX);
            return None;
        }
        Some(Arrival {
            word: &self.word,
            passed: word / PASSED,
            home: Home::here(),
        })
    }
}

/// One that has arrived, and takes that back if it leaves before all have.
struct Arrival<'a> {
    word: &'a AtomicU32,
    passed: u32,
    home: Home,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if !self.home.is_here() {
            return;
        }
        let _passed = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (word / PASSED == self.passed && word & ARRIVED > 0).then(|| word - 1)
            });
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("region", &self.word.region().name())
            .field("parties", &self.parties())
            .finish_non_exhaustive()
    }
}
