//! Tokio's timers, with an error instead of a panic where the runtime has none.
//!
//! They follow Tokio's clock, which a test can pause.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop;

use tokio::time::{self, Instant, Sleep};

use crate::Error;
use crate::runtime::with_driver;

const DRIVER: &str = "timers";

/// Waits for this long: [`tokio::time::sleep`].
///
/// # Errors
///
/// Of kind [`Unsupported`](crate::ErrorKind::Unsupported) in a runtime without timers, and
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) outside of a runtime.
pub fn sleep(duration: Duration) -> Result<Sleep, Error> {
    with_driver("sleep", DRIVER, || time::sleep(duration))
}

/// Waits until then: [`tokio::time::sleep_until`].
///
/// # Errors
///
/// As for [`sleep`].
pub fn sleep_until(deadline: Instant) -> Result<Sleep, Error> {
    with_driver("sleep", DRIVER, || time::sleep_until(deadline))
}

/// Bounds the time that `work` takes, as [`tokio::time::timeout`]. `None` if it was not done by
/// then.
///
/// # Errors
///
/// As for [`sleep`]; `work` is not begun then.
///
/// # Cancel safety
///
/// That of `work`, which is dropped with it.
pub async fn timeout<T>(
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<Option<T>, Error> {
    // Work that takes all of the task's budget each time must not hold up the end.
    let mut end = pin!(coop::unconstrained(sleep(limit)?));
    let mut work = pin!(work);
    let done = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    });
    Ok(done.await)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_runtime_without_timers_is_an_error() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_io().build().unwrap();
        runtime.block_on(async {
            let error = sleep(Duration::ZERO).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.remedy().unwrap().contains("enable_all"), "{error}");
            assert!(sleep_until(Instant::now()).is_err());
            assert!(timeout(Duration::MAX, async {}).await.is_err());
        });
        let error = sleep(Duration::ZERO).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }

    #[tokio::test]
    async fn a_limit_is_kept() {
        let done = timeout(Duration::from_secs(60), async { 1 }).await;
        assert_eq!(done.unwrap(), Some(1));
        let never = std::future::pending::<()>();
        let done = timeout(Duration::from_millis(1), never).await;
        assert_eq!(done.unwrap(), None);
    }
}
