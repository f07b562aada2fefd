//! Which runtime has which driver.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sinew_core::{Error, ErrorKind};
use tokio::runtime::{Handle, Id};

use super::pool::Pool;
use super::uring::Uring;
use super::{Backend, Driver, Inner, Waits, unsupported};
use crate::lock::Sentinel;

type Known = (Weak<Inner>, Weak<Sentinel>);

static DRIVERS: Mutex<Option<HashMap<Id, Known>>> = Mutex::new(None);

pub(super) fn find(backend: Backend) -> Result<Driver, Error> {
    let handle = Handle::try_current().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "futex_wait")
            .with_reason("there is no Tokio runtime here")
            .with_remedy("call it from a task, or use the blocking variant")
    })?;
    let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let drivers = drivers.get_or_insert_default();
    let known = drivers.get(&handle.id());
    if let Some(driver) = known.and_then(|(inner, sentinel)| {
        Some(Driver {
            inner: inner.upgrade()?,
            sentinel: sentinel.upgrade()?,
        })
    }) {
        if backend != Backend::Auto && backend != driver.backend() {
            return Err(Error::new(ErrorKind::InvalidInput, "futex_wait")
                .with_reason(format!(
                    "this runtime waits with {:?} already",
                    driver.backend()
                ))
                .with_remedy("choose the backend before anything waits"));
        }
        return Ok(driver);
    }
    drivers.retain(|_, (inner, _)| inner.strong_count() > 0);
    let driver = start(&handle, backend)?;
    let known = (
        Arc::downgrade(&driver.inner),
        Arc::downgrade(&driver.sentinel),
    );
    drivers.insert(handle.id(), known);
    Ok(driver)
}

fn start(handle: &Handle, backend: Backend) -> Result<Driver, Error> {
    if backend != Backend::Waitv {
        match Uring::new() {
            Ok((uring, fd)) => {
                let driver = Driver::new(Waits::Uring(Box::new(uring)), handle);
                let keeper = Keeper(driver.clone());
                handle.spawn(async move {
                    let Waits::Uring(uring) = &keeper.0.inner.waits else {
                        return;
                    };
                    uring.run(fd).await;
                });
                return Ok(driver);
            }
            Err(error) if backend == Backend::Uring => return Err(error),
            Err(error) => tracing::debug!(%error, "no io_uring for futexes, threads instead"),
        }
    }
    let driver = Driver::new(Waits::Pool(Pool::new().map_err(unsupported)?), handle);
    let keeper = Keeper(driver.clone());
    handle.spawn(async move {
        let _until_the_runtime_ends = keeper;
        std::future::pending::<()>().await;
    });
    Ok(driver)
}

/// Held by a task that ends only with the runtime.
struct Keeper(Driver);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
