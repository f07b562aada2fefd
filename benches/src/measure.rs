//! What a round measures, for how long, and what becomes of the samples.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::case::{Case, Kind, Wait};
use crate::payload::Stamp;

/// How long, and how often, one round of one case measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warm: Duration,
    /// Round trips: at least this many, and for at least `time`, but not beyond `limit`.
    pub(crate) trips: u64,
    pub(crate) time: Duration,
    pub(crate) limit: Duration,
    /// Throughput: this many slices of `time`.
    pub(crate) slices: usize,
    /// Messages between two looks at the clock.
    pub(crate) stride: u64,
    pub(crate) len: usize,
}

impl Plan {
    /// The plan of one of `rounds` rounds of `case`.
    ///
    /// Over all rounds a spinning case of up to 4 KiB makes 200,000 round trips at least and a
    /// parked one 20,000; at 1 MiB, where each takes far longer, it is 1,000. The
    /// time limit goes before: a machine too slow for that gives fewer samples, not a longer run.
    pub(crate) fn new(case: &Case, rounds: u32, quick: bool) -> Self {
        let millis = |full, quick_one| Duration::from_millis(if quick { quick_one } else { full });
        let total = match (case.size.bytes() >= 1 << 20, case.wait) {
            (true, _) => 1_000,
            (false, Wait::Spin) => 200_000,
            (false, Wait::Park) => 20_000,
        };
        let total = if quick { total / 10 } else { total };
        Self {
            warm: millis(20, 5),
            trips: u64::div_ceil(total, u64::from(rounds.max(1))),
            time: match case.kind {
                Kind::RoundTrip => millis(100, 20),
                Kind::Throughput => millis(60, 15),
            },
            limit: millis(1_000, 200),
            slices: 4,
            stride: (8192 / case.size.bytes() as u64).clamp(1, 64),
            len: case.size.bytes(),
        }
    }
}

/// What one side brings home from one round.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Nanoseconds of each round trip, or messages per second of each slice.
    pub(crate) samples: Vec<f64>,
    /// CPU time of this process, in nanoseconds, user and system, all threads.
    pub(crate) cpu_ns: u64,
    /// Messages that crossed meanwhile. A round trip is two.
    pub(crate) messages: u64,
}

/// CPU time of this process since the warm-up ended.
#[derive(Debug, Default)]
pub(crate) struct Cpu(Option<u64>);

impl Cpu {
    fn now() -> u64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    }

    pub(crate) fn start(&mut self) {
        self.0 = Some(Self::now());
    }

    pub(crate) fn is_started(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn spent(&self) -> u64 {
        self.0.map_or(0, |start| Self::now().saturating_sub(start))
    }
}

/// Refuses any message but the one after `previous`.
#[inline]
pub(crate) fn follow(stamp: Stamp, previous: &mut u64, reply: bool) -> Result<()> {
    *previous += 1;
    if stamp.number() == *previous && stamp.is_reply() == reply {
        return Ok(());
    }
    Err(format!("message {previous} was due, but {stamp:?} came").into())
}

/// The sample that a share of `rank` of all samples is not beyond, by the nearest rank.
///
/// `sorted` goes from the best sample to the worst, so that 0.99 names a slow one both for times
/// and for rates.
pub(crate) fn percentile(sorted: &[f64], rank: f64) -> Option<f64> {
    let position = (rank * sorted.len() as f64).ceil();
    sorted
        .iter()
        .enumerate()
        .find(|(index, _)| (*index + 1) as f64 >= position)
        .map(|(_, sample)| *sample)
}

/// The middle of `values`; the mean of the two middle ones if their number is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}
