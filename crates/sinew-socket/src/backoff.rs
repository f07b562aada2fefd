//! Waiting before something is tried again, a little longer each time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sinew_core::Error;
use sinew_core::time::sleep_until;
use tokio::time::{Instant, Sleep};

#[derive(Debug)]
pub(crate) struct Backoff {
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    delay: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            sleep: None,
            waiting: false,
            delay: first,
            first,
            most,
        }
    }

    /// It failed: wait, for longer than the last time.
    pub(crate) fn failed(&mut self) -> Result<(), Error> {
        let end = Instant::now() + self.delay;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(end),
            None => self.sleep = Some(Box::pin(sleep_until(end)?)),
        }
        self.waiting = true;
        self.delay = (self.delay * 2).min(self.most);
        Ok(())
    }

    pub(crate) fn succeeded(&mut self) {
        self.waiting = false;
        self.delay = self.first;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Ready when the wait, if there is one, is over.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (true, Some(sleep)) = (self.waiting, &mut self.sleep) {
            ready!(sleep.as_mut().poll(cx));
            self.waiting = false;
        }
        Poll::Ready(())
    }
}
