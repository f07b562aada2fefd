//! Taking part in the budget of a task.

use std::cell::Cell;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Operations for one unit of the budget. Taking what is free lasts nanoseconds, no more than to ask Tokio
/// whether it may go on: a loop that does nothing else yields after some 4,000, within 100 microseconds.
const EACH: u32 = 32;

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn proceed(cx: &mut Context<'_>) -> Poll<()> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(())
}

/// Whether something that may succeed at once for ever may be tried; if not, [`consume`] comes first.
#[inline]
pub(crate) fn has_left() -> bool {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    left > 0
}

/// Gives other tasks their turn now and then.
pub(crate) async fn consume() {
    coop::consume_budget().await;
    LEFT.set(EACH);
}
