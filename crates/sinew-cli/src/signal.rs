use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::sys;

/// The signals that end the program in an orderly way: SIGHUP, SIGINT and SIGTERM.
///
/// One that was ignored when the program began stays ignored, as nohup(1) and shells that start a
/// program in the background expect.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: Vec<(u8, Signal)>,
    /// The default action of SIGXFSZ ends the process. Handled, it lets the write that is beyond
    /// the limit fail with `EFBIG` instead. A program that is started has the default again.
    _file_size: Option<Signal>,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut ending = Vec::new();
        for number in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            if let Some(signal) = listen(number)? {
                ending.push((u8::try_from(number).unwrap_or(0), signal));
            }
        }
        Ok(Self {
            ending,
            _file_size: listen(libc::SIGXFSZ)?,
        })
    }

    /// Does some work unless a signal comes first.
    pub(crate) async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            number = poll_fn(|cx| self.poll(cx)) => Err(Failure::Signal(number)),
            done = work => done,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<u8> {
        for (number, signal) in &mut self.ending {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*number);
            }
        }
        Poll::Pending
    }
}

/// Handles a signal, unless it is ignored.
fn listen(number: i32) -> Result<Option<Signal>, Failure> {
    if sys::is_ignored(number) {
        return Ok(None);
    }
    let signal = signal(SignalKind::from_raw(number));
    signal
        .map(Some)
        .map_err(|error| Failure::io("sigaction", error))
}
