//! A thousand channels that nobody uses take no CPU, and wake nobody.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sinew_integration_tests::{BELLS, Resources, Watchdog, options, skip};
use sinew_shm::{Channel, Wait};

const CHANNELS: usize = 1000;
/// A pair takes six descriptors.
const DESCRIPTORS: u64 = 6 * CHANNELS as u64 + 200;
const IDLE: Duration = Duration::from_secs(2);

async fn ping(left: &mut Channel, right: &mut Channel) {
    left.send("ping").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap(), "ping");
}

#[test]
fn a_thousand_idle_channels() {
    let _watchdog = Watchdog::new("a_thousand_idle_channels");
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < DESCRIPTORS) {
        skip(
            "a_thousand_idle_channels",
            "the hard limit of open files is below 6200",
        );
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let runtimes = [
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build(),
    ];
    for runtime in runtimes {
        runtime.unwrap().block_on(async {
            let mut senders = Vec::new();
            let mut tasks = Vec::new();
            for number in 0..CHANNELS {
                // One that never parks is never idle.
                let wait = [Wait::Adaptive, Wait::Park][number % 2];
                let options = options(wait, BELLS[number / 2 % 2]).capacity(4096);
                let (mut left, mut right) = options.pair().unwrap();
                if number % 3 == 0 {
                    // Used before, in both directions.
                    ping(&mut left, &mut right).await;
                    ping(&mut right, &mut left).await;
                }
                let full = number % 5 == 0;
                if full {
                    while left.try_send([0; 500]).is_ok() {}
                }
                let (mut sender, receiver) = left.split();
                let (back, mut incoming) = right.split();
                if full {
                    // A sender that waits for room, while nobody receives.
                    tasks.push(tokio::spawn(async move {
                        sender.send("room").await.unwrap();
                        drop(receiver);
                    }));
                    senders.push((None, Some((incoming, back))));
                } else {
                    tasks.push(tokio::spawn(async move {
                        let message = incoming.recv().await.unwrap();
                        assert_eq!(message.unwrap(), "awake");
                        drop((back, receiver));
                    }));
                    senders.push((Some(sender), None));
                }
            }
            // Until all have given up looking, and sleep.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (cpu, switches) = (Resources::cpu(), Resources::switches());
            tokio::time::sleep(IDLE).await;
            let cpu = Resources::cpu() - cpu;
            let switches = Resources::switches() - switches;
            println!("{CHANNELS} channels idle for {IDLE:?}: {cpu:?} of CPU, {switches} wake-ups");
            // A single channel that woke once in 10 ms would be 200.
            assert!(switches < 50, "{switches} wake-ups");
            assert!(cpu < IDLE / 50, "{cpu:?}");

            for (sender, receiver) in &mut senders {
                if let Some(sender) = sender {
                    sender.send("awake").await.unwrap();
                }
                if let Some((receiver, _)) = receiver {
                    while receiver.recv().await.unwrap().unwrap() != "room" {}
                }
            }
            for task in tasks {
                let done = tokio::time::timeout(Duration::from_secs(20), task).await;
                done.expect("all work still").unwrap();
            }
        });
    }
}

/// The threads that wait in a blocking call sleep, too.
#[test]
fn idle_threads() {
    let _watchdog = Watchdog::new("idle_threads");
    for bell in BELLS {
        let (mut left, mut right) = options(Wait::Adaptive, bell).pair().unwrap();
        let thread = std::thread::spawn(move || {
            let timeout = Duration::from_secs(60);
            right.receiver().blocking_recv_timeout(timeout).unwrap()
        });
        std::thread::sleep(Duration::from_millis(100));
        left.blocking_send("awake").unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), "awake");
    }
}
