use std::{error, fmt};

use super::{Error, ErrorKind};

/// Why `try_send` did not send. It hands the value back.
///
/// # Examples
///
/// ```
/// use sinew_core::TrySendError;
///
/// let refused = TrySendError::Full("job 7");
/// assert!(refused.is_full());
/// assert_eq!(refused.into_inner(), "job 7");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room now. Wait for it with `send`, or try again later.
    Full(T),
    /// This value was not sent, and the sink goes on: send another. It is too long, say, or has
    /// attributes that this sink cannot send, or the sink tells of an
    /// [earlier loss](Error::is_recoverable).
    #[non_exhaustive]
    Rejected {
        /// The value that was not sent.
        value: T,
        /// Why.
        error: Error,
    },
    /// The sink has closed or failed: it will send nothing any more.
    #[non_exhaustive]
    Closed {
        /// The value that was not sent.
        value: T,
        /// Why: a clean close, a crashed peer, or any other failure of the sink.
        error: Error,
    },
}

impl<T> TrySendError<T> {
    /// A [`Closed`](Self::Closed), with the value that was not sent.
    pub fn closed(value: T, error: Error) -> Self {
        Self::Closed { value, error }
    }

    /// A [`Rejected`](Self::Rejected) if `error` is about the value, and a [`Closed`](Self::Closed)
    /// otherwise.
    ///
    /// It is about the value if it is recoverable, of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput), or the
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) of a length.
    pub fn failed(value: T, error: Error) -> Self {
        let is_of_value = match error.kind() {
            ErrorKind::InvalidInput => true,
            ErrorKind::LimitExceeded => matches!(
                error.errno_name(),
                None | Some("EMSGSIZE" | "EINVAL" | "E2BIG")
            ),
            _ => error.is_recoverable(),
        };
        match is_of_value {
            true => Self::Rejected { value, error },
            false => Self::Closed { value, error },
        }
    }

    /// Whether this value cannot be sent, and another can.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// Whether there was merely no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// The failure, unless there was merely no room.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Full(_) => None,
            Self::Rejected { error, .. } | Self::Closed { error, .. } => Some(error),
        }
    }

    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Rejected { value, .. } | Self::Closed { value, .. } => value,
        }
    }

    /// Changes the value and keeps the reason.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> TrySendError<U> {
        match self {
            Self::Full(value) => TrySendError::Full(change(value)),
            Self::Rejected { value, error } => TrySendError::Rejected {
                value: change(value),
                error,
            },
            Self::Closed { value, error } => TrySendError::Closed {
                value: change(value),
                error,
            },
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("no room to send now; wait for it with send"),
            Self::Rejected { error, .. } | Self::Closed { error, .. } => error.fmt(f),
        }
    }
}

impl<T: fmt::Debug> error::Error for TrySendError<T> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error().and_then(error::Error::source)
    }
}

/// Why `try_recv` did not receive.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is nothing now. Wait for it with `recv`, or try again later.
    Empty,
    /// The other side closed cleanly, and everything that it sent has been received.
    Closed,
    /// Receiving failed; see [`Error::is_recoverable`] for whether it goes on.
    Failed(Error),
}

impl TryRecvError {
    /// Whether there was merely nothing to receive.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Whether this is the clean end.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl From<Error> for TryRecvError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing to receive now; wait for it with recv"),
            Self::Closed => f.write_str("closed, and everything was received"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl error::Error for TryRecvError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Failed(error) => error::Error::source(error),
            Self::Empty | Self::Closed => None,
        }
    }
}
