//! Locks within one process.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sinew_memory::Region;
use sinew_sync::{Backend, Barrier, Condvar, Driver, Event, Mutex};

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

/// As a process does that is killed before it wakes anybody.
#[test]
fn what_happened_without_a_wake_up_is_found() {
    for runtime in BACKENDS.into_iter().filter_map(runtime) {
        runtime.block_on(async {
            let region = Region::anonymous(4096).unwrap();
            let moment = Duration::from_millis(20);

            let event = Event::create(&region, 0).unwrap();
            let mut wait = Box::pin(event.wait());
            assert!(tokio::time::timeout(moment, &mut wait).await.is_err());
            set_silently(&region);
            tokio::time::timeout(HANG, wait).await.unwrap().unwrap();

            let barrier = Barrier::create(&region, 256, 2).unwrap();
            let mut wait = Box::pin(barrier.wait());
            assert!(tokio::time::timeout(moment, &mut wait).await.is_err());
            pass_silently(&region);
            let passed = tokio::time::timeout(HANG, wait).await.unwrap();
            assert!(!passed.unwrap().is_leader());
        });
    }
}

#[test]
fn threads_find_what_happened_without_a_wake_up() {
    let region = Region::anonymous(4096).unwrap();
    let moment = Duration::from_millis(50);

    let event = Event::create(&region, 0).unwrap();
    let (gone_on, goes_on) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        event.blocking_wait(None).unwrap();
        gone_on.send(()).unwrap();
    });
    std::thread::sleep(moment);
    set_silently(&region);
    goes_on.recv_timeout(HANG).unwrap();
    thread.join().unwrap();

    let barrier = Barrier::create(&region, 256, 2).unwrap();
    let (gone_on, goes_on) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        gone_on.send(barrier.blocking_wait()).unwrap();
    });
    let word = region.view::<AtomicU32>(256 + 8).unwrap();
    while word.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    std::thread::sleep(moment);
    pass_silently(&region);
    assert!(!goes_on.recv_timeout(HANG).unwrap().is_leader());
    thread.join().unwrap();
}

fn set_silently(region: &Region) {
    let word = region.view::<AtomicU32>(8).unwrap();
    word.store(0b11, Ordering::Release);
}

fn pass_silently(region: &Region) {
    let word = region.view::<AtomicU32>(256 + 8).unwrap();
    word.store(1 << 16, Ordering::Release);
}
