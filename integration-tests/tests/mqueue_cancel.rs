//! Futures that are dropped at random moments, with a second process at the other end: nothing is lost or
//! duplicated, and no thread or queue is left behind.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinew_integration_tests::{
    Peer, Random, Resources, Watchdog, assert_no_thread, limited, scaled,
};
use sinew_mqueue::{posix, sysv};

const PEER: &str = env!("CARGO_BIN_EXE_mqueue_peer");
const CANCELLATIONS: u64 = 100_000;

/// What a test leaves behind can be counted only while no other runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops the future at a random moment, unless it is ready before.
async fn perhaps<F: Future>(random: &mut Random, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match random.below(16) {
        0..5 => limited(future.as_mut(), 1, false).await,
        5..10 => {
            let polls = 1 + u32::try_from(random.below(4)).unwrap();
            limited(future.as_mut(), polls, true).await
        }
        10..15 => {
            // Once polled, the rest is the helper's, if there is one; then perhaps once more.
            if let Some(done) = limited(future.as_mut(), 1, false).await {
                return Some(done);
            }
            std::thread::sleep(Duration::from_micros(random.below(150)));
            limited(
                future.as_mut(),
                u32::try_from(random.below(2)).unwrap(),
                true,
            )
            .await
        }
        _ => {
            let moment = Duration::from_micros(random.below(1500));
            tokio::time::timeout(moment, future).await.ok()
        }
    }
}

/// Receives what the peer produces, and gives up every now and then.
async fn receives(
    mut peer: Peer,
    random: &mut Random,
    cancellations: u64,
    mut recv: impl AsyncFnMut() -> u64,
    in_order: impl Fn(u64) -> bool,
) {
    let mut seen = HashSet::new();
    let mut last = None;
    let mut note = |number: u64| {
        assert!(seen.insert(number), "{number} came twice");
        if in_order(number) {
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
        }
        seen.len() as u64
    };
    let mut cancelled = 0;
    let mut count = 0;
    while cancelled < cancellations {
        match perhaps(random, recv()).await {
            Some(number) => count = note(number),
            None => cancelled += 1,
        }
    }
    // The peer may wait for room; so what it sends is received until it is done.
    let told = tokio::task::spawn_blocking(move || peer.rest().trim().parse::<u64>().unwrap());
    let mut told = pin!(told);
    let sent = loop {
        tokio::select! {
            sent = &mut told => break sent.unwrap(),
            number = recv() => count = note(number),
        }
    };
    while count < sent {
        count = note(recv().await);
    }
    assert_eq!(count, sent, "received and sent");
    assert!(seen.iter().all(|number| *number < sent));
}

/// Sends numbers, giving up every now and then; what was given up is sent anew.
async fn sends(
    mut peer: Peer,
    random: &mut Random,
    cancellations: u64,
    mut send: impl AsyncFnMut(Vec<u8>),
) {
    let mut cancelled = 0;
    let mut number = 0_u64;
    while cancelled < cancellations {
        match perhaps(random, send(number.to_le_bytes().to_vec())).await {
            Some(()) => number += 1,
            None => cancelled += 1,
        }
    }
    send(b"end".to_vec()).await;
    let answer = tokio::task::spawn_blocking(move || peer.line())
        .await
        .unwrap();
    assert_eq!(answer, format!("ok {number}"));
}

