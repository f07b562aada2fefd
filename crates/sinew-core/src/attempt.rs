use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::coop;

thread_local! {
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// Polls once, outside of any task: for what is tried and not waited for, such as a `try_recv`.
///
/// `None` if it would have to wait; nobody is woken then. Tokio's cooperative budget does not count.
///
/// # Examples
///
/// ```
/// use std::task::Poll;
///
/// assert_eq!(sinew_core::attempt(|_| Poll::Ready(7)), Some(7));
/// assert_eq!(sinew_core::attempt(|_| Poll::<u8>::Pending), None);
/// ```
pub fn attempt<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            TRYING.set(self.0);
        }
    }
    let _back = Back(TRYING.replace(true));
    let once = pin!(coop::unconstrained(poll_fn(|cx| poll(cx))));
    match once.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Whether this is called from within an [`attempt`].
///
/// Nobody waits then, so an `AsyncRead` or `AsyncWrite` asks the kernel, rather than relying on what the
/// runtime has heard of: see [`AsyncIo::try_read_with`](crate::AsyncIo::try_read_with).
#[inline]
pub fn is_attempt() -> bool {
    TRYING.get()
}
