//! Channels that are opened and closed leave nothing behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sinew_integration_tests::{
    BELLS, Hello, Random, RawEnd, Resources, WAITS, Watchdog, Wire, limited, options, scaled,
};
use sinew_shm::{Channel, Options};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Uses a channel in one of the ways in which it takes up something of its own.
async fn use_it(random: &mut Random, left: &mut Channel, right: &mut Channel) {
    match random.below(5) {
        0 => {}
        1 => left.try_send("unread").unwrap(),
        2 => {
            // Registers with the runtime.
            let waiting = right.recv();
            let (sent, received) = tokio::join!(left.send("ping"), waiting);
            sent.unwrap();
            assert_eq!(received.unwrap().unwrap(), "ping");
        }
        3 => {
            // Memory on the socket, received and not.
            left.send(vec![1; 100_000]).await.unwrap();
            left.send(vec![2; 100_000]).await.unwrap();
            assert_eq!(right.recv().await.unwrap().unwrap().len(), 100_000);
        }
        _ => {
            // A thread's epoll instance.
            let timeout = Duration::from_micros(1);
            let receiver = right.receiver();
            assert!(receiver.blocking_recv_timeout(timeout).is_err());
            left.blocking_send("read").unwrap();
            assert_eq!(right.blocking_recv().unwrap().unwrap(), "read");
        }
    }
}

#[test]
fn pairs() {
    let _alone = alone();
    let _watchdog = Watchdog::new("pairs");
    let mut random = Random::from_env("pairs");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let count = scaled(50_000);
    let mut baseline = None;
    runtime.block_on(async {
        for round in 0..count {
            let options = options(random.pick(&WAITS), random.pick(&BELLS)).capacity(4096);
            let (mut left, mut right) = options.pair().unwrap();
            use_it(&mut random, &mut left, &mut right).await;
            if random.below(2) == 0 {
                drop((left, right));
            } else {
                // The halves go one by one.
                let (sender, receiver) = left.split();
                drop(sender);
                drop(right);
                drop(receiver);
            }
            if round % 512 == 100 {
                match baseline {
                    None => baseline = Some((Resources::now(), Resources::resident())),
                    Some((baseline, _)) => baseline.assert_back(),
                }
            }
        }
    });
    let (baseline, resident) = baseline.unwrap();
    baseline.assert_back();
    let grown = Resources::resident().saturating_sub(resident);
    println!("{count} pairs, {} KiB more", grown >> 10);
    assert!(grown < 16 << 20, "{} MiB more", grown >> 20);
}

#[test]
fn connections() {
    let _alone = alone();
    let _watchdog = Watchdog::new("connections");
    let mut random = Random::from_env("connections");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let count = scaled(50_000);
    let mut baseline = None;
    let (mut aborted, mut listeners) = (0, 0);
    runtime.block_on(async {
        let mut listener = Options::new().capacity(4096).bind(&path).await.unwrap();
        for round in 0..count {
            let options = options(random.pick(&WAITS), random.pick(&BELLS)).capacity(4096);
            match random.below(8) {
                // A handshake that ends in the middle: by the one side, …
                0 => {
                    let wire = Wire::connect(&path);
                    wire.send(&Hello::default().encode(), &[]).unwrap();
                    if random.below(2) == 0 {
                        let polls = u32::try_from(random.below(4)).unwrap();
                        let accept = std::pin::pin!(listener.accept());
                        assert!(limited(accept, polls, true).await.is_none());
                    }
                    aborted += 1;
                }
                // … by its being given up, …
                1 => {
                    let polls = u32::try_from(random.below(4)).unwrap();
                    let connect = std::pin::pin!(options.connect(&path));
                    assert!(limited(connect, polls, true).await.is_none());
                    aborted += 1;
                }
                // … or by the other.
                2 => {
                    let connect = options.connect(&path);
                    drop(std::mem::replace(&mut listener, {
                        std::fs::remove_file(&path).unwrap();
                        Options::new().capacity(4096).bind(&path).await.unwrap()
                    }));
                    drop(connect);
                    listeners += 1;
                }
                _ => {
                    let meet = async {
                        loop {
                            let channel = listener.accept().await.unwrap();
                            // Others gave up after their last packet.
                            if channel.peer().pid == std::process::id() {
                                break channel;
                            }
                        }
                    };
                    let (left, right) = tokio::join!(options.connect(&path), meet);
                    let (mut left, mut right) = (left.unwrap(), right);
                    use_it(&mut random, &mut left, &mut right).await;
                }
            }
            if round % 512 == 100 {
                settle(&mut listener).await;
                match baseline {
                    None => baseline = Some((Resources::now(), Resources::resident())),
                    Some((baseline, _)) => baseline.assert_back(),
                }
            }
        }
        settle(&mut listener).await;
    });
    let (baseline, resident) = baseline.unwrap();
    let grown = Resources::resident().saturating_sub(resident);
    println!(
        "{count} connections, of which {aborted} were aborted, {listeners} listeners; {} KiB more",
        grown >> 10
    );
    drop(runtime);
    baseline.assert_back();
    assert!(grown < 16 << 20, "{} MiB more", grown >> 20);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Has the listener take in, and turn away, whoever gave up.
async fn settle(listener: &mut sinew_shm::Listener) {
    let limit = Duration::from_millis(20);
    while tokio::time::timeout(limit, listener.accept()).await.is_ok() {}
}

/// Peers that hang up in the middle of large messages, with memory under way that nobody took.
#[test]
fn memory_under_way() {
    let _alone = alone();
    let _watchdog = Watchdog::new("memory_under_way");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_millis(100))
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    runtime.block_on(async {
        let mut listener = Options::new().bind(&path).await.unwrap();
        let mut baseline = None;
        for _ in 0..scaled(2000).max(20) {
            let path = path.clone();
            let stop = AtomicBool::new(false);
            let raw = tokio::task::spawn_blocking(move || RawEnd::connect(&path, 4096));
            let mut channel = listener.accept().await.unwrap();
            let raw = raw.await.unwrap();
            while channel.try_send([0; 100_000]).is_ok() {}
            stop.store(true, Ordering::Relaxed);
            drop(raw);
            drop(channel);
            match baseline {
                None => baseline = Some(Resources::now()),
                Some(before) => tokio::task::block_in_place(|| before.assert_back()),
            }
        }
    });
}
