use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sinew_core::Error;
use tokio::task::coop;

use super::op::Steps;
use super::set::Opened;
use super::sys;
use super::watch::Ticket;

/// Operations that wait until they can be done, all at once, which they are in the poll that says so.
#[derive(Debug)]
pub(super) struct Operation {
    opened: Arc<Opened>,
    steps: Steps,
    now: Steps,
    ticket: Option<Ticket>,
}

impl Operation {
    pub(super) fn new(opened: Arc<Opened>, steps: Steps) -> Self {
        Self {
            opened,
            now: steps.now(),
            steps,
            ticket: None,
        }
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let turn = ready!(coop::poll_proceed(cx));
        match attempt(&self.opened, &self.now) {
            Ok(true) => {}
            Ok(false) => match self.wait(cx) {
                Ok(()) => return Poll::Pending,
                Err(error) => {
                    self.ticket = None;
                    return Poll::Ready(Err(error));
                }
            },
            Err(error) => {
                self.ticket = None;
                return Poll::Ready(Err(error));
            }
        }
        turn.made_progress();
        self.ticket = None;
        Poll::Ready(Ok(()))
    }

    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if self.steps.as_slice().iter().all(|step| step.is_nowait()) {
            return Err(self.opened.refused());
        }
        if self.ticket.as_ref().is_some_and(Ticket::is_stale) {
            self.ticket = None;
        }
        let id = self.opened.id;
        let steps = &self.steps;
        let ticket = self
            .ticket
            .get_or_insert_with(|| Ticket::new(id, steps.probe()));
        match ticket.wait(cx.waker()) {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(self.opened.helper_failed(failure)),
            Err(error) => Err(self.opened.no_helper(error)),
        }
    }
}

impl Future for Operation {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_done(cx)
    }
}

/// Does it if it can be done now. The steps are such that do not wait.
pub(super) fn attempt(opened: &Opened, now: &Steps) -> Result<bool, Error> {
    match sys::operate(opened.id, now.as_slice()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(opened.operation_failed(error, now.as_slice())),
    }
}

/// Blocks the thread until it is done.
pub(super) fn block(
    opened: &Opened,
    steps: &Steps,
    timeout: Option<Duration>,
) -> Result<(), Error> {
    let steps = steps.as_slice();
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let done = match deadline {
            None => sys::operate(opened.id, steps),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                sys::operate_within(opened.id, steps, left)
            }
        };
        let error: io::Error = match done {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        return Err(match (error.raw_os_error(), timeout, deadline) {
            (Some(libc::EINTR), ..) => continue,
            (Some(libc::EAGAIN), Some(timeout), Some(deadline)) if Instant::now() >= deadline => {
                opened.timed_out(timeout)
            }
            (Some(libc::EAGAIN), ..) => opened.refused(),
            _ => opened.operation_failed(error, steps),
        });
    }
}
