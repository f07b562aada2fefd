//! Arming, and what becomes of the receiver.

use std::time::Instant;

use sinew_core::{Error, ErrorKind};
use sinew_ring::{Corruption, Producer, State};

use super::{Blocked, LOOK_INTERVAL, Sender};
use crate::link::Half;
use crate::sys::Memory;
use crate::wire::MAX_MEMORY_IN_FLIGHT;

impl Sender {
    /// Arms for what is blocked, with the barrier that the receiver may rely on.
    pub(super) fn arm(&mut self, blocked: Blocked) -> Result<(), Error> {
        let cursor = match blocked {
            Blocked::Room { len, memory: false } => self.producer.cursor_for(len),
            Blocked::Room { len, memory: true } => {
                let oldest = self.memories.front().copied().unwrap_or(0);
                let is_full = self.memories.len() >= MAX_MEMORY_IN_FLIGHT;
                let cursor = self.producer.cursor_for(len);
                if is_full { cursor.max(oldest) } else { cursor }
            }
            Blocked::Released(cursor) => cursor,
            // The socket says so itself; the receiver rings for the end.
            Blocked::Socket => Producer::<Memory>::NEVER,
        };
        self.armed = true;
        let link = &self.link;
        self.producer.arm(cursor, || link.barrier())
    }

    pub(super) fn disarm(&mut self) {
        self.armed = false;
        self.producer.disarm();
    }

    /// Looks at the socket if something happened there: a sender that never waits learns there that
    /// its peer is gone.
    #[inline]
    pub(super) fn take_event(&mut self) -> Result<(), Error> {
        if self.link.take_event(Half::Sender) {
            self.look_at_socket()
        } else {
            Ok(())
        }
    }

    #[cold]
    pub(super) fn look_at_socket(&mut self) -> Result<(), Error> {
        if self.link.poll_events(Half::Sender).is_err() {
            // Not in a runtime: `try_send` works without one, and nobody will tell it of events.
            self.link.expect_event(Half::Sender);
            return self.look_now_and_then();
        }
        self.fate().map_or(Ok(()), Err)
    }

    /// Looks at the socket without a runtime, but not with every message: that would be a system call
    /// for each.
    pub(super) fn look_now_and_then(&mut self) -> Result<(), Error> {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL)
        {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        self.link.drain_now(Half::Sender)?;
        self.fate().map_or(Ok(()), Err)
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.closed {
            let error = Error::new(ErrorKind::Closed, "send").with_reason("this sender was closed");
            return Err(self.link.error(error));
        }
        Ok(())
    }

    /// Whether, and why, nothing that is sent will be received any more.
    #[cold]
    pub(super) fn fate(&mut self) -> Option<Error> {
        if let Some(error) = &self.failed {
            return Some(error.clone());
        }
        // The order matters: a peer that has hung up changes its state no more.
        let hung_up = self.link.hung_up();
        let error = match self.producer.peer_state() {
            Err(corruption) => return Some(self.corrupted(corruption)),
            Ok(State::Aborted) => Error::new(ErrorKind::Corrupted, "send")
                .with_reason("the receiver gave up: it found that we break the protocol"),
            Ok(State::Open) if !hung_up => return None,
            Ok(State::Open) => match self.link.broken() {
                Some(error) => error,
                None => Error::new(ErrorKind::PeerCrashed, "send")
                    .with_reason("the receiver's process ended without closing the channel"),
            },
            Ok(_) => Error::new(ErrorKind::Closed, "send").with_reason("the receiver was closed"),
        };
        let error = self.link.error(error);
        self.failed = Some(error.clone());
        Some(error)
    }

    #[cold]
    pub(crate) fn corrupted(&mut self, corruption: Corruption) -> Error {
        let error = self.link.error(
            Error::new(ErrorKind::Corrupted, "send")
                .with_reason(corruption.to_string())
                .with_remedy("the peer breaks the protocol; end this channel"),
        );
        tracing::warn!(parent: &self.link.span, %error, "sender failed");
        self.failed = Some(error.clone());
        self.close_now(State::Aborted);
        error
    }

    pub(super) fn close_now(&mut self, state: State) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.producer.close(state) {
            self.link.ring();
        }
    }
}
