//! Pipes, FIFOs and processes that are opened and closed leave nothing behind.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use sinew_integration_tests::{Random, Resources, Watchdog, scaled};
use sinew_pipe::{Options, fifo, pair};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(test: &'static str, count: u64, mut use_it: impl AsyncFnMut(&mut Random)) {
    let _alone = alone();
    let _watchdog = Watchdog::new(test);
    let mut random = Random::from_env(test);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            use_it(&mut random).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = Resources::now();
        for _ in 0..count {
            use_it(&mut random).await;
        }
        before.assert_back();
    });
}

#[test]
fn pipes() {
    run("pipes", scaled(100_000), async |random| {
        match random.below(4) {
            0 => drop(pair().unwrap()),
            1 => {
                let (mut sender, mut receiver) = pair().unwrap();
                let (sent, received) = tokio::join!(sender.send("text"), receiver.recv());
                sent.unwrap();
                assert_eq!(received.unwrap().unwrap(), "text");
            }
            2 => {
                // Cut in the middle.
                let (mut sender, receiver) = pair().unwrap();
                assert!(
                    sender
                        .send(Bytes::from(vec![1; 100_000]))
                        .now_or_never()
                        .is_none()
                );
                drop(receiver);
            }
            _ => {
                let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
                assert!(receiver.recv().now_or_never().is_none());
                sender.send("text").await.unwrap();
            }
        }
    });
}

#[test]
fn fifos() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let options = fifo::Options::new().create(true).unlink(true);
    run("fifos", scaled(20_000), async |random| {
        match random.below(3) {
            0 => {
                let (sender, receiver) =
                    tokio::join!(options.sender(&path), options.receiver(&path));
                sender.unwrap().send("text").await.unwrap();
                assert_eq!(receiver.unwrap().recv().await.unwrap().unwrap(), "text");
            }
            1 => assert!(options.sender(&path).now_or_never().is_none()),
            _ => {
                let timeout = options
                    .clone()
                    .timeout(Duration::from_micros(random.below(200)));
                assert!(timeout.receiver(&path).await.unwrap_err().is_timed_out());
            }
        }
    });
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn processes() {
    run("processes", scaled(3_000), async |random| {
        let (mut sender, mut receiver) = Options::new().spawn(&mut Command::new("cat")).unwrap();
        let pid = sender.id();
        if random.below(2) == 0 {
            sender.send("text").await.unwrap();
            sender.close().await.unwrap();
            assert_eq!(receiver.recv().await.unwrap().unwrap(), "text");
            assert_eq!(receiver.recv().await.unwrap(), None);
        }
        drop((sender, receiver));
        let process = format!("/proc/{pid}");
        while std::path::Path::new(&process).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
