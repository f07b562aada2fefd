//! Waiting for room to send.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sinew_core::AsyncIo;
use tokio::io::Interest;
use tokio::task::coop;

use crate::backoff::Backoff;

/// Operations in a row that found room, after which room is not watched for any more.
const SMOOTH: u32 = 64;

/// Where a socket is watched for room, if it is.
///
/// A socket that is watched for room wakes its process each time that its peer has read something. In
/// a dialogue this is a wake-up too many for each message. So only a socket that was full is watched, by a
/// descriptor of its own, and not for ever.
#[derive(Debug)]
pub(crate) struct Outlet {
    watched: Option<AsyncIo<OwnedFd>>,
    /// The last operation had to wait.
    blocked: bool,
    smooth: u32,
    /// Instead, where there is no number for a further descriptor.
    backoff: Backoff,
}

impl Outlet {
    pub(crate) fn new() -> Self {
        Self {
            watched: None,
            blocked: false,
            smooth: 0,
            backoff: Backoff::new(Duration::from_micros(500), Duration::from_millis(8)),
        }
    }

    /// Performs `operation` on `socket` once there is room. It must not block.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &OwnedFd,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            if let Some(watched) = &self.watched {
                let result = watched.poll_write_with(cx, &mut operation);
                self.blocked |= result.is_pending();
                let result = ready!(result);
                self.smooth = if self.blocked { 0 } else { self.smooth + 1 };
                self.blocked = false;
                if self.smooth >= SMOOTH {
                    self.watched = None;
                }
                return Poll::Ready(result);
            }
            ready!(self.backoff.poll_over(cx));
            ready!(coop::poll_proceed(cx)).made_progress();
            match now(socket, &mut operation) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.backoff.succeeded();
                    return Poll::Ready(result);
                }
            }
            self.blocked = true;
            match socket.try_clone() {
                Ok(socket) => {
                    self.smooth = 0;
                    self.watched = Some(AsyncIo::with_interest(socket, Interest::WRITABLE)?);
                }
                Err(_) => self.backoff.failed()?,
            }
        }
    }
}

/// Performs `operation` now, or says [`WouldBlock`](io::ErrorKind::WouldBlock).
pub(crate) fn now<R>(
    socket: &OwnedFd,
    mut operation: impl FnMut(&OwnedFd) -> io::Result<R>,
) -> io::Result<R> {
    loop {
        match operation(socket) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
