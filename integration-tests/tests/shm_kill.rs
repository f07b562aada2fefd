//! A side is killed at a random moment: the survivor gets all that was published, then hears of the
//! crash, and nothing is left behind.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::StreamExt;
use sinew_integration_tests::{
    BELLS, Board, Payloads, Peer, Random, Resources, WAITS, Watchdog, bell_name, options, scaled,
    wait_name,
};
use sinew_shm::{Batch, Channel, Listener, Options, connect};

const PEER: &str = env!("CARGO_BIN_EXE_peer");
const LONGEST: usize = 300 << 10;
/// What the project promises; here a figure to print, because a machine can be busy.
const PROMISE: Duration = Duration::from_millis(100);
const SLACK: Duration = Duration::from_secs(1);
const HANG: Duration = Duration::from_secs(30);

/// Counters of what the process holds make sense for one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Its helper threads end soon, so that they do not count as left behind.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .thread_keep_alive(Duration::from_millis(100))
        .enable_all()
        .build()
        .unwrap()
}

/// How long it took to hear of a death.
#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn add(&mut self, latency: Duration) {
        // Of a thousand, one may meet a machine that is busy; not half of them.
        assert!(latency < HANG, "the crash was reported after {latency:?}");
        self.0.push(latency);
    }

    fn print(mut self, test: &str) {
        self.0.sort();
        let median = self.0[self.0.len() / 2];
        assert!(median < SLACK, "crashes are reported after {median:?}");
        let above = self.0.iter().filter(|latency| **latency > PROMISE).count();
        println!(
            "{test}: {} kills; from kill to error: median {:?}, max {:?}; {above} above {PROMISE:?}",
            self.0.len(),
            median,
            self.0[self.0.len() - 1],
        );
    }
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Kills the peer at a random moment after it has begun to send, or to receive.
fn kill_later(peer: Peer, board: &Board, random: &mut Random) -> std::thread::JoinHandle<Instant> {
    let board = Board::open(Path::new(board.path()));
    let least = random.below(40);
    let delay = Duration::from_micros(random.below(4000));
    let mut peer = peer;
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(5);
        while board.begun().max(board.done()) < least && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(50));
        }
        std::thread::sleep(delay);
        peer.kill()
    })
}

/// Receives until the end, in one of the ways there are. How many there were, and when the end came.
async fn receive_all(channel: &mut Channel, payloads: &Payloads, way: u64) -> (u64, Instant) {
    let mut next = 0;
    let mut check = |message: &[u8]| {
        payloads.check(next, message);
        next += 1;
    };
    let receiver = channel.receiver();
    let error = match way {
        0 => loop {
            match receiver.recv().await {
                Ok(message) => check(&message.expect("no clean end")),
                Err(error) => break error,
            }
        },
        1 => {
            let mut batch = Batch::new();
            loop {
                match receiver.recv_batch(&mut batch).await {
                    Ok(count) => {
                        assert_eq!(count, batch.len());
                        assert!(count > 0, "no clean end");
                        batch.iter().for_each(&mut check);
                    }
                    Err(error) => break error,
                }
            }
        }
        2 => {
            let mut buffer = Vec::new();
            loop {
                buffer.clear();
                match receiver.recv_into(&mut buffer).await {
                    Ok(len) => {
                        assert_eq!(len.expect("no clean end"), buffer.len());
                        check(&buffer);
                    }
                    Err(error) => break error,
                }
            }
        }
        3 => loop {
            match receiver.next().await.expect("no clean end") {
                Ok(message) => check(&message),
                Err(error) => break error,
            }
        },
        4 => loop {
            match receiver.blocking_recv() {
                Ok(message) => check(&message.expect("no clean end")),
                Err(error) => break error,
            }
        },
        _ => loop {
            match receiver.try_recv() {
                Ok(message) => check(&message),
                Err(sinew_core::TryRecvError::Empty) => tokio::task::yield_now().await,
                Err(sinew_core::TryRecvError::Failed(error)) => break error,
                Err(end) => panic!("no clean end: {end}"),
            }
        },
    };
    let heard = Instant::now();
    assert!(error.is_peer_crashed(), "{error}");
    (next, heard)
}

