//! The instruments of both sides of round trips.
//!
//! Each one is timed with [`Instant`], from before the request is written until its reply has been
//! read. The cost of two clock reads, some tens of nanoseconds, is in every sample of every subject alike.

use std::time::{Duration, Instant};

use crate::Result;
use crate::measure::{Cpu, Plan, Record, follow};
use crate::payload::{self, Payload, Stamp};

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

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
