use std::sync::Arc;

use super::sys::Step;

/// One operation on one semaphore of a set: `sembuf` of semop(2).
///
/// Several of them can be [applied](super::Set::apply) at once: all or none.
///
/// # Examples
///
/// ```
/// use sinew_sync::sysv::Op;
///
/// // A unit of the first for two of the second, if nobody uses the third.
/// let trade = [Op::new(0, -1), Op::new(1, 2), Op::zero(2)];
/// assert_eq!(trade[0].value(), -1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Op(pub(super) Step);

impl Op {
    /// Takes units if `value` is negative, waiting until there are as many; gives them if it is positive;
    /// waits until there are none if it is zero.
    pub const fn new(index: u16, value: i16) -> Self {
        Self(Step::new(index, value))
    }

    /// Waits until the semaphore has no units.
    pub const fn zero(index: u16) -> Self {
        Self::new(index, 0)
    }

    /// Whether the kernel takes it back when this process ends, in whatever way: `SEM_UNDO`. Default: no.
    ///
    /// What is undone is what the *process* has done: see [the module](super#undo).
    #[must_use]
    pub const fn undo(self, undo: bool) -> Self {
        Self(self.0.undo(undo))
    }

    /// Whether all fail with `EAGAIN` where this one would have to wait: `IPC_NOWAIT`. Default: no.
    #[must_use]
    pub const fn nowait(self, nowait: bool) -> Self {
        Self(self.0.nowait(nowait))
    }

    /// Which semaphore of the set.
    pub const fn index(self) -> u16 {
        self.0.index
    }

    /// What is added to its value; zero waits for zero.
    pub const fn value(self) -> i16 {
        self.0.value
    }
}

/// What is done at once.
#[derive(Debug, Clone)]
pub(super) enum Steps {
    One(Step),
    Many(Arc<[Step]>),
}

impl Steps {
    pub(super) fn new(ops: &[Op]) -> Self {
        match ops {
            [one] => Self::One(one.0),
            many => Self::Many(many.iter().map(|op| op.0).collect()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Step] {
        match self {
            Self::One(step) => std::slice::from_ref(step),
            Self::Many(steps) => steps,
        }
    }

    /// The same, without waiting for anything.
    pub(super) fn now(&self) -> Self {
        match self {
            Self::One(step) => Self::One(step.nowait(true)),
            Self::Many(steps) => Self::Many(steps.iter().map(|step| step.nowait(true)).collect()),
        }
    }

    /// What waits until this could be done, and leaves everything as it was.
    ///
    /// Everything is done, and then the opposite in the opposite order, all at once. The second half meets
    /// the values of the first, so that it neither waits nor goes out of range.
    pub(super) fn probe(&self) -> Arc<[Step]> {
        let steps = self.as_slice();
        let forth = steps.iter().map(|step| step.undo(false));
        let back = steps.iter().rev().filter(|step| step.value != 0);
        let back = back.map(|step| Step::new(step.index, step.value.wrapping_neg()));
        forth.chain(back).collect()
    }
}

/// What the kernel would do about operations, at given values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does them, or says why it cannot.
    Done,
    /// It waits.
    Waits,
    /// It would have to wait at one that is not to.
    Refused,
}

/// As `perform_atomic_semop` of ipc/sem.c decides.
pub(super) fn fate(values: &mut [u16], steps: &[Step]) -> Fate {
    for step in steps {
        let Some(value) = values.get_mut(usize::from(step.index)) else {
            return Fate::Done;
        };
        let result = i32::from(*value) + i32::from(step.value);
        if result < 0 || step.value == 0 && *value != 0 {
            return match step.is_nowait() {
                true => Fate::Refused,
                false => Fate::Waits,
            };
        }
        let Ok(result) = i16::try_from(result) else {
            return Fate::Done;
        };
        *value = result.unsigned_abs();
    }
    Fate::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_everything_as_it_was() {
        let ops = [
            Op::new(0, -2).undo(true),
            Op::zero(1).nowait(true),
            Op::new(2, 7),
            Op::new(0, 1),
            Op::new(2, -3),
        ];
        let probe = Steps::new(&ops).probe();
        assert_eq!(probe.len(), 9);
        assert!(probe.iter().all(|step| !step.is_undo()));
        let mut values = [2, 0, 0];
        assert_eq!(fate(&mut values, &probe), Fate::Done);
        assert_eq!(values, [2, 0, 0]);
        assert_eq!(fate(&mut [1, 0, 0], &probe), Fate::Waits);
        assert_eq!(fate(&mut [2, 1, 0], &probe), Fate::Refused);
    }
}
