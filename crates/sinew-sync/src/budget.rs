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

/// Asked before something that may succeed at once for ever: gives other tasks their turn now and then.
#[inline]
pub(crate) fn poll(cx: &mut Context<'_>) -> Poll<()> {
    match LEFT.get() {
        0 => refill(cx),
        left => {
            LEFT.set(left - 1);
            Poll::Ready(())
        }
    }
}

#[cold]
fn refill(cx: &mut Context<'_>) -> Poll<()> {
    ready!(proceed(cx));
    LEFT.set(EACH - 1);
    Poll::Ready(())
}
