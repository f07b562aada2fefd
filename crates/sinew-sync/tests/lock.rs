//! Locks within one process.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

use std::time::Duration;

use sinew_memory::Region;
use sinew_sync::{Backend, Condvar, Driver, Mutex};

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Waitv];
/// What only a hang takes longer than.
const HANG: Duration = Duration::from_secs(20);

/// A runtime of this backend; `None` where it is not to be had.
fn runtime(backend: Backend) -> Option<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let started = runtime.block_on(async { Driver::start(backend).map(drop) });
    match started {
        Ok(()) => Some(runtime),
        Err(error) => {
            eprintln!("skipped: {backend:?}: {error}");
            None
        }
    }
}

/// Two wait; one that was notified gives up while the lock is still held; the other gets the notification.
#[test]
fn a_notification_outlives_who_gives_up_taking_the_lock_again() {
    for runtime in BACKENDS.into_iter().filter_map(runtime) {
        runtime.block_on(async {
            let region = Region::anonymous(4096).unwrap();
            let mutex = Mutex::create(&region, 0, 0_u32).unwrap();
            let changed = Condvar::create(&region, 256).unwrap();
            let mut first = Box::pin(changed.wait(mutex.lock().await.unwrap()));
            let moment = Duration::from_millis(20);
            assert!(tokio::time::timeout(moment, &mut first).await.is_err());
            let mut second = Box::pin(changed.wait(mutex.lock().await.unwrap()));
            assert!(tokio::time::timeout(moment, &mut second).await.is_err());

            let held = mutex.lock().await.unwrap();
            changed.notify_one();
            assert!(tokio::time::timeout(moment, &mut first).await.is_err());
            drop(first);
            drop(held);
            let guard = tokio::time::timeout(HANG, second).await.expect("no hang");
            assert_eq!(*guard.unwrap(), 0);
        });
    }
}
