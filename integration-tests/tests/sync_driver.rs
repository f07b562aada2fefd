//! The futex driver, with both backends.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use sinew_integration_tests::skip;
use sinew_memory::Region;
use sinew_sync::{Backend, Driver, Word, wake};

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Waitv];
/// What only a hang takes longer than.
const HANG: Duration = Duration::from_secs(20);

fn words(count: usize) -> Vec<Word> {
    let region = Region::anonymous(count * 64).unwrap();
    (0..count)
        .map(|index| region.view::<AtomicU32>(index * 64).unwrap())
        .collect()
}

/// On a runtime of its own for each backend that is to be had here.
fn each<F: Future<Output = ()>>(test: impl Fn(Driver) -> F) {
    for backend in BACKENDS {
        for threads in [0, 2] {
            let mut builder = match threads {
                0 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.enable_all().build().unwrap();
            runtime.block_on(async {
                match Driver::start(backend) {
                    Ok(driver) => {
                        assert_eq!(driver.backend(), backend);
                        tokio::time::timeout(HANG, test(driver))
                            .await
                            .expect("no hang");
                    }
                    Err(error) => skip("sync_driver", &format!("{backend:?}: {error}")),
                }
            });
        }
    }
}

#[test]
fn a_change_wakes() {
    each(|driver| async move {
        let word = words(1).remove(0);
        for round in 0..100 {
            let other = word.clone();
            let thread = std::thread::spawn(move || {
                if round % 2 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
                other.store(round + 1, Ordering::Release);
                wake(&other, 1);
            });
            while word.load(Ordering::Acquire) == round {
                driver.wait(&word, round).await.unwrap();
            }
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_word_that_is_not_as_expected_is_not_waited_for() {
    each(|driver| async move {
        let word = words(1).remove(0);
        word.store(7, Ordering::Release);
        driver.wait(&word, 6).await.unwrap();
    });
}

/// Two wait; one that was woken is dropped without having seen it; the other gets the wake-up.
#[test]
fn a_wake_up_for_a_dropped_wait_is_passed_on() {
    each(|driver| async move {
        let word = words(1).remove(0);
        for _ in 0..50 {
            word.store(0, Ordering::Release);
            let mut first = Box::pin(driver.wait(&word, 0));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            let second = tokio::spawn({
                let (driver, word) = (driver.clone(), word.clone());
                async move { driver.wait(&word, 0).await.unwrap() }
            });
            while driver.stats().waits < 2 {
                tokio::task::yield_now().await;
            }
            // Threads may not have begun yet to wait for what they have been given.
            tokio::time::sleep(Duration::from_millis(2)).await;
            word.store(1, Ordering::Release);
            wake(&word, 1);
            drop(first);
            second.await.unwrap();
        }
    });
}

#[test]
fn dropped_waits_leave_nothing() {
    each(|driver| async move {
        let words = words(300);
        let region = words[0].region().clone();
        for _ in 0..3 {
            for word in &words {
                let mut wait = pin!(driver.wait(word, 0));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(wait.as_mut().poll(&mut cx).is_pending());
            }
        }
        while driver.stats().waits > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(region);
        assert!(driver.stats().rings <= 1);
    });
}

#[test]
fn many_words_take_one_ring_or_few_threads() {
    each(|driver| async move {
        let words = words(1000);
        let tasks: Vec<_> = words
            .iter()
            .map(|word| {
                let (driver, word) = (driver.clone(), word.clone());
                tokio::spawn(async move {
                    while word.load(Ordering::Acquire) == 0 {
                        driver.wait(&word, 0).await.unwrap();
                    }
                })
            })
            .collect();
        while driver.stats().waits < 1000 {
            tokio::task::yield_now().await;
        }
        let stats = driver.stats();
        match driver.backend() {
            Backend::Uring => assert_eq!((stats.rings, stats.threads), (1, 0)),
            _ => assert_eq!((stats.rings, stats.threads), (0, 1000_usize.div_ceil(127))),
        }
        for word in &words {
            word.store(1, Ordering::Release);
            wake(word, 1);
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// The thread that began a wait ends, by which the kernel cancels it: the waiter is told, and waits again.
#[test]
fn a_wait_outlives_the_thread_that_began_it() {
    each(|driver| async move {
        let word = words(1).remove(0);
        let handle = tokio::runtime::Handle::current();
        let mut wait = Box::pin({
            let (driver, word) = (driver.clone(), word.clone());
            async move {
                while word.load(Ordering::Acquire) == 0 {
                    driver.wait(&word, 0).await.unwrap();
                }
            }
        });
        wait = std::thread::spawn(move || {
            let _inside = handle.enter();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            wait
        })
        .join()
        .unwrap();
        let task = tokio::spawn(wait);
        tokio::time::sleep(Duration::from_millis(5)).await;
        word.store(1, Ordering::Release);
        wake(&word, 1);
        task.await.unwrap();
    });
}

#[test]
fn a_runtime_that_ends_ends_its_waits() {
    for backend in BACKENDS {
        let word = words(1).remove(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let wait = runtime.block_on(async {
            let Ok(driver) = Driver::start(backend) else {
                return None;
            };
            let mut wait = Box::pin(driver.wait(&word, 0));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut cx).is_pending());
            Some(wait)
        });
        let Some(wait) = wait else { continue };
        drop(runtime);
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let error = other
            .block_on(async { tokio::time::timeout(HANG, wait).await })
            .expect("no hang")
            .unwrap_err();
        assert!(error.is_closed(), "{error}");
        // Another runtime has a driver of its own.
        other.block_on(async {
            assert!(Driver::current().is_ok());
        });
    }
}

#[test]
fn the_backend_is_chosen_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert!(Driver::start(Backend::Waitv).is_ok());
        assert_eq!(Driver::current().unwrap().backend(), Backend::Waitv);
        let error = Driver::start(Backend::Uring).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
    });
    assert!(Driver::current().is_err(), "outside of a runtime");
}
