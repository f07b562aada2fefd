//! A case: one subject doing one thing with one size of payload in one way.

use std::fmt;

use crate::Result;
use crate::measure::Record;
use crate::session::Session;

/// One side of a case. It sets itself up, meets the other side, and measures.
pub(crate) type Side = fn(&mut Session) -> Result<Record>;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Nanoseconds from writing a request until its reply was read.
    RoundTrip,
    /// Messages per second that arrive.
    Throughput,
}

/// How a side waits, which decides the limit that a round trip is held against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// It watches a cache line.
    Spin,
    /// The kernel wakes it.
    Park,
}

/// Bytes of a payload, a multiple of eight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size(usize);

impl Size {
    pub(crate) const WORD: Self = Self(8);
    pub(crate) const SMALL: Self = Self(64);
    pub(crate) const PAGE: Self = Self(4096);
    pub(crate) const MEDIUM: Self = Self(64 << 10);
    pub(crate) const LARGE: Self = Self(1 << 20);
    pub(crate) const HUGE: Self = Self(16 << 20);
    pub(crate) const ALL: [Self; 3] = [Self::SMALL, Self::PAGE, Self::LARGE];

    pub(crate) fn bytes(self) -> usize {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// A row of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) subject: &'static str,
    pub(crate) kind: Kind,
    pub(crate) size: Size,
    pub(crate) how: &'static str,
    pub(crate) wait: Wait,
    pub(crate) parent: Side,
    /// The second process; `None` for a case that needs one process only.
    pub(crate) child: Option<Side>,
    /// Whether each process is held to a CPU of its own.
    pub(crate) pinned: bool,
    /// Whether it gets anywhere when both sides share one CPU.
    pub(crate) on_one_core: bool,
    /// Whether it is no round trip, but something that one process does by itself.
    pub(crate) is_operation: bool,
}

impl Case {
    /// Round trips: `ask` times them, `answer` echoes.
    pub(crate) fn round_trip(
        subject: &'static str,
        size: Size,
        how: &'static str,
        wait: Wait,
        ask: Side,
        answer: Side,
    ) -> Self {
        Self {
            subject,
            kind: Kind::RoundTrip,
            size,
            how,
            wait,
            parent: ask,
            child: Some(answer),
            pinned: true,
            on_one_core: wait == Wait::Park,
            is_operation: false,
        }
    }

    /// Throughput: `receive` counts what `send` sends.
    pub(crate) fn throughput(
        subject: &'static str,
        size: Size,
        how: &'static str,
        wait: Wait,
        receive: Side,
        send: Side,
    ) -> Self {
        Self {
            kind: Kind::Throughput,
            ..Self::round_trip(subject, size, how, wait, receive, send)
        }
    }

    /// Something that one process does by itself.
    pub(crate) fn operation(
        subject: &'static str,
        how: &'static str,
        wait: Wait,
        side: Side,
    ) -> Self {
        Self {
            is_operation: true,
            ..Self::round_trip(subject, Size::WORD, how, wait, side, side)
        }
        .alone()
    }

    /// Leaves the second process out: the first one does everything.
    pub(crate) fn alone(self) -> Self {
        Self {
            child: None,
            ..self
        }
    }

    /// Lets the scheduler place the threads, for runtimes that bring several.
    pub(crate) fn unpinned(self) -> Self {
        Self {
            pinned: false,
            ..self
        }
    }

    /// Declares that the case ends in reasonable time on one CPU although it is not parked.
    pub(crate) fn on_one_core(self) -> Self {
        Self {
            on_one_core: true,
            ..self
        }
    }

    /// `rtt/SIZE/HOW`, `throughput/SIZE/HOW` or `op/HOW`.
    pub(crate) fn name(&self) -> String {
        if self.is_operation {
            return format!("op/{}", self.how);
        }
        let kind = match self.kind {
            Kind::RoundTrip => "rtt",
            Kind::Throughput => "throughput",
        };
        format!("{kind}/{}/{}", self.size, self.how)
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::RoundTrip => "ns",
            Kind::Throughput if self.in_bytes() => "B/s",
            Kind::Throughput => "msg/s",
        }
    }

    /// What a raw sample is multiplied by to be in [`unit`](Self::unit).
    pub(crate) fn scale(&self) -> f64 {
        if self.in_bytes() {
            self.size.bytes() as f64
        } else {
            1.0
        }
    }

    fn in_bytes(&self) -> bool {
        self.kind == Kind::Throughput && self.size.bytes() >= 1 << 20
    }
}

/// A family of cases that one subcommand runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) cases: fn() -> Vec<Case>,
    /// The name of the `limit` case that a case is held against.
    pub(crate) limit: fn(&Case) -> Option<String>,
    pub(crate) comparisons: &'static [Comparison],
}

/// A ratio that the report ends with: `ours` by `theirs`, each a subject and a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) ours: (&'static str, &'static str),
    pub(crate) theirs: (&'static str, &'static str),
}
