use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that is given up after a number of polls: see [`limited`].
#[derive(Debug)]
pub struct Limited<'a, F> {
    future: Pin<&'a mut F>,
    polls: u32,
    busy: bool,
}

/// Polls `future` up to `polls` times; `None` if it was pending each time.
///
/// `busy` has it polled again at once rather than when it is woken.
pub fn limited<F>(future: Pin<&mut F>, polls: u32, busy: bool) -> Limited<'_, F> {
    Limited {
        future,
        polls,
        busy,
    }
}

impl<F: Future> Future for Limited<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.polls == 0 {
            return Poll::Ready(None);
        }
        this.polls -= 1;
        match this.future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if this.polls == 0 => Poll::Ready(None),
            Poll::Pending => {
                if this.busy {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}
