//! Standard output, written by a thread of its own.
//!
//! The thread is at most two batches behind: when nobody reads, receiving stops, and the sender with it.

use std::fs::File;
use std::future::pending;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use sinew::Error;
use sinew_core::thread;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::blocking::Blocking;
use crate::failure::Failure;
use crate::json;
use crate::peers::Received;

const BATCHES_BEHIND: usize = 2;

/// How a message is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Lines,
    Raw,
    Json,
}

#[derive(Debug)]
pub(crate) struct Output {
    batches: mpsc::Sender<Vec<Received>>,
    written: oneshot::Receiver<io::Result<()>>,
    /// Polled, and never written to, since a terminal or a pipe that others share stays as it is.
    /// A file cannot be polled, and has no reader that could go away.
    pipe: Option<pipe::Sender>,
    terminal: bool,
}

impl Output {
    pub(crate) fn start(format: Format) -> Result<Self, Failure> {
        // Not by way of `io::stdout`, which looks for the end of every line.
        let stdout = io::stdout();
        let clone = || stdout.as_fd().try_clone_to_owned();
        let file = File::from(clone().map_err(|error| Failure::io("fcntl", error))?);
        let (batches, queue) = mpsc::channel(BATCHES_BEHIND);
        let (tell, written) = oneshot::channel();
        thread::start("sinew-output", move || {
            let _nobody_waits = tell.send(write(file, queue, format));
        })?;
        Ok(Self {
            batches,
            written,
            pipe: clone()
                .ok()
                .and_then(|fd| pipe::Sender::from_owned_fd_unchecked(fd).ok()),
            terminal: stdout.is_terminal(),
        })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints messages. False if it cannot any more: [`finish`](Self::finish) says why.
    pub(crate) async fn print(&mut self, batch: Vec<Received>) -> bool {
        self.batches.send(batch).await.is_ok()
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn unread(&self) {
        match &self.pipe {
            Some(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
            _ => pending().await,
        }
    }

    /// Waits until everything is printed. That nobody read it is no failure.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        drop(self.batches);
        match self.written.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Error(
                Error::from_io("write", error).with_address("standard output"),
            )),
            _ => Ok(()),
        }
    }
}

fn write(file: File, mut queue: mpsc::Receiver<Vec<Received>>, format: Format) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(64 << 10, Blocking(file));
    while let Some(batch) = queue.blocking_recv() {
        for Received { message, origin } in batch {
            match format {
                Format::Raw => file.write_all(message.payload())?,
                Format::Lines => {
                    if let Some(origin) = origin {
                        write!(file, "{origin}: ")?;
                    }
                    file.write_all(message.payload())?;
                    file.write_all(b"\n")?;
                }
                Format::Json => json::write(&mut file, &message, origin.as_deref())?,
            }
        }
        if queue.is_empty() {
            file.flush()?;
        }
    }
    file.flush()
}
