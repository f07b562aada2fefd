//! The instrument of what one process does by itself: nanoseconds for each time that it is done.

use std::time::Instant;

use crate::measure::{Cpu, Plan, Record};

/// Times operations, some at a time where each takes no longer than looking at the clock.
#[derive(Debug)]
pub(crate) struct Operations {
    plan: Plan,
    cpu: Cpu,
    samples: Vec<f64>,
    count: u64,
    opened: Instant,
}

impl Operations {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            cpu: Cpu::default(),
            samples: Vec::new(),
            count: 0,
            opened: Instant::now(),
        }
    }

    /// Starts the clock, or says that it was enough.
    pub(crate) fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let time = now - self.opened;
        if !self.cpu.is_started() {
            if time >= self.plan.warm {
                self.opened = now;
                self.cpu.start();
            }
            return Some(now);
        }
        let enough = self.samples.len() as u64 >= self.plan.trips && time >= self.plan.time;
        (!enough && time < self.plan.limit).then(Instant::now)
    }

    /// Stops it: `count` were done.
    pub(crate) fn end(&mut self, begun: Instant, count: u32) {
        self.end_at(begun, Instant::now(), count);
    }

    /// Says when it stopped.
    pub(crate) fn end_at(&mut self, begun: Instant, ended: Instant, count: u32) {
        if self.cpu.is_started() {
            let took = (ended - begun).as_secs_f64() * 1e9;
            self.samples.push(took / f64::from(count));
            self.count += u64::from(count);
        }
    }

    pub(crate) fn finish(self) -> Record {
        Record {
            cpu_ns: self.cpu.spent(),
            messages: self.count,
            samples: self.samples,
        }
    }
}
