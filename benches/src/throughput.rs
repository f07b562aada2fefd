//! The instruments of both sides of throughput.
//!
//! What arrives is counted, at the receiving side, in slices of equal time.

use std::time::{Duration, Instant};

use crate::Result;
use crate::measure::{Cpu, Plan, Record, follow};
use crate::payload::{self, Payload, Stamp};

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

fn rate(messages: u64, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
}