#[test]
fn a_killed_sender() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_killed_sender");
    let mut random = Random::from_env("a_killed_sender");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let board = Board::open(&directory.path().join("board"));
    let runtime = runtime();
    let mut listener = runtime.block_on(Listener::bind(&path)).unwrap();
    let mut latencies = Latencies::default();
    let (mut messages, mut unfinished) = (0, 0);
    let mut baseline = None;

    for round in 0..scaled(500).max(24) {
        board.reset();
        let seed = random.next();
        let payloads = Payloads::new(seed, LONGEST);
        let style = random.pick(&["send", "batch", "sink", "loan", "blocking"]);
        let (wait, bell) = (random.pick(&WAITS), random.pick(&BELLS));
        let peer = Peer::start(
            PEER,
            &[
                "produce",
                "connect",
                path.to_str().unwrap(),
                board.path(),
                &seed.to_string(),
                &LONGEST.to_string(),
                style,
                wait_name(wait),
                bell_name(bell),
            ],
        );
        let way = round % 6;
        runtime.block_on(async {
            let mut channel = listener.accept().await.unwrap();
            channel.receiver().set_wait(random.pick(&WAITS));
            let killer = kill_later(peer, &board, &mut random);
            let (received, heard) = receive_all(&mut channel, &payloads, way).await;
            let killed = killer.join().unwrap();
            latencies.add(heard.saturating_duration_since(killed));
            assert!(
                (board.done()..=board.begun()).contains(&received),
                "received {received}, published {} to {} ({style}, way {way})",
                board.done(),
                board.begun()
            );
            messages += received;
            unfinished += board.begun() - board.done();

            let again = channel.recv().await.unwrap_err();
            assert!(again.is_peer_crashed(), "{again}");
            let error = loop {
                if let Err(error) = channel.send("to nobody").await {
                    break error;
                }
            };
            assert!(error.is_peer_crashed(), "{error}");
        });
        match baseline {
            None => baseline = Some(Resources::now()),
            Some(baseline) => baseline.assert_back(),
        }
    }
    assert_eq!(files(directory.path()), ["board", "shm"]);
    assert_eq!(listener.rejected(), 0);
    drop(listener);
    assert_eq!(files(directory.path()), ["board"]);
    println!("{messages} messages received; {unfinished} were being sent");
    latencies.print("a_killed_sender");
}

