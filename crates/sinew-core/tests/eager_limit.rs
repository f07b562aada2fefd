//! The limit is the process's: this is a process of its own.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sinew_core::{Eager, Slice};

#[test]
fn without_a_limit_nothing_is_tried_again() {
    let mut eager = Eager::receiver();
    let mut cx = Context::from_waker(Waker::noop());
    let mut again = |cx: &mut Context<'_>| eager.poll_again(cx, &mut Slice::default());
    assert_eq!(again(&mut cx), Poll::Ready(true));
    Eager::set_limit(Duration::ZERO);
    assert_eq!(again(&mut cx), Poll::Ready(false));
    for _ in 0..100 {
        assert_eq!(again(&mut cx), Poll::Ready(false));
    }
    // No trust was lost by that, but for the look that was under way.
    Eager::set_limit(Duration::from_secs(1));
    assert_eq!(again(&mut cx), Poll::Ready(true));
}
