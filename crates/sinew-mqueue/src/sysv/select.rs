use std::fmt;
use std::io;

use libc::{c_int, c_long};

use crate::sys;

/// Which messages of a queue a receiver takes, by their type: `msgtyp` of msgop(2).
///
/// # Examples
///
/// ```
/// use sinew_mqueue::sysv::Select;
///
/// assert!(Select::UpTo(7).takes(3));
/// assert!(!Select::Except(7).takes(7));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Select {
    /// Every message, the oldest first.
    #[default]
    Any,
    /// Messages of this type, the oldest first.
    Equal(i64),
    /// Messages of a type up to this one: the lowest type first, and the oldest of it. This makes types
    /// into priorities.
    UpTo(i64),
    /// Messages of any other type (`MSG_EXCEPT`), the oldest first.
    Except(i64),
}

impl Select {
    /// Whether it takes a message of type `kind`.
    pub fn takes(self, kind: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Equal(wanted) => kind == wanted,
            Self::UpTo(most) => kind <= most,
            Self::Except(unwanted) => kind != unwanted,
        }
    }

    /// The type that stands in the selection, which has to be positive.
    pub(super) fn kind(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Equal(kind) | Self::UpTo(kind) | Self::Except(kind) => Some(kind),
        }
    }

    /// `msgtyp` and `msgflg`.
    pub(super) fn arguments(self) -> io::Result<(c_long, c_int)> {
        Ok(match self {
            Self::Any => (0, 0),
            Self::Equal(kind) => (sys::tag(kind)?, 0),
            Self::UpTo(kind) => (sys::tag(kind.saturating_neg())?, 0),
            Self::Except(kind) => (sys::tag(kind)?, libc::MSG_EXCEPT),
        })
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any type"),
            Self::Equal(kind) => write!(f, "type {kind}"),
            Self::UpTo(kind) => write!(f, "types up to {kind}"),
            Self::Except(kind) => write!(f, "types except {kind}"),
        }
    }
}
