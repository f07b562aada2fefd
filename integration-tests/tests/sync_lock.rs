//! Locks between processes: counting, killing, giving up.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sinew_core::{Error, ErrorKind};
use sinew_integration_tests::{Peer, Random, Watchdog, scaled};
use sinew_memory::Region;
use sinew_sync::{Backend, Barrier, Condvar, Driver, Event, LockError, Mutex, RwLock, wake};

const PEER: &str = env!("CARGO_BIN_EXE_lock_peer");
const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Waitv];

/// A file with everything in it that the second process attaches to.
struct Table {
    path: String,
    region: Region,
    mutex: Mutex<[u64; 2]>,
    rwlock: RwLock<[u64; 2]>,
    barrier: Barrier,
    ping: Event,
    pong: Event,
    _directory: tempfile::TempDir,
}

impl Table {
    fn new(parties: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(8192).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let region = Region::from_file(file.as_fd(), 8192, &path).unwrap();
        Self {
            mutex: Mutex::create(&region, 0, [0; 2]).unwrap(),
            rwlock: RwLock::create(&region, 1024, [0; 2]).unwrap(),
            barrier: Barrier::create(&region, 3072, parties).unwrap(),
            ping: Event::create(&region, 4096).unwrap(),
            pong: Event::create(&region, 4160).unwrap(),
            path,
            region,
            _directory: directory,
        }
    }
}

fn runtime(backend: Backend) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { Driver::start(backend).map(drop) })
        .unwrap();
    runtime
}

