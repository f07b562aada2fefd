//! Opening an end, and waiting for the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sinew_core::time;
use tokio::sync::oneshot;

use crate::sys;

/// The least that threads get.
const STACK: usize = 64 << 10;

/// Opens an end of a FIFO, once somebody has, or is about to, open the other.
///
/// Nothing but open(2) itself waits for that. It can be neither polled nor watched: a process that is
/// blocked in opening its end shows in no event until ours is open. So a thread of its own makes the
/// call, and a signal ends it if it is not wanted any more.
///
/// `None` when the time is up.
pub(super) async fn wait(
    fifo: OwnedFd,
    access: OFlags,
    timeout: Option<Duration>,
) -> io::Result<Option<OwnedFd>> {
    if access == OFlags::WRONLY {
        match sys::reopen(fifo.as_fd(), access | OFlags::NONBLOCK) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
            opened => return opened.map(Some),
        }
    }
    if !sys::can_interrupt() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "all real-time signals are in use, and one is needed to give up waiting",
        ));
    }
    let (answer, mut opened) = oneshot::channel();
    let unwanted = Arc::new(AtomicBool::new(false));
    let mut opening = Opening {
        thread: None,
        unwanted: Arc::clone(&unwanted),
    };
    let thread = Builder::new()
        .name("sinew-fifo".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            sys::allow_interrupt();
            // Once in any case: whom a deadline of no time at all finds there is served.
            loop {
                match sys::reopen(fifo.as_fd(), access) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        if unwanted.load(Ordering::Acquire) {
                            return;
                        }
                    }
                    opened => {
                        let _unwanted = answer.send(opened);
                        return;
                    }
                }
            }
        })?;
    opening.thread = Some(thread);
    let answered = match timeout {
        None => (&mut opened).await,
        Some(timeout) => match time::timeout(timeout, &mut opened).await? {
            Some(answered) => answered,
            None => {
                opening.give_up();
                // Nobody is to meet the end that is given up, and who has met it is served.
                opened.await
            }
        },
    };
    opening.thread = None;
    match answered {
        Ok(opened) => opened.map(Some),
        Err(_) => Ok(None),
    }
}

/// A thread in open(2), which is ended on drop.
struct Opening {
    thread: Option<JoinHandle<()>>,
    unwanted: Arc<AtomicBool>,
}

impl Opening {
    fn give_up(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.unwanted.store(true, Ordering::Release);
        if thread.is_finished() {
            return;
        }
        let thread = Arc::new(Mutex::new(Some(thread)));
        let end = {
            let thread = Arc::clone(&thread);
            move || {
                let taken = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = taken {
                    sys::interrupt(thread);
                }
            }
        };
        // The signal may have to be repeated, for which nobody's worker thread waits.
        let ending = Builder::new().stack_size(STACK).spawn(end.clone());
        if ending.is_err() {
            end();
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.give_up();
    }
}