#[test]
fn a_killed_receiver() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_killed_receiver");
    let mut random = Random::from_env("a_killed_receiver");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let board = Board::open(&directory.path().join("board"));
    let runtime = runtime();
    let mut listener = runtime.block_on(Listener::bind(&path)).unwrap();
    let mut latencies = Latencies::default();
    let mut baseline = None;

    for round in 0..scaled(250).max(12) {
        board.reset();
        let seed = random.next();
        let payloads = Payloads::new(seed, LONGEST);
        let (wait, bell) = (random.pick(&WAITS), random.pick(&BELLS));
        let peer = Peer::start(
            PEER,
            &[
                "consume",
                "connect",
                path.to_str().unwrap(),
                board.path(),
                &seed.to_string(),
                &LONGEST.to_string(),
                wait_name(wait),
                bell_name(bell),
            ],
        );
        runtime.block_on(async {
            let mut channel = listener.accept().await.unwrap();
            channel.sender().set_wait(random.pick(&WAITS));
            let killer = kill_later(peer, &board, &mut random);
            let mut sent = 0;
            let error = loop {
                let message = payloads.get(sent);
                let result = match round % 3 {
                    0 => channel.send(message).await,
                    1 => channel.blocking_send(message),
                    _ => match channel.try_send(message) {
                        Ok(()) => Ok(()),
                        Err(sinew_core::TrySendError::Full(same)) => {
                            assert_eq!(same, message);
                            tokio::task::yield_now().await;
                            continue;
                        }
                        Err(error) => Err(error.error().unwrap().clone()),
                    },
                };
                match result {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            let heard = Instant::now();
            assert!(error.is_peer_crashed(), "{error}");
            latencies.add(heard.saturating_duration_since(killer.join().unwrap()));
            assert!(board.done() <= sent, "{} of {sent} received", board.done());
            assert_eq!(board.wrongs(), 0, "the receiver got a wrong message");
            let error = channel.recv().await.unwrap_err();
            assert!(error.is_peer_crashed(), "{error}");
        });
        match baseline {
            None => baseline = Some(Resources::now()),
            Some(baseline) => baseline.assert_back(),
        }
    }
    assert_eq!(files(directory.path()), ["board", "shm"]);
    latencies.print("a_killed_receiver");
}

#[test]
fn a_killed_listener() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_killed_listener");
    let mut random = Random::from_env("a_killed_listener");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let board = Board::open(&directory.path().join("board"));
    let runtime = runtime();
    let mut latencies = Latencies::default();
    let mut baseline = None;

    for round in 0..scaled(250).max(12) {
        board.reset();
        let seed = random.next();
        let payloads = Payloads::new(seed, LONGEST);
        let (wait, bell) = (random.pick(&WAITS), random.pick(&BELLS));
        let peer = Peer::start(
            PEER,
            &[
                "produce",
                "listen",
                path.to_str().unwrap(),
                board.path(),
                &seed.to_string(),
                &LONGEST.to_string(),
                random.pick(&["send", "batch", "sink", "loan", "blocking"]),
                wait_name(wait),
                bell_name(bell),
            ],
        );
        runtime.block_on(async {
            // The stale path of the one before is reclaimed by this one.
            let options = options(random.pick(&WAITS), random.pick(&BELLS))
                .wait_for_listener(Duration::from_secs(20));
            let mut channel = options.connect(&path).await.unwrap();
            let killer = kill_later(peer, &board, &mut random);
            let (received, heard) = receive_all(&mut channel, &payloads, round % 6).await;
            latencies.add(heard.saturating_duration_since(killer.join().unwrap()));
            assert!((board.done()..=board.begun()).contains(&received));

            let refused = connect(&path).await.unwrap_err();
            assert_eq!(refused.errno_name(), Some("ECONNREFUSED"), "{refused}");
        });
        match baseline {
            None => baseline = Some(Resources::now()),
            Some(baseline) => baseline.assert_back(),
        }
    }
    let listener = runtime.block_on(Listener::bind(&path)).unwrap();
    assert_eq!(files(directory.path()), ["board", "shm"]);
    drop(listener);
    assert_eq!(files(directory.path()), ["board"]);
    latencies.print("a_killed_listener");
}

/// Killed at any moment of its life: before, in and after the handshake.
#[test]
fn killed_in_the_handshake() {
    let _alone = alone();
    let _watchdog = Watchdog::new("killed_in_the_handshake");
    let mut random = Random::from_env("killed_in_the_handshake");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let board = Board::open(&directory.path().join("board"));
    let runtime = runtime();
    let mut listener = runtime.block_on(Listener::bind(&path)).unwrap();
    let mut baseline = None;
    let (mut met, mut rejected) = (0, 0);

    for _ in 0..scaled(500).max(40) {
        let mut peer = Peer::start(PEER, &["echo", "connect", path.to_str().unwrap()]);
        let pid = peer.pid();
        runtime.block_on(async {
            let killer = tokio::task::spawn_blocking({
                let delay = Duration::from_micros(random.below(6000));
                move || {
                    std::thread::sleep(delay);
                    peer.kill();
                    peer.wait();
                }
            });
            // Others connect at once, whatever became of that one.
            let ours = async {
                killer.await.unwrap();
                connect(&path).await.unwrap()
            };
            let theirs = async {
                loop {
                    let mut channel = listener.accept().await.unwrap();
                    if channel.peer().pid == std::process::id() {
                        return channel;
                    }
                    assert_eq!(channel.peer().pid, pid);
                    met += 1;
                    let error = channel.recv().await.unwrap_err();
                    assert!(error.is_peer_crashed(), "{error}");
                }
            };
            let (mut ours, mut theirs) = tokio::join!(ours, theirs);
            ours.send("hello").await.unwrap();
            assert_eq!(theirs.recv().await.unwrap().unwrap(), "hello");
        });
        match baseline {
            None => baseline = Some(Resources::now()),
            Some(baseline) => baseline.assert_back(),
        }
        rejected = listener.rejected();
    }
    drop(listener);
    drop(board);
    assert_eq!(files(directory.path()), ["board"]);
    println!("killed_in_the_handshake: {met} after it, {rejected} in it, the others before it");
}

