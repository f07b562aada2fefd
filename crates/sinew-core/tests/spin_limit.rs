//! The limit is the process's: this is a process of its own.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sinew_core::{AdaptiveSpin, Looks};

#[test]
fn without_a_limit_nothing_is_tried_again() {
    let mut spin = AdaptiveSpin::adaptive();
    let mut cx = Context::from_waker(Waker::noop());
    AdaptiveSpin::set_process_limit(Duration::ZERO);
    for _ in 0..100 {
        assert_eq!(spin.poll_again(&mut cx, Looks::RECEIVE), Poll::Ready(false));
        spin.succeed();
    }
    // Nothing of that is held against looking.
    AdaptiveSpin::set_process_limit(Duration::from_secs(1));
    assert_eq!(spin.poll_again(&mut cx, Looks::RECEIVE), Poll::Ready(true));
}