/// What the process holds, with what Tokio makes once and keeps.
fn before() -> Resources {
    drop(runtime());
    Resources {
        // The harness starts threads as it likes; ours have a name.
        threads: usize::MAX,
        ..Resources::now()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn seed(random: &mut Random) -> String {
    random.next().to_string()
}

fn sysv_queue() -> sysv::Queue {
    let options = sysv::Options::new().remove_on_drop(true);
    options.open(sysv::Target::Private).unwrap()
}

fn posix_queue(what: &str) -> (String, posix::Queue) {
    let name = format!("/sinew-cancel-{what}-{}", std::process::id());
    let options = posix::Options::new()
        .exclusive(true)
        .max_messages(3)
        .message_size(64);
    let queue = options.unlink_on_drop(true).open(&name).unwrap();
    (name, queue)
}

#[test]
fn sysv_receives() {
    let _alone = alone();
    let _watchdog = Watchdog::new("sysv_receives");
    let before = before();
    let mut random = Random::from_env("sysv_receives");
    let id = runtime().block_on(async {
        let mut queue = sysv_queue();
        let id = queue.id();
        let peer = Peer::start(PEER, &["sysv-produce", &id.to_string(), &seed(&mut random)]);
        let recv = async || {
            let message = queue.recv().await.unwrap().unwrap();
            let number = u64::try_from(message.kind().unwrap()).unwrap() - 1;
            match message.payload().len() {
                0 => assert_eq!(number % 5, 4),
                _ => assert_eq!(message.payload()[..], number.to_le_bytes()),
            }
            number
        };
        // One without payload that comes while its receiver leaves goes to the end of the queue.
        let has_payload = |number| number % 5 != 4;
        receives(peer, &mut random, scaled(CANCELLATIONS), recv, has_payload).await;
        id
    });
    assert!(sysv::Options::new().open(sysv::Target::Id(id)).is_err());
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}

#[test]
fn sysv_sends_to_a_full_queue() {
    let _alone = alone();
    let _watchdog = Watchdog::new("sysv_sends_to_a_full_queue");
    let before = before();
    let mut random = Random::from_env("sysv_sends_to_a_full_queue");
    runtime().block_on(async {
        let mut queue = sysv_queue();
        queue.set_max_bytes(24).unwrap();
        let id = queue.id().to_string();
        let peer = Peer::start(PEER, &["sysv-consume", &id, &seed(&mut random)]);
        let send = async |payload: Vec<u8>| queue.send(payload).await.unwrap();
        sends(peer, &mut random, scaled(CANCELLATIONS), send).await;
    });
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}

#[test]
fn posix_receives() {
    let _alone = alone();
    let _watchdog = Watchdog::new("posix_receives");
    let before = before();
    let mut random = Random::from_env("posix_receives");
    runtime().block_on(async {
        let (name, mut queue) = posix_queue("receives");
        let peer = Peer::start(PEER, &["posix-produce", &name, &seed(&mut random)]);
        let recv = async || {
            let message = queue.recv().await.unwrap().unwrap();
            u64::from_le_bytes(message.payload()[..].try_into().unwrap())
        };
        receives(peer, &mut random, scaled(CANCELLATIONS), recv, |_| true).await;
    });
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}

#[test]
fn posix_sends_to_a_full_queue() {
    let _alone = alone();
    let _watchdog = Watchdog::new("posix_sends_to_a_full_queue");
    let before = before();
    let mut random = Random::from_env("posix_sends_to_a_full_queue");
    runtime().block_on(async {
        let (name, mut queue) = posix_queue("sends");
        let peer = Peer::start(PEER, &["posix-consume", &name, &seed(&mut random)]);
        let send = async |payload: Vec<u8>| queue.send(payload).await.unwrap();
        sends(peer, &mut random, scaled(CANCELLATIONS), send).await;
    });
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}

/// Two receivers share a helper, each in a runtime of its own, and both give up now and then.
#[test]
fn sysv_receivers_that_share_a_helper() {
    let _alone = alone();
    let _watchdog = Watchdog::new("sysv_receivers_that_share_a_helper");
    let before = before();
    let mut random = Random::from_env("sysv_receivers_that_share_a_helper");
    {
        let queue = sysv_queue();
        let id = queue.id().to_string();
        let mut peer = Peer::start(PEER, &["sysv-produce", &id, &seed(&mut random)]);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mut receiver = queue.select(sysv::Select::Any).unwrap();
                let mut random = Random::new(random.next());
                std::thread::spawn(move || {
                    let mut kinds = Vec::new();
                    runtime().block_on(async {
                        let mut cancelled = 0;
                        while cancelled < scaled(CANCELLATIONS / 4) {
                            match perhaps(&mut random, receiver.recv()).await {
                                Some(message) => {
                                    kinds.push(message.unwrap().unwrap().kind().unwrap())
                                }
                                None => cancelled += 1,
                            }
                        }
                    });
                    kinds
                })
            })
            .collect();
        let mut all: Vec<i64> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let mut rest = queue.select(sysv::Select::Any).unwrap();
        let told = std::thread::spawn(move || peer.rest().trim().parse::<usize>().unwrap());
        runtime().block_on(async {
            while !told.is_finished() {
                let patience = Duration::from_millis(5);
                if let Ok(message) = tokio::time::timeout(patience, rest.recv()).await {
                    all.push(message.unwrap().unwrap().kind().unwrap());
                }
            }
            let sent = told.join().unwrap();
            while all.len() < sent {
                all.push(rest.recv().await.unwrap().unwrap().kind().unwrap());
            }
            all.sort_unstable();
            assert_eq!(all.len(), sent);
            let mut expected = 1..;
            assert!(
                all.iter().all(|kind| Some(*kind) == expected.next()),
                "lost or duplicated"
            );
        });
    }
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}
