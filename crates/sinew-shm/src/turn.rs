//! Giving the other tasks of a worker their turn.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Has the current task polled again after the worker's other tasks, timers and descriptors.
///
/// A plain wake-up would do for a spawned task, but the main future of `block_on` would then be polled
/// again before anything else, at the price of a system call each time.
pub(crate) fn give(cx: &mut Context<'_>) {
    // The first poll registers the waker with the scheduler and is pending.
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}