/// Two processes, some tasks and a thread count together.
#[test]
fn everybody_counts() {
    let _watchdog = Watchdog::new("sync_lock::everybody_counts");
    for backend in BACKENDS {
        for kind in ["mutex", "write"] {
            let table = Table::new(3);
            let count = scaled(40_000);
            let arguments = ["count", &table.path, kind, &count.to_string()];
            let mut peers = [Peer::start(PEER, &arguments), Peer::start(PEER, &arguments)];
            let thread = std::thread::spawn({
                let (mutex, rwlock, kind) = (table.mutex.clone(), table.rwlock.clone(), kind);
                move || {
                    for _ in 0..count {
                        let mut guard = match kind {
                            "mutex" => mutex.blocking_lock(None).unwrap(),
                            _ => rwlock.blocking_write(None).unwrap(),
                        };
                        guard[0] += 1;
                        guard[1] += 1;
                    }
                }
            });
            runtime(backend).block_on(async {
                table.barrier.wait().await.unwrap();
                let tasks: Vec<_> = (0..4)
                    .map(|_| {
                        let (mutex, rwlock) = (table.mutex.clone(), table.rwlock.clone());
                        tokio::spawn(async move {
                            for _ in 0..count / 4 {
                                let mut guard = match kind {
                                    "mutex" => mutex.lock().await?,
                                    _ => {
                                        let read = rwlock.read().await?;
                                        assert_eq!(read[0], read[1]);
                                        drop(read);
                                        rwlock.write().await?
                                    }
                                };
                                guard[0] += 1;
                                guard[1] += 1;
                            }
                            Ok::<_, Error>(())
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap().unwrap();
                }
            });
            thread.join().unwrap();
            for peer in &mut peers {
                assert!(peer.wait().success());
            }
            let expected = 3 * count + count / 4 * 4;
            let found = match kind {
                "mutex" => *table.mutex.try_lock().unwrap().unwrap(),
                _ => *table.rwlock.try_write().unwrap().unwrap(),
            };
            assert_eq!(found, [expected; 2]);
        }
    }
}

/// The holder is killed at a random moment: a waiter, or whoever comes next, is told, has the data as the
/// holder left them, and the lock goes on.
#[test]
fn killed_holders() {
    let _watchdog = Watchdog::new("sync_lock::killed_holders");
    let mut random = Random::from_env("sync_lock::killed_holders");
    let mut times = Vec::new();
    for round in 0..scaled(1000) {
        let backend = BACKENDS[usize::from(round % 8 == 7)];
        let table = Table::new(2);
        let kind = ["mutex", "write"][usize::from(round % 2 == 1)];
        let mut peer = Peer::start(PEER, &["hold", &table.path, kind]);
        assert_eq!(peer.line(), "held");
        let waits = random.below(4);
        let delay = Duration::from_micros(random.below(2000));
        runtime(backend).block_on(async {
            let waiters: Vec<_> = (0..waits)
                .map(|_| {
                    let (mutex, rwlock) = (table.mutex.clone(), table.rwlock.clone());
                    tokio::spawn(async move {
                        let locked = match kind {
                            "mutex" => mutex.lock().await,
                            _ => rwlock.write().await,
                        };
                        let at = Instant::now();
                        match locked {
                            Ok(mut guard) => {
                                guard[0] += 1;
                                guard[1] += 1;
                                (at, false)
                            }
                            Err(LockError::OwnerDied(died)) => {
                                assert_eq!(*died, [1, 0], "as it was left");
                                let mut guard = died.recover();
                                *guard = [1, 1];
                                (at, true)
                            }
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            tokio::time::sleep(delay).await;
            let killed = peer.kill();
            let mut heirs = 0;
            for waiter in waiters {
                let (at, is_heir) = waiter.await.unwrap();
                if is_heir {
                    times.push(at.saturating_duration_since(killed));
                    heirs += 1;
                }
            }
            assert_eq!(heirs, u64::from(waits > 0), "one heir");
            // Whoever comes next.
            let locked = match kind {
                "mutex" => table.mutex.lock().await,
                _ => table.rwlock.write().await,
            };
            if waits == 0 {
                let died = locked.unwrap_err().into_owner_died().unwrap();
                assert_eq!(*died, [1, 0]);
                times.push(killed.elapsed());
                drop(died.recover());
            } else {
                assert_eq!(*locked.unwrap(), [1 + waits - 1; 2]);
            }
            let again = match kind {
                "mutex" => table.mutex.lock().await,
                _ => table.rwlock.write().await,
            };
            assert!(again.is_ok());
        });
    }
    times.sort_unstable();
    let late = times.iter().filter(|time| time.as_millis() > 100).count();
    println!(
        "from the kill to the heir: median {:?}, longest {:?}, {late} of {} above 100 ms",
        times[times.len() / 2],
        times[times.len() - 1],
        times.len(),
    );
    // How late the worst is, is the load's; that most are not found out by chance is the locks'.
    assert!(times[times.len() / 2] < Duration::from_secs(1));
}

/// Whoever does not recover leaves it to the next; whoever gives up tells all.
#[test]
fn unrecovered_and_poisoned() {
    let _watchdog = Watchdog::new("sync_lock::unrecovered_and_poisoned");
    let table = Table::new(2);
    let mut peer = Peer::start(PEER, &["hold", &table.path, "mutex"]);
    assert_eq!(peer.line(), "held");
    assert!(table.mutex.try_lock().unwrap().is_none(), "alive");
    peer.kill();
    peer.wait();
    runtime(Backend::Uring).block_on(async {
        for _ in 0..2 {
            assert!(table.mutex.lock().await.unwrap_err().is_owner_died());
        }
        let error = Error::from(table.mutex.lock().await.unwrap_err());
        assert!(error.is_peer_crashed(), "{error}");
        let died = table.mutex.lock().await.unwrap_err().into_owner_died();
        died.unwrap().poison();
        for _ in 0..2 {
            let error = table.mutex.lock().await.unwrap_err();
            assert!(matches!(error, LockError::Poisoned(_)), "{error}");
        }
        table.mutex.reset([5, 5]).await.unwrap();
        assert_eq!(*table.mutex.lock().await.unwrap(), [5, 5]);
    });
}

/// A reader that is killed makes room for a writer; a writer that is killed hands over to a reader.
#[test]
fn killed_readers_and_writers() {
    let _watchdog = Watchdog::new("sync_lock::killed_readers_and_writers");
    for backend in BACKENDS {
        let table = Table::new(2);
        runtime(backend).block_on(async {
            let mut peer = Peer::start(PEER, &["hold", &table.path, "read"]);
            assert_eq!(peer.line(), "held");
            assert!(table.rwlock.try_write().unwrap().is_none());
            assert!(table.rwlock.try_read().unwrap().is_some());
            let writer = tokio::spawn({
                let rwlock = table.rwlock.clone();
                async move { rwlock.write().await.map(drop).map_err(Error::from) }
            });
            // A writer comes first, once it is there.
            while table.rwlock.try_read().unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            peer.kill();
            writer.await.unwrap().unwrap();

            let mut peer = Peer::start(PEER, &["hold", &table.path, "write"]);
            assert_eq!(peer.line(), "held");
            let reader = tokio::spawn({
                let rwlock = table.rwlock.clone();
                async move {
                    let died = rwlock.read().await.unwrap_err().into_owner_died();
                    drop(died.unwrap().recover());
                }
            });
            tokio::time::sleep(Duration::from_millis(5)).await;
            peer.kill();
            reader.await.unwrap();
            assert_eq!(*table.rwlock.read().await.unwrap(), [1, 0]);
        });
    }
}

/// A thread that waits for a dead holder, and is woken again and again, finds out all the same.
#[test]
fn a_thread_that_is_kept_awake_finds_a_dead_holder() {
    let _watchdog = Watchdog::within(
        "sync_lock::a_thread_that_is_kept_awake_finds_a_dead_holder",
        Duration::from_secs(60),
    );
    let table = Table::new(2);
    let turn = table.region.view::<AtomicU32>(16).unwrap();
    let mut peer = Peer::start(PEER, &["hold", &table.path, "mutex"]);
    assert_eq!(peer.line(), "held");
    let waiter = std::thread::spawn({
        let mutex = table.mutex.clone();
        move || {
            let locked = mutex.blocking_lock(None);
            locked.unwrap_err().is_owner_died()
        }
    });
    peer.kill();
    while !waiter.is_finished() {
        wake(&turn, u32::MAX);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(waiter.join().unwrap());
}

/// A writer is killed while it waits for a reader to go: whoever reads next waits for that reader, too, and does not
/// keep itself awake with it.
#[test]
fn a_reader_rests_while_another_keeps_a_dead_writers_lock() {
    let _watchdog =
        Watchdog::new("sync_lock::a_reader_rests_while_another_keeps_a_dead_writers_lock");
    for backend in BACKENDS {
        let table = Table::new(2);
        // The word that is changed with each wake-up.
        let turn = table.region.view::<AtomicU32>(1024 + 16).unwrap();
        runtime(backend).block_on(async {
            let long = table.rwlock.read().await.unwrap();
            let mut peer = Peer::start(PEER, &["hold", &table.path, "write"]);
            while table.rwlock.try_read().unwrap().is_some() {
                tokio::task::yield_now().await;
            }
            peer.kill();
            let reader = tokio::spawn({
                let rwlock = table.rwlock.clone();
                async move {
                    let died = rwlock.read().await.unwrap_err().into_owner_died();
                    drop(died.unwrap().recover());
                }
            });
            let before = turn.load(Ordering::Acquire);
            tokio::time::sleep(Duration::from_millis(300)).await;
            let turns = turn.load(Ordering::Acquire).wrapping_sub(before);
            assert!(turns < 10, "{turns} wake-ups");
            assert!(!reader.is_finished(), "it has no reason to be");
            drop(long);
            reader.await.unwrap();
            assert_eq!(*table.rwlock.read().await.unwrap(), [0, 0]);
        });
    }
}

#[test]
fn events_between_processes() {
    let _watchdog = Watchdog::new("sync_lock::events_between_processes");
    for backend in BACKENDS {
        let table = Table::new(2);
        let count = scaled(20_000);
        let mut peer = Peer::start(PEER, &["ping", &table.path, &count.to_string()]);
        runtime(backend).block_on(async {
            for _ in 0..count {
                table.ping.set();
                table.pong.wait().await.unwrap();
                table.pong.clear();
            }
        });
        assert!(peer.wait().success());
    }
}

/// Locks that are given up at random moments: nobody is left waiting, the lock stays sound.
#[test]
fn storm_of_cancellations() {
    let _watchdog = Watchdog::new("sync_lock::storm_of_cancellations");
    for backend in BACKENDS {
        let table = Arc::new(Table::new(2));
        let goal = scaled(match backend {
            Backend::Uring => 400_000,
            _ => 40_000,
        });
        let (dropped, locked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        runtime(backend).block_on(async {
            let tasks: Vec<_> = (0..8)
                .map(|seed| {
                    let (table, dropped, locked) = (table.clone(), dropped.clone(), locked.clone());
                    tokio::spawn(async move {
                        let mut random = Random::new(seed);
                        while dropped.load(Ordering::Relaxed) < goal {
                            let mut lock = std::pin::pin!(table.mutex.lock());
                            let mut guard = None;
                            for _ in 0..=random.below(3) {
                                tokio::select! {
                                    biased;
                                    done = &mut lock => {
                                        guard = Some(done.unwrap());
                                        break;
                                    }
                                    () = tokio::task::yield_now() => {}
                                }
                            }
                            match guard {
                                Some(mut guard) => {
                                    tokio::task::yield_now().await;
                                    guard[0] += 1;
                                    locked.fetch_add(1, Ordering::Relaxed);
                                }
                                None => {
                                    dropped.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(
                table.mutex.lock().await.unwrap()[0],
                locked.load(Ordering::Relaxed)
            );
        });
    }
}

#[test]
fn condvar_and_timeouts() {
    let _watchdog = Watchdog::new("sync_lock::condvar_and_timeouts");
    for backend in BACKENDS {
        let region = Region::anonymous(8192).unwrap();
        let queue = Mutex::create(&region, 0, 0_u64).unwrap();
        let changed = Condvar::create(&region, 512).unwrap();
        let count = scaled(20_000);
        runtime(backend).block_on(async {
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    let (queue, changed) = (queue.clone(), changed.clone());
                    tokio::spawn(async move {
                        let mut taken = 0_u64;
                        loop {
                            let mut guard = queue.lock().await.unwrap();
                            while *guard == 0 {
                                guard = changed.wait(guard).await.unwrap();
                            }
                            if *guard == u64::MAX {
                                return taken;
                            }
                            *guard -= 1;
                            taken += 1;
                        }
                    })
                })
                .collect();
            for _ in 0..count {
                *queue.lock().await.unwrap() += 1;
                changed.notify_one();
            }
            while *queue.lock().await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
            *queue.lock().await.unwrap() = u64::MAX;
            changed.notify_all();
            let mut taken = 0;
            for consumer in consumers {
                taken += consumer.await.unwrap();
            }
            assert_eq!(taken, count);

            let held = queue.lock().await.unwrap();
            let error = queue.lock_timeout(Duration::from_millis(5)).await;
            let error = Error::from(error.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            let error = changed.wait_timeout(held, Duration::from_millis(5)).await;
            assert_eq!(Error::from(error.unwrap_err()).kind(), ErrorKind::TimedOut);
            assert!(queue.try_lock().unwrap().is_some(), "free again");
        });
        let _held = queue.blocking_lock(None).unwrap();
        let error = queue.blocking_lock(Some(Duration::from_millis(5)));
        assert_eq!(Error::from(error.unwrap_err()).kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn barrier_and_dropped_arrivals() {
    let _watchdog = Watchdog::new("sync_lock::barrier_and_dropped_arrivals");
    for backend in BACKENDS {
        let region = Region::anonymous(4096).unwrap();
        let barrier = Barrier::create(&region, 0, 3).unwrap();
        runtime(backend).block_on(async {
            for _ in 0..20 {
                let given_up = tokio::time::timeout(Duration::from_millis(1), barrier.wait());
                assert!(given_up.await.is_err());
            }
            for _ in 0..scaled(4000) {
                let (one, two, three) =
                    tokio::try_join!(barrier.wait(), barrier.wait(), barrier.wait()).unwrap();
                let leaders = [one, two, three].iter().filter(|r| r.is_leader()).count();
                assert_eq!(leaders, 1);
            }
        });
        assert!(Barrier::create(&region, 0, 0).is_err());
    }
}

#[test]
fn what_is_not_there_is_not_attached() {
    let region = Region::anonymous(4096).unwrap();
    let error = Mutex::<u64>::attach(&region, 0).unwrap_err().to_string();
    assert!(error.contains("create it first"), "{error}");
    Event::create(&region, 0).unwrap();
    let error = Mutex::<u64>::attach(&region, 0).unwrap_err().to_string();
    assert!(error.contains("no mutex"), "{error}");
    Mutex::create(&region, 0, 1_u32).unwrap();
    let error = Mutex::<u64>::attach(&region, 0).unwrap_err().to_string();
    assert!(error.contains("another size: 4, not 8"), "{error}");
    assert!(Mutex::create(&region, 4, 0_u64).is_err(), "not aligned");
    assert!(Mutex::create(&region, 4088, 0_u64).is_err(), "past the end");
}
