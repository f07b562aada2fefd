//! The instruments of both sides, and what they measure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use crate::Result;
use crate::payload::{LEN, Stamp};

/// Most round trips that one round keeps.
const MAX_TRIPS: usize = 1 << 21;

/// For how long one round of one case measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    warm: Duration,
    time: Duration,
}

impl Plan {
    /// 0.1 s of warm-up and 0.5 s of round trips; a fifth of both if `quick`.
    pub(crate) fn new(quick: bool) -> Self {
        let part = if quick { 5 } else { 1 };
        Self {
            warm: Duration::from_millis(100) / part,
            time: Duration::from_millis(500) / part,
        }
    }
}

/// The figures of one round of one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Nanoseconds from before the request is written until its reply has been read.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) trips: u64,
    /// CPU time, user and system, in nanoseconds.
    pub(crate) cpu_ns: u64,
}

/// Makes round trips through `call` and times each.
pub(crate) async fn ask<R: AsRef<[u8]>>(
    plan: Plan,
    mut call: impl AsyncFnMut([u8; LEN]) -> Result<R>,
) -> Result<Record> {
    // Written once so that no page fault falls into a measurement.
    let mut samples = vec![u32::MAX; MAX_TRIPS];
    samples.clear();
    let mut number = 0;
    let mut cpu = None;
    let mut opened = Instant::now();
    loop {
        let start = Instant::now();
        if cpu.is_none() && start - opened >= plan.warm {
            (opened, cpu) = (start, Some(cpu_time()));
        }
        let last = cpu.is_some()
            && (start - opened >= plan.time || samples.len() + 1 == samples.capacity());
        number += 1;
        let request = Stamp::request(number, cpu.is_none(), last);
        let reply = call(request.payload()).await?;
        if Stamp::read(reply.as_ref()) != Some(request.reply()) {
            return Err(format!("request {number} got another reply: {:?}", reply.as_ref()).into());
        }
        if cpu.is_some() {
            samples.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        if last {
            break;
        }
    }
    let cpu_ns = cpu_time() - cpu.unwrap_or_default();
    samples.sort_unstable();
    Ok(Record {
        p50: percentile(&samples, 50),
        p99: percentile(&samples, 99),
        trips: samples.len() as u64,
        cpu_ns,
    })
}

/// The sample that `percent` of all samples do not exceed, by the nearest rank.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .map_or(f64::NAN, f64::from)
}

/// The answering side.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    answered: AtomicU64,
    /// CPU time of the process at the first request after the warm-up, and at the last one.
    cpu_from: AtomicU64,
    cpu_to: AtomicU64,
    last: Notify,
}

impl Echo {
    /// Reads a request and writes its reply; `None` if it is not the next request.
    #[inline]
    pub(crate) fn answer(&self, request: &[u8]) -> Option<[u8; LEN]> {
        let stamp = Stamp::read(request)?;
        let due = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if stamp.requested()? != due {
            return None;
        }
        if !stamp.is_warm() && self.cpu_from.load(Ordering::Relaxed) == 0 {
            self.cpu_from.store(cpu_time(), Ordering::Relaxed);
        }
        if stamp.is_last() {
            self.cpu_to.store(cpu_time(), Ordering::Relaxed);
            self.last.notify_one();
        }
        Some(stamp.reply().payload())
    }

    /// Waits for the last request, for a server that does not end with its connection.
    pub(crate) async fn ended(&self) {
        self.last.notified().await;
    }

    /// CPU time of this process while it was measured; an error if the last request never came.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let [from, to] = [&self.cpu_from, &self.cpu_to].map(|time| time.load(Ordering::Relaxed));
        if to == 0 {
            return Err("the connection ended before the last request".into());
        }
        Ok(to - from)
    }
}

/// CPU time of this process, user and system, all threads, in nanoseconds.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The middle of `values`; the mean of the two middle ones if their number is even.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}
