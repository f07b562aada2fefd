//! Threads for what would block a worker of the runtime.
//!
//! Not Tokio's [`spawn_blocking`](tokio::task::spawn_blocking), which panics where no thread can be
//! started.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::thread::{Builder, JoinHandle};

use rustix::io::Errno;
use tokio::sync::{Semaphore, oneshot};

use crate::Error;

/// The most threads of [`run`] in the process.
const MOST: usize = 64;
static RUNNING: Semaphore = Semaphore::const_new(MOST);

/// Starts a thread with this name, of which Linux keeps fifteen bytes.
///
/// # Errors
///
/// `EAGAIN` at the limit of processes of the user (RLIMIT_NPROC of getrlimit(2)) or of the control
/// group (`pids.max`), and for want of memory.
pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(failed)
}

/// Does something that blocks in a thread of its own. Of these, 64 run at once; more wait for their
/// turn.
///
/// # Errors
///
/// As for [`start`].
///
/// # Cancel safety
///
/// What was begun goes on to its end when the future is dropped; its result is lost.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    // The semaphore is never closed.
    let permit = RUNNING.acquire().await.ok();
    let (sender, result) = oneshot::channel();
    let thread = start(name, move || {
        let _permit = permit;
        let _nobody_waits = sender.send(work());
    })?;
    match result.await {
        Ok(result) => Ok(result),
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err(failed(io::ErrorKind::Interrupted.into())),
        },
    }
}

/// Polls something of Tokio's that uses its blocking threads, such as [`tokio::fs::File`].
///
/// # Errors
///
/// Those of `poll`; `EAGAIN` where no thread can be started. In some cases Tokio finds that by a
/// panic, whose message appears on standard error besides.
pub fn poll_pooled<T>(poll: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    let no_thread = || {
        let error = io::Error::from_raw_os_error(Errno::AGAIN.raw_os_error());
        Poll::Ready(Err(failed(error).into()))
    };
    // After the error, nothing more is read or written.
    match catch_unwind(AssertUnwindSafe(poll)) {
        // In the others, Tokio says "background task failed".
        Ok(Poll::Ready(Err(error))) if error.kind() == io::ErrorKind::Other => no_thread(),
        Ok(polled) => polled,
        Err(_) => no_thread(),
    }
}

fn failed(error: io::Error) -> Error {
    Error::from_io("pthread_create", error)
        .with_reason("no thread can be started")
        .with_remedy("raise RLIMIT_NPROC (ulimit -u), or the container's limit of processes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Barrier};

    #[tokio::test]
    async fn a_result_comes_back() {
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(
            super::run("sinew-test", name).await.unwrap().unwrap(),
            "sinew-test"
        );
    }
    #[tokio::test]
    async fn so_many_run_at_once_and_no_more() {
        let barrier = Arc::new(Barrier::new(super::MOST));
        let runs = (0..super::MOST * 2).map(|_| {
            let barrier = barrier.clone();
            super::run("sinew-test", move || barrier.wait().is_leader())
        });
        let leaders = futures::future::try_join_all(runs).await.unwrap();
        assert_eq!(leaders.iter().filter(|leads| **leads).count(), 2);
    }
}
