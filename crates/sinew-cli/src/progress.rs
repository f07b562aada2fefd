//! How far a transfer has come, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// What takes less is not worth a line.
const DELAY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Progress {
    counts: Arc<Counts>,
    showing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// When the transfer began, once it was shown.
    shown_since: OnceLock<Instant>,
}

impl Progress {
    /// Shows something if that is `wanted` and standard error is a terminal.
    pub(crate) fn start(wanted: bool) -> Self {
        let counts = Arc::<Counts>::default();
        let showing =
            (wanted && io::stderr().is_terminal()).then(|| tokio::spawn(show(counts.clone())));
        Self { counts, showing }
    }

    /// Counts a message.
    pub(crate) fn add(&self, bytes: usize) {
        if self.showing.is_some() {
            self.counts.messages.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Ends the line, if there is one, with how much there was.
    pub(crate) fn finish(self) {
        let Some(showing) = self.showing else { return };
        showing.abort();
        if let Some(begun) = self.counts.shown_since.get() {
            let (messages, bytes) = self.counts.read();
            write(&line(messages, bytes, bytes, begun.elapsed()));
            write("\n");
        }
    }
}

impl Counts {
    fn read(&self) -> (u64, u64) {
        let messages = self.messages.load(Ordering::Relaxed);
        (messages, self.bytes.load(Ordering::Relaxed))
    }
}

async fn show(counts: Arc<Counts>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut begun = None;
    let mut last = (Instant::now(), 0);
    loop {
        ticks.tick().await;
        let (messages, bytes) = counts.read();
        let now = Instant::now();
        // Something new, so that what is merely waiting leaves the terminal alone.
        if messages > 0 && bytes > last.1 {
            let begun = *begun.get_or_insert(last.0);
            if begun.elapsed() >= DELAY {
                let _first = counts.shown_since.set(begun);
                write(&line(messages, bytes, bytes - last.1, now - last.0));
            }
        }
        last = (now, bytes);
    }
}

fn line(messages: u64, bytes: u64, lately: u64, within: Duration) -> String {
    let rate = megabytes(lately) / within.as_secs_f64().max(1e-9);
    let total = megabytes(bytes);
    // Back to the start of the line, and clear it.
    format!("\r\x1b[K{messages} messages, {total:.1} MB, {rate:.1} MB/s")
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn write(text: &str) {
    let _nobody_to_tell = io::stderr().write_all(text.as_bytes());
}
