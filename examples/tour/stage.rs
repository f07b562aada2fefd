//! What a row shows, and what came of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub(crate) type Error = Box<dyn std::error::Error>;
pub(crate) type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// A row: a mechanism, or one way of using it.
pub(crate) struct Stage {
    /// For machines, such as `shm-park`.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) shows: &'static str,
    /// What the first process does, which measures.
    pub(crate) first: fn(&'static Stage) -> Outcome<Shown>,
    /// What the second process does, with the argument that the first gave it.
    pub(crate) second: fn(String) -> Outcome<()>,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Messages received and checked, at either end.
    pub(crate) messages: u64,
    /// Times of single round trips.
    pub(crate) round_trips: Vec<Duration>,
    /// Messages a second, one way.
    pub(crate) rate: f64,
    /// What else there is to say.
    pub(crate) detail: String,
}

/// For a stage that cannot run here: not a failure. The text says what is missing.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

impl Shown {
    /// The time within which this part of the round trips remains.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied()
    }

    /// Notes what a number of messages took, one way.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn one_way(&mut self, count: u64, took: Duration) {
        self.messages += count;
        self.rate = count as f64 / took.as_secs_f64();
    }

    /// Notes a round trip.
    pub(crate) fn round_trip(&mut self, took: Duration) {
        self.messages += 2;
        self.round_trips.push(took);
    }
}

/// How long to go on with something.
pub(crate) struct Span {
    end: Instant,
}

impl Span {
    /// Enough for a steady figure, little enough for a tour.
    pub(crate) fn begin() -> Self {
        Self {
            end: Instant::now() + Duration::from_millis(400),
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }
}
