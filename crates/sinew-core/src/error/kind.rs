use std::fmt;

/// What went wrong, in the terms in which a program decides what to do next.
///
/// The errno, where there is one, is in [`Error::errno`](crate::Error::errno); the kind says what it
/// means for the stream or the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The kernel refused for a reason that none of the other kinds names; look at the errno.
    System,
    /// What was named is not there: create it, or wait for it.
    NotFound,
    /// What was to be made is there already: open it, or remove it first.
    AlreadyExists,
    /// An argument cannot be right: correct the call.
    InvalidInput,
    /// An address does not parse or does not fit its scheme: correct the address.
    InvalidAddress,
    /// The other side has closed, or the object was removed: open a new one.
    Closed,
    /// The peer died without closing. Everything that it had published was delivered before this.
    PeerCrashed,
    /// Shared memory holds what no correct peer writes. The channel is unusable; others are not affected.
    Corrupted,
    /// The peer does not speak the expected protocol or framing: check what is at the other end.
    Protocol,
    /// A limit of the system or of this object is reached; the remedy names it where it is known.
    LimitExceeded,
    /// The deadline passed. Nothing was sent or received.
    TimedOut,
    /// Nobody listens, or a policy or a permission says no.
    Refused,
    /// Items were dropped before they could be received. The stream goes on: see
    /// [`Error::lost`](crate::Error::lost) for how many, and read the current state anew if it matters.
    Lost,
    /// This mechanism, kernel or build cannot do that: choose another.
    Unsupported,
}

impl ErrorKind {
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::System => "the system refused",
            Self::NotFound => "not found",
            Self::AlreadyExists => "it exists already",
            Self::InvalidInput => "invalid argument",
            Self::InvalidAddress => "invalid address",
            Self::Closed => "closed",
            Self::PeerCrashed => "the peer died without closing",
            Self::Corrupted => "shared memory is corrupted",
            Self::Protocol => "protocol violation",
            Self::LimitExceeded => "a limit is reached",
            Self::TimedOut => "timed out",
            Self::Refused => "refused",
            Self::Lost => "items were lost",
            Self::Unsupported => "not supported",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}
