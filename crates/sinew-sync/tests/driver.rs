//! Wake-ups that the kernel has delivered, and nobody has seen; what is looked after.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "these are tests"
)]

use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use sinew_memory::Region;
use sinew_sync::{Backend, Driver, Wait, Watch, Word, wake};
use tokio::runtime::Runtime;

/// What only a hang takes longer than.
const HANG: Duration = Duration::from_secs(20);

/// A runtime with a ring; `None` where that is not to be had.
fn with_ring() -> Option<(Runtime, Driver)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match runtime.block_on(async { Driver::start(Backend::Uring) }) {
        Ok(driver) => Some((runtime, driver)),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn begin(driver: &Driver, word: &Word) -> Pin<Box<Wait>> {
    let mut wait = Box::pin(driver.wait(word, 0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Future::poll(wait.as_mut(), &mut cx).is_pending());
    wait
}

/// As many of one runtime wait as asked for, and then one of another; one is woken, and `end` makes away with the
/// runtime's. The other gets the wake-up.
fn passed_on(waits: usize, end: impl FnOnce(Runtime, Vec<Pin<Box<Wait>>>)) {
    let (Some((runtime, driver)), Some((other, others))) = (with_ring(), with_ring()) else {
        return;
    };
    let region = Region::anonymous(4096).unwrap();
    let word = region.view::<AtomicU32>(0).unwrap();
    let waits = (0..waits).map(|_| begin(&driver, &word)).collect();
    let last = begin(&others, &word);
    wake(&word, 1);
    end(runtime, waits);
    let woken = other.block_on(async { tokio::time::timeout(HANG, last).await });
    woken.unwrap().unwrap();
}

#[test]
fn a_dropped_wait_passes_on_what_was_not_reaped() {
    passed_on(1, |runtime, waits| {
        drop(waits);
        // It lives on, without ever looking again.
        std::mem::forget(runtime);
    });
}

#[test]
fn a_runtime_that_ends_passes_on_what_was_not_reaped() {
    passed_on(1, |runtime, waits| {
        drop(runtime);
        drop(waits);
    });
}

#[test]
fn what_was_passed_on_within_a_ring_is_passed_on_again() {
    passed_on(2, |runtime, mut waits| {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
        drop(waits.remove(0));
        drop(waits);
        drop(runtime);
    });
}

/// A runtime that runs on a thread, with its driver.
fn running(builder: &mut tokio::runtime::Builder) -> Driver {
    let runtime = builder.build().unwrap();
    let driver = runtime.block_on(async { Driver::current().unwrap() });
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    driver
}

fn watched(driver: &Driver) -> (Watch, mpsc::Receiver<()>) {
    let (looked, looks) = mpsc::channel();
    let watch = driver.watch(move || {
        let _sent = looked.send(());
    });
    (watch, looks)
}

/// Also from outside of a runtime.
#[test]
fn a_runtime_with_a_ring_looks_after_things_without_timers() {
    if with_ring().is_none() {
        return;
    }
    let driver = running(tokio::runtime::Builder::new_current_thread().enable_io());
    let (_watch, looks) = watched(&driver);
    for _ in 0..3 {
        looks.recv_timeout(HANG).unwrap();
    }
}

#[test]
fn a_look_that_panics_keeps_none_of_the_others_from_being_looked_after() {
    let driver = running(tokio::runtime::Builder::new_current_thread().enable_all());
    let (looked, panicked) = mpsc::channel();
    let _panics = driver.watch(move || {
        let _sent = looked.send(());
        panic!("as it is meant to");
    });
    panicked.recv_timeout(HANG).unwrap();
    let (_watch, looks) = watched(&driver);
    for _ in 0..3 {
        looks.recv_timeout(HANG).unwrap();
    }
    assert!(panicked.try_recv().is_err(), "it is not called again");
}

#[test]
fn a_look_may_end_its_own_watch() {
    let driver = running(tokio::runtime::Builder::new_current_thread().enable_all());
    let own = Arc::new(Mutex::new(None));
    let (looked, ended) = mpsc::channel();
    let watch = driver.watch({
        let own = own.clone();
        move || {
            drop(own.lock().unwrap().take());
            let _sent = looked.send(());
        }
    });
    *own.lock().unwrap() = Some(watch);
    ended.recv_timeout(HANG).unwrap();
    let (_watch, looks) = watched(&driver);
    looks.recv_timeout(HANG).unwrap();
}

/// Of many waits of a thread one is for a word that is gone: that one fails.
#[test]
fn a_word_that_is_gone_fails_no_other_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let driver = match Driver::start(Backend::Waitv) {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let gone = Region::from_file(file.as_fd(), 4096, "truncated").unwrap();
        let gone = gone.view::<AtomicU32>(0).unwrap();
        let word = Region::anonymous(4096).unwrap();
        let word = word.view::<AtomicU32>(0).unwrap();
        let wait = begin(&driver, &word);
        file.set_len(0).unwrap();
        let failed = tokio::time::timeout(HANG, driver.wait(&gone, 0)).await;
        assert!(failed.unwrap().is_err());
        word.store(1, Ordering::Release);
        wake(&word, 1);
        let woken = tokio::time::timeout(HANG, wait).await;
        woken.unwrap().unwrap();
    });
}
