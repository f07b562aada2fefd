//! Giving the other tasks of a worker their turn.

use std::task::{Context, Poll};

use tokio::task::coop;

/// Messages, or KiB, for one unit of a task's budget. A unit is meant for something that costs about a
/// system call; a small message costs a twentieth of that.
const QUANTUM: usize = 16;

/// What a half has taken of its task's budget and not yet paid for.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    owed: usize,
}

impl Turn {
    /// Pending when the task has had its turn, and is to be polled again after the others.
    #[inline]
    pub(crate) fn poll_proceed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.owed < QUANTUM {
            return Poll::Ready(());
        }
        self.pay(cx)
    }

    #[cold]
    fn pay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.owed >= QUANTUM {
            match coop::poll_proceed(cx) {
                Poll::Ready(unit) => unit.made_progress(),
                Poll::Pending => {
                    // A new turn begins with a clean slate, however much the last message was.
                    self.owed = 0;
                    return Poll::Pending;
                }
            }
            self.owed -= QUANTUM;
        }
        Poll::Ready(())
    }

    /// Takes a message of `len` bytes into account.
    #[inline]
    pub(crate) fn spend(&mut self, len: usize) {
        self.owed += 1 + len / 1024;
    }
}
