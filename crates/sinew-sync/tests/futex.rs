//! The raw operations, within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sinew_memory::Region;
use sinew_sync::{blocking_wait, wake};

/// As many as there are, also where that is said with the largest number.
#[test]
fn all_are_woken() {
    let word = Region::anonymous(4096)
        .unwrap()
        .view::<AtomicU32>(0)
        .unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let word = word.clone();
            std::thread::spawn(move || {
                while word.load(Ordering::Acquire) == 0 {
                    blocking_wait(&word, 0, Some(Duration::from_secs(60))).unwrap();
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    word.store(1, Ordering::Release);
    let deadline = Instant::now() + Duration::from_secs(10);
    let first = wake(&word, u32::MAX);
    let mut woken = first;
    while threads.iter().any(|thread| !thread.is_finished()) {
        assert!(Instant::now() < deadline, "{woken} woken");
        // Those that were not asleep yet.
        woken += wake(&word, 1);
        std::thread::yield_now();
    }
    assert!(first > 1, "{first} woken at once");
}
