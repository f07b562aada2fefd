//! What a program's Tokio runtime may lack.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Handle;

use crate::{Error, ErrorKind};

/// Calls a function of Tokio that panics where the runtime has no driver for it.
///
/// Tokio has no other way to find that out. Its message about it appears on standard error besides,
/// as that of any panic.
pub(crate) fn with_driver<T>(
    operation: &'static str,
    driver: &'static str,
    work: impl FnOnce() -> T,
) -> Result<T, Error> {
    if Handle::try_current().is_err() {
        return Err(Error::new(ErrorKind::InvalidInput, operation)
            .with_reason("there is no Tokio runtime here")
            .with_remedy("call it from a task, or enter a runtime first"));
    }
    // What `work` owns is dropped with it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        Error::new(ErrorKind::Unsupported, operation)
            .with_reason(format!("the Tokio runtime was built without {driver}"))
            .with_remedy("build it with `enable_all`")
    })
}
