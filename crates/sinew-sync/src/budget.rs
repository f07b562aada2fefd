//! Taking part in the budget of a task.

use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// For what is done at once, and would otherwise never give other tasks their turn.
pub(crate) fn proceed(cx: &mut Context<'_>) -> Poll<()> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(())
}
