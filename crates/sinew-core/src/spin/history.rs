/// Whether looking before a wait has lately paid off.
///
/// A wake-up costs microseconds, and tens of them between the cores of a virtual machine. Looking for about as long
/// before a wait saves that where the other side answers soon, and otherwise doubles the price of the wait. So every
/// success earns a credit, of eight at most, and a failure costs two; without credit it is tried after 16 waits,
/// then 64, up to 1024, until it succeeds again.
///
/// # Examples
///
/// ```
/// use sinew_core::SpinHistory;
///
/// let mut history = SpinHistory::new();
/// let mut tries = 0;
/// for _ in 0..1000 {
///     if history.is_given() {
///         tries += 1;
///         history.fail();
///     }
/// }
/// assert!((2..10).contains(&tries));
/// ```
#[derive(Debug, Clone)]
pub struct SpinHistory {
    earned: u32,
    gap: u32,
    skip: u32,
}

const MAX: u32 = 8;
/// What a failure costs; a success earns one.
const COST: u32 = 2;
/// Waits without a try between two, at least and at most.
const GAP_MIN: u32 = 16;
const GAP_MAX: u32 = 1024;

impl SpinHistory {
    /// With credit for two failures.
    pub const fn new() -> Self {
        Self {
            earned: MAX / 2,
            gap: GAP_MIN,
            skip: 0,
        }
    }

    /// Whether to try. To be asked once for each wait, and answered with [`succeed`](Self::succeed) or
    /// [`fail`](Self::fail), or with neither where the try is broken off.
    #[inline]
    pub fn is_given(&mut self) -> bool {
        if self.earned == 0 && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        true
    }

    /// What was waited for came in time.
    #[inline]
    pub fn succeed(&mut self) {
        if self.earned < MAX {
            self.earned += 1;
            self.gap = GAP_MIN;
        }
    }

    /// It did not.
    pub fn fail(&mut self) {
        if self.earned == 0 {
            self.gap = (self.gap * 4).min(GAP_MAX);
        }
        self.earned = self.earned.saturating_sub(COST);
        self.skip = self.gap;
    }
}

impl Default for SpinHistory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_tried_rarely() {
        let mut history = SpinHistory::new();
        let mut tries = 0;
        for _ in 0..10_000 {
            if history.is_given() {
                history.fail();
                tries += 1;
            }
        }
        assert!(tries < 50, "{tries} of 10,000");
        assert!(tries > 3, "it never tries again");
    }

    #[test]
    fn what_pays_is_taken_up_again() {
        let mut history = SpinHistory::new();
        for _ in 0..1000 {
            if history.is_given() {
                history.fail();
            }
        }
        let mut successes = 0;
        for _ in 0..3 * GAP_MAX {
            if history.is_given() {
                history.succeed();
                successes += 1;
            }
        }
        assert!(successes > GAP_MAX, "{successes}");
        assert!(history.earned > 0);
    }
}
