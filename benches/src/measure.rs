//! The instruments: what each side of a case counts and times.
//!
//! A round trip is timed one by one with [`Instant`], from before the request is written until
//! its reply is read; the cost of the two clock reads, some tens of nanoseconds, is in every
//! sample of every subject alike. Throughput is counted at the receiving side, in slices of equal
//! time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::case::{Case, Kind, Wait};
use crate::payload::{self, Payload, Stamp};

/// How long, and how often, one round of one case measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    warm: Duration,
    /// Round trips: at least this many, and for at least `time`, but not beyond `limit`.
    trips: u64,
    time: Duration,
    limit: Duration,
    /// Throughput: this many slices of `time`.
    slices: usize,
    /// Messages between two looks at the clock.
    stride: u64,
    len: usize,
}

impl Plan {
    /// The plan of one of `rounds` rounds of `case`.
    ///
    /// Over all rounds a spinning case of up to 4 KiB makes 200,000 round trips at least and a
    /// parked one 20,000; at 1 MiB, where one takes most of a millisecond, it is 1,000. The
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
struct Cpu(Option<u64>);

impl Cpu {
    fn now() -> u64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    }

    fn start(&mut self) {
        self.0 = Some(Self::now());
    }

    fn is_started(&self) -> bool {
        self.0.is_some()
    }

    fn spent(&self) -> u64 {
        self.0.map_or(0, |start| Self::now().saturating_sub(start))
    }
}

/// Refuses any message but the one after `previous`.
#[inline]
fn follow(stamp: Stamp, previous: &mut u64, reply: bool) -> Result<()> {
    *previous += 1;
    if stamp.number() == *previous && stamp.is_reply() == reply {
        return Ok(());
    }
    Err(format!("message {previous} was due, but {stamp:?} came").into())
}

/// The asking side of round trips.
#[derive(Debug)]
pub(crate) struct Trips {
    plan: Plan,
    cpu: Cpu,
    samples: Vec<f64>,
    count: u64,
    answered: u64,
    opened: Instant,
    sent: Instant,
    last: bool,
}

impl Trips {
    pub(crate) fn new(plan: Plan) -> Self {
        let cap = usize::try_from(plan.trips * 5).unwrap_or(usize::MAX);
        let mut samples = Vec::new();
        // Written once so that no page fault falls into a measurement.
        samples.resize(cap, 0.0);
        samples.clear();
        let now = Instant::now();
        Self {
            plan,
            cpu: Cpu::default(),
            samples,
            count: 0,
            answered: 0,
            opened: now,
            sent: now,
            last: false,
        }
    }

    /// Starts the clock of the next round trip and returns the request's stamp, or `None` after
    /// the last.
    #[inline]
    pub(crate) fn begin(&mut self) -> Option<Stamp> {
        if self.last {
            return None;
        }
        let now = Instant::now();
        if !self.cpu.is_started() && now - self.opened >= self.plan.warm {
            self.opened = now;
            self.cpu.start();
        }
        let warm = !self.cpu.is_started();
        if !warm {
            let time = now - self.opened;
            let due = self.samples.len() + 1;
            self.last = due as u64 >= self.plan.trips && time >= self.plan.time
                || due >= self.samples.capacity()
                || time >= self.plan.limit;
        }
        self.count += 1;
        self.sent = now;
        Some(Stamp::new(self.count, warm, self.last))
    }

    /// Reads the reply and stops the clock.
    #[inline]
    pub(crate) fn end<P: Payload + ?Sized>(&mut self, reply: &P) -> Result<()> {
        let stamp = payload::read(reply, self.plan.len)?;
        follow(stamp, &mut self.answered, true)?;
        if !stamp.is_warm() {
            self.samples.push(nanos(self.sent.elapsed()));
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Record {
        Record {
            cpu_ns: self.cpu.spent(),
            messages: 2 * self.samples.len() as u64,
            samples: self.samples,
        }
    }
}

/// The answering side of round trips.
#[derive(Debug)]
pub(crate) struct Echo {
    plan: Plan,
    cpu: Cpu,
    seen: u64,
}

impl Echo {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            cpu: Cpu::default(),
            seen: 0,
        }
    }

