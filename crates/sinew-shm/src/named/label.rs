//! Which client the messages of a channel of two directions come from, or are for.
//!
//! A client has a *session*: how often its sending end has been taken. A frame with a label, which
//! is a session, precedes the messages to which it applies, in both rings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::recovery;

/// The session that a server has heard of last, for both of its ends.
pub(super) type Heard = Arc<AtomicU64>;

/// Bytes of a label's payload.
pub(super) const LABEL: usize = 8;

/// What a sender labels its messages with.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Nothing: the channel has one direction.
    Plain,
    /// The client's own session.
    Client,
    /// The session of the client whose message the server has received last.
    Server(Heard),
}

impl Outgoing {
    pub(super) fn holder(&self) -> &'static str {
        match self {
            Self::Plain => "sender",
            Self::Client => "client",
            Self::Server(_) => "server",
        }
    }
}

/// What a receiver does with labels.
#[derive(Debug)]
pub(super) enum Incoming {
    /// There are none: the channel has one direction.
    Plain,
    Client {
        session: u64,
        /// Where the sender was when this client came. Ends and deaths before that are not its own
        /// affair.
        since: u64,
    },
    Server(Heard),
}

impl Incoming {
    pub(super) fn holder(&self) -> &'static str {
        match self {
            Self::Plain => "receiver",
            Self::Client { .. } => "client",
            Self::Server(_) => "server",
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// Notes a label that was read, or found.
    pub(super) fn hear(&self, label: u64) {
        if let Self::Server(heard) = self {
            heard.store(label, Ordering::Release);
        }
    }

    /// Whether a message after `label` is for this end.
    #[inline]
    pub(super) fn takes(&self, label: u64) -> bool {
        match self {
            Self::Client { session, .. } => recovery::is_addressed(label, *session),
            Self::Plain | Self::Server(_) => true,
        }
    }

    /// Whether an end, or a death, at `position` is told.
    pub(super) fn tells(&self, position: u64) -> bool {
        match self {
            Self::Client { since, .. } => position >= *since,
            Self::Plain | Self::Server(_) => true,
        }
    }
}
