use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Aborts the process, with a message, if it is not dropped in time.
#[derive(Debug)]
pub struct Watchdog {
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Ends a test that hangs. It is given three minutes, and twenty at the full counts.
    pub fn new(test: &'static str) -> Self {
        let minutes = if crate::is_full() { 20 } else { 3 };
        Self::within(test, Duration::from_secs(60 * minutes))
    }

    /// Ends a test that takes longer than `limit`.
    pub fn within(test: &'static str, limit: Duration) -> Self {
        let (alive, dropped) = channel();
        let watch = move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let line = format!("{test}: hangs: not done within {limit:?}\n");
                let _unseen = std::io::stderr().write_all(line.as_bytes());
                std::process::abort();
            }
        };
        Self {
            alive: Some(alive),
            thread: Some(std::thread::spawn(watch)),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