    /// Reads a request and returns the stamp to answer with; the answer to
    /// [`Stamp::is_last`] is the last thing to send.
    #[inline]
    pub(crate) fn read<P: Payload + ?Sized>(&mut self, request: &P) -> Result<Stamp> {
        let stamp = payload::read(request, self.plan.len)?;
        follow(stamp, &mut self.seen, false)?;
        if !stamp.is_warm() && !self.cpu.is_started() {
            self.cpu.start();
        }
        Ok(stamp.reply())
    }

    pub(crate) fn finish(self) -> Record {
        Record {
            cpu_ns: self.cpu.spent(),
            ..Record::default()
        }
    }
}

/// The sending side of throughput.
#[derive(Debug)]
pub(crate) struct Flow {
    plan: Plan,
    cpu: Cpu,
    count: u64,
    opened: Instant,
    last: bool,
}

impl Flow {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            cpu: Cpu::default(),
            count: 0,
            opened: Instant::now(),
            last: false,
        }
    }

    /// The stamp of the next message, or `None` after the last.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Stamp> {
        if self.last {
            return None;
        }
        self.count += 1;
        if self.count.is_multiple_of(self.plan.stride) {
            self.look();
        }
        let warm = !self.cpu.is_started();
        Some(Stamp::new(self.count, warm, self.last))
    }

    #[cold]
    fn look(&mut self) {
        let time = self.opened.elapsed();
        if !self.cpu.is_started() {
            if time >= self.plan.warm {
                self.opened = Instant::now();
                self.cpu.start();
            }
            return;
        }
        // The receiver's slices begin and end on strides of its own: half a slice is their slack.
        let slices = u32::try_from(self.plan.slices).unwrap_or(u32::MAX);
        self.last = time >= self.plan.time * slices + self.plan.time / 2;
    }

    pub(crate) fn finish(self) -> Record {
        Record {
            cpu_ns: self.cpu.spent(),
            ..Record::default()
        }
    }
}

/// The receiving side of throughput.
#[derive(Debug)]
pub(crate) struct Meter {
    plan: Plan,
    cpu: Cpu,
    seen: u64,
    messages: u64,
    slice: u64,
    opened: Instant,
    samples: Vec<f64>,
}

impl Meter {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            cpu: Cpu::default(),
            seen: 0,
            messages: 0,
            slice: 0,
            opened: Instant::now(),
            samples: Vec::new(),
        }
    }

    /// Reads a message; true for the last one.
    #[inline]
    pub(crate) fn read<P: Payload + ?Sized>(&mut self, message: &P) -> Result<bool> {
        let stamp = payload::read(message, self.plan.len)?;
        follow(stamp, &mut self.seen, false)?;
        if !stamp.is_warm() {
            if !self.cpu.is_started() {
                self.cpu.start();
                self.opened = Instant::now();
            } else {
                self.slice += 1;
            }
            self.messages += 1;
            if self.slice >= self.plan.stride && self.slice.is_multiple_of(self.plan.stride) {
                self.look();
            }
        }
        Ok(stamp.is_last())
    }

    #[cold]
    fn look(&mut self) {
        let time = self.opened.elapsed();
        if time >= self.plan.time && self.samples.len() < self.plan.slices {
            self.samples.push(rate(self.slice, time));
            self.slice = 0;
            self.opened = Instant::now();
        }
    }

    pub(crate) fn finish(mut self) -> Record {
        // So slow that not one slice was filled: what there is makes one.
        if self.samples.is_empty() && self.slice > 0 {
            self.samples.push(rate(self.slice, self.opened.elapsed()));
        }
        Record {
            cpu_ns: self.cpu.spent(),
            messages: self.messages,
            samples: self.samples,
        }
    }
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn rate(messages: u64, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
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
