use std::fmt;
use std::time::Duration;

use bytemuck::Pod;
use sinew_core::{Error, ErrorKind};

use super::guard::{Guard, OwnerDied};

/// Why a lock was not taken in the ordinary way.
///
/// It turns into an [`Error`] with `?`: an [`OwnerDied`](Self::OwnerDied) that is dropped by that tells the
/// next who locks.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError<'a, T: Pod> {
    /// The process that held it has died: the lock is yours, the data as it left them.
    OwnerDied(OwnerDied<'a, T>),
    /// An earlier owner has died, and somebody [gave the data up](OwnerDied::poison).
    Poisoned(Error),
    /// It cannot be waited for.
    Failed(Error),
}

impl<'a, T: Pod> LockError<'a, T> {
    /// The lock, if its owner has died.
    pub fn into_owner_died(self) -> Option<OwnerDied<'a, T>> {
        match self {
            Self::OwnerDied(died) => Some(died),
            Self::Poisoned(_) | Self::Failed(_) => None,
        }
    }

    /// Whether the process that held it has died.
    pub fn is_owner_died(&self) -> bool {
        matches!(self, Self::OwnerDied(_))
    }
}

impl<T: Pod> From<Error> for LockError<'_, T> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<T: Pod> From<LockError<'_, T>> for Error {
    fn from(error: LockError<'_, T>) -> Self {
        match error {
            LockError::OwnerDied(died) => owner_died(died.name()),
            LockError::Poisoned(error) | LockError::Failed(error) => error,
        }
    }
}

impl<T: Pod> fmt::Display for LockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(died) => owner_died(died.name()).fmt(f),
            Self::Poisoned(error) | Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<T: Pod + fmt::Debug> std::error::Error for LockError<'_, T> {}

/// What locking gives.
pub type LockResult<'a, T> = Result<Guard<'a, T>, LockError<'a, T>>;

fn owner_died(name: &str) -> Error {
    Error::new(ErrorKind::PeerCrashed, "lock")
        .with_address(name)
        .with_reason("the process that held the lock has died")
        .with_remedy("check the data and recover the lock: LockError::OwnerDied")
}

pub(super) fn poisoned(name: &str) -> Error {
    Error::new(ErrorKind::Corrupted, "lock")
        .with_address(name)
        .with_reason("its data were given up after an owner had died")
        .with_remedy("write them anew: reset")
}

pub(super) fn timed_out(name: &str, timeout: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, "lock")
        .with_address(name)
        .with_reason(format!("it was not free within {timeout:?}"))
}
