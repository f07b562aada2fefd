//! A busy channel lets others have their turn.

use std::time::{Duration, Instant};

use sinew_integration_tests::{BELLS, WAITS, Watchdog, is_full, options};
use sinew_shm::{Batch, Wait};

const TICK: Duration = Duration::from_millis(1);

fn span() -> Duration {
    Duration::from_millis(if is_full() { 1000 } else { 200 })
}

/// Ticks. Tokio's timer has a granularity of 1 ms, so that one takes two of them.
fn least() -> usize {
    usize::try_from(span().as_millis() / TICK.as_millis() / 2 / 10).unwrap()
}

/// A timer on the worker that a busy channel keeps busy: how late it was, and how often it ran.
async fn ticks() -> Vec<Duration> {
    let begun = Instant::now();
    let mut late = Vec::new();
    // A machine that is busy elsewhere is given the time that it needs.
    while begun.elapsed() < span() || late.len() < least() && begun.elapsed() < 20 * span() {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due.into()).await;
        late.push(due.elapsed());
    }
    late
}

fn report(what: &str, mut late: Vec<Duration>) {
    late.sort();
    let least = least();
    assert!(
        late.len() >= least,
        "{what}: {} of {least} ticks",
        late.len()
    );
    let (median, max) = (late[late.len() / 2], late[late.len() - 1]);
    println!(
        "{what}: {} ticks, late by {median:?}, {max:?} at most",
        late.len()
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Both ends, and the timer, on one worker: a ping-pong, a flood, batches.
#[test]
fn on_one_worker() {
    let _watchdog = Watchdog::new("on_one_worker");
    for wait in WAITS {
        for bell in BELLS {
            for way in ["ping-pong", "flood", "batches"] {
                runtime().block_on(async {
                    let (mut left, mut right) = options(wait, bell).pair().unwrap();
                    let sends = tokio::spawn(async move {
                        loop {
                            match way {
                                "ping-pong" => {
                                    left.send("ping").await.unwrap();
                                    left.recv().await.unwrap().unwrap();
                                }
                                "flood" => left.send([1; 100]).await.unwrap(),
                                _ => {
                                    let batch = [[1; 100]; 50];
                                    left.sender().send_batch(batch).await.unwrap();
                                }
                            }
                        }
                    });
                    let receives = tokio::spawn(async move {
                        let mut batch = Batch::new();
                        loop {
                            match way {
                                "ping-pong" => {
                                    right.recv().await.unwrap().unwrap();
                                    right.send("pong").await.unwrap();
                                }
                                "flood" => {
                                    right.recv().await.unwrap().unwrap();
                                }
                                _ => {
                                    right.receiver().recv_batch(&mut batch).await.unwrap();
                                }
                            }
                        }
                    });
                    let late = ticks().await;
                    assert!(!sends.is_finished() && !receives.is_finished());
                    report(&format!("{wait:?}, {bell:?}, {way}"), late);
                });
            }
        }
    }
}

/// The peer is a thread that sends as fast as it can; the timer shares its worker with the receiver
/// alone, which always finds something.
#[test]
fn beside_a_flood() {
    let _watchdog = Watchdog::new("beside_a_flood");
    for wait in WAITS {
        let (mut left, mut right) = options(wait, BELLS[0]).pair().unwrap();
        let flood = std::thread::spawn(move || while left.blocking_send([1; 64]).is_ok() {});
        runtime().block_on(async {
            let mut received = 0u64;
            let receive = async {
                while right.recv().await.unwrap().is_some() {
                    received += 1;
                }
            };
            let late = tokio::select! {
                () = receive => panic!("it does not end"),
                late = ticks() => late,
            };
            report(&format!("{wait:?}, {received} received"), late);
        });
        drop(right);
        flood.join().unwrap();
    }
}

/// A receiver that waits actively, for nothing.
#[test]
fn beside_an_idle_spinner() {
    let _watchdog = Watchdog::new("beside_an_idle_spinner");
    for bell in BELLS {
        runtime().block_on(async {
            let (_left, mut right) = options(Wait::Spin, bell).pair().unwrap();
            let spins = tokio::spawn(async move { right.recv().await });
            let late = ticks().await;
            assert!(!spins.is_finished());
            report(&format!("idle spinner, {bell:?}"), late);
        });
    }
}