/// Killed while it binds: whatever it left, the next one takes the path, and nothing stays.
#[test]
fn killed_while_binding() {
    let _alone = alone();
    let _watchdog = Watchdog::new("killed_while_binding");
    let mut random = Random::from_env("killed_while_binding");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let runtime = runtime();
    for _ in 0..scaled(500).max(40) {
        let mut peer = Peer::start(PEER, &["bind", path.to_str().unwrap()]);
        std::thread::sleep(Duration::from_micros(500 + random.below(3000)));
        peer.kill();
        peer.wait();
        let listener = runtime.block_on(Options::new().bind(&path)).unwrap();
        assert!(path.exists());
        drop(listener);
    }
    assert_eq!(files(directory.path()), [""; 0]);
}

/// What the receiving half has learned of a death, the sending half learns too.
#[test]
fn a_death_that_recv_has_told_of_is_told_by_send_and_close() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_death_that_recv_has_told_of");
    runtime().block_on(async {
        for received_first in [false, true] {
            for bell in BELLS {
                let mut command = tokio::process::Command::new(PEER);
                command
                    .arg("inherited-busy")
                    .stdin(std::process::Stdio::piped());
                let options = Options::new().doorbell(bell);
                let (mut channel, mut child) = options.spawn(command).await.unwrap();
                channel.send("a long job").await.unwrap();
                child.kill().await.unwrap();
                if received_first {
                    let error = channel.recv().await.unwrap_err();
                    assert!(error.is_peer_crashed(), "{error}");
                }
                let mut sent = 0;
                let error = loop {
                    match channel.send([0; 64]).await {
                        Ok(()) => sent += 1,
                        Err(error) => break error,
                    }
                    tokio::task::yield_now().await;
                };
                assert!(error.is_peer_crashed(), "{error}");
                // The runtime looks at its descriptors after 61 polls at the latest.
                assert!(sent < 200, "{sent} after the death, told: {received_first}");
                let closed = channel.close().await;
                // Where nothing was sent after the death, everything may have been received.
                assert!(sent == 0 || closed.is_err_and(|error| error.is_peer_crashed()));
            }
        }
    });
}

/// `close` looks for itself.
#[test]
fn close_tells_of_messages_that_died_with_the_receiver() {
    let _alone = alone();
    let _watchdog = Watchdog::new("close_tells_of_messages");
    runtime().block_on(async {
        let mut command = tokio::process::Command::new(PEER);
        command
            .arg("inherited-busy")
            .stdin(std::process::Stdio::piped());
        let (mut channel, mut child) = Options::new().spawn(command).await.unwrap();
        channel.send("received").await.unwrap();
        channel.send("left behind").await.unwrap();
        child.start_kill().unwrap();
        // Without the runtime, which would hear of the socket as well; ready once all threads are
        // gone.
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap());
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid.unwrap()), ended).unwrap();
        let error = channel.close().await.unwrap_err();
        assert!(error.is_peer_crashed(), "{error}");
    });
}
