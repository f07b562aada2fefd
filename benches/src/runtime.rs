//! Tokio runtimes for the cases that need one.

use std::future::Future;

use tokio::runtime::Builder;

use crate::Result;

/// Runs `future` on a runtime of this thread alone.
pub(crate) fn current_thread<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Runs `future` as a task on a runtime of two worker threads.
pub(crate) fn multi_thread<T, F>(future: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // Spawned, since what `block_on` runs itself stays outside of the workers.
    runtime.block_on(async { tokio::spawn(future).await? })
}
