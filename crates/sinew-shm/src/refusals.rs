//! Counts the peers that a listener turned away, and traces them at a bounded rate.

use std::time::{Duration, Instant};

use sinew_core::Error;

/// As many are traced one by one.
const FIRST: u64 = 10;
/// After those, at most one in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Counts refusals, and traces some of them: peers that are refused must not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u64,
    suppressed: u64,
    last: Option<Instant>,
}

impl Refusals {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn add(&mut self, address: &str, error: &Error) {
        if let Some(suppressed) = self.note(Instant::now()) {
            tracing::warn!(address, %error, suppressed, "peer was turned away");
        }
    }

    /// Counts one. Returns how many were not traced before it, if it is to be traced.
    fn note(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= EVERY);
        if self.count > FIRST && !is_due {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_traced_once_a_second() {
        let mut refusals = Refusals::default();
        let begin = Instant::now();
        let mut traced = Vec::new();
        for millisecond in 0..2500 {
            let now = begin + Duration::from_millis(millisecond);
            traced.extend(refusals.note(now));
        }
        assert_eq!(refusals.count(), 2500);
        let mut expected = vec![0; 10];
        expected.extend([999, 999]);
        assert_eq!(traced, expected);
    }
}
