//! Futures that are dropped after each number of polls: nothing is lost or duplicated.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sinew_integration_tests::{
    BELLS, Payloads, Random, Resources, WAITS, Watchdog, limited, options, scaled,
};
use sinew_memory::Frozen;
use sinew_shm::{Batch, Doorbell, Options, Receiver, Sender, Wait};
use tokio::runtime::Runtime;

const LONGEST: usize = 20_000;

/// How many futures were dropped before they were ready.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Awaits a future, or gives it up: after some polls, or after some time.
async fn perhaps<T>(random: &mut Random, future: impl Future<Output = T>) -> Option<T> {
    let future = pin!(future);
    let output = match random.below(4) {
        0 => {
            let limit = Duration::from_micros(random.below(200));
            tokio::select! {
                biased;
                output = future => Some(output),
                () = tokio::time::sleep(limit) => None,
            }
        }
        1 => {
            tokio::select! {
                output = future => Some(output),
                () = tokio::task::yield_now() => None,
            }
        }
        way => {
            let polls = u32::try_from(random.below(6)).unwrap();
            limited(future, polls, way == 2).await
        }
    };
    if output.is_none() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
    output
}

/// Sends `count` messages or a few more, giving many attempts up. How many there were.
async fn send_all(
    mut sender: Sender,
    payloads: Arc<Payloads>,
    count: u64,
    mut random: Random,
) -> u64 {
    let mut next = 0;
    while next < count {
        let message = payloads.get(next);
        match random.below(6) {
            0 | 1 => {
                if let Some(sent) = perhaps(&mut random, sender.send(message)).await {
                    sent.unwrap();
                    next += 1;
                }
            }
            2 => {
                let frozen = Frozen::copy_from_slice(message).unwrap();
                if let Some(sent) = perhaps(&mut random, sender.send_frozen(&frozen)).await {
                    sent.unwrap();
                    next += 1;
                }
            }
            3 => {
                let Some(loan) = perhaps(&mut random, sender.reserve(message.len())).await else {
                    continue;
                };
                let mut loan = loan.unwrap();
                loan.copy_from_slice(message);
                if random.below(3) == 0 {
                    drop(loan);
                } else if let Some(sent) = perhaps(&mut random, loan.commit(message.len())).await {
                    sent.unwrap();
                    next += 1;
                }
            }
            4 => {
                // What the sink still keeps would be counted, too.
                SinkExt::<Bytes>::flush(&mut sender).await.unwrap();
                // Those that were staged are sent with the next, and counted.
                let before = sender.stats().messages;
                let batch = (next..next + 8).map(|number| payloads.get(number));
                if let Some(sent) = perhaps(&mut random, sender.send_batch(batch)).await {
                    assert_eq!(sent.unwrap(), 8);
                }
                next += sender.stats().messages - before;
            }
            _ => {
                // What the sink was given is kept until it is sent.
                for _ in 0..3 {
                    let ready = futures::future::poll_fn(|cx| {
                        futures::Sink::<Bytes>::poll_ready(std::pin::Pin::new(&mut sender), cx)
                    });
                    if perhaps(&mut random, ready).await.is_some() {
                        let message = Bytes::copy_from_slice(payloads.get(next));
                        sender.start_send_unpin(message).unwrap();
                        next += 1;
                    }
                }
                // Given up, it is flushed by whatever comes next.
                if let Some(flushed) =
                    perhaps(&mut random, SinkExt::<Bytes>::flush(&mut sender)).await
                {
                    flushed.unwrap();
                }
            }
        }
    }
    loop {
        if let Some(closed) = perhaps(&mut random, sender.close()).await {
            closed.unwrap();
            break;
        }
    }
    next
}

/// Receives until the end, giving most attempts up. How many there were.
async fn receive_all(mut receiver: Receiver, payloads: Arc<Payloads>, mut random: Random) -> u64 {
    let mut next = 0;
    let mut batch = Batch::new();
    let mut buffer = Vec::new();
    loop {
        match random.below(4) {
            0 => match perhaps(&mut random, receiver.recv()).await {
                None => continue,
                Some(message) => match message.unwrap() {
                    None => return next,
                    Some(message) => payloads.check(next, &message),
                },
            },
            1 => match perhaps(&mut random, receiver.next()).await {
                None => continue,
                Some(None) => return next,
                Some(Some(message)) => payloads.check(next, &message.unwrap()),
            },
            2 => {
                let start = buffer.len();
                let received = perhaps(&mut random, receiver.recv_into(&mut buffer)).await;
                match received.transpose().unwrap() {
                    None => {
                        assert_eq!(buffer.len(), start);
                        continue;
                    }
                    Some(None) => return next,
                    Some(Some(len)) => {
                        assert_eq!(buffer.len(), start + len);
                        payloads.check(next, &buffer[start..]);
                        if buffer.len() > 100_000 {
                            buffer.clear();
                        }
                    }
                }
            }
            _ => {
                let count = perhaps(&mut random, receiver.recv_batch(&mut batch)).await;
                match count.transpose().unwrap() {
                    None => {}
                    Some(0) => return next,
                    Some(count) => {
                        for (index, message) in batch.iter().enumerate() {
                            payloads.check(next + index as u64, message);
                        }
                        next += count as u64;
                    }
                }
                continue;
            }
        }
        next += 1;
    }
}

fn runtimes() -> [(&'static str, Runtime); 2] {
    let mut one = tokio::runtime::Builder::new_current_thread();
    let mut many = tokio::runtime::Builder::new_multi_thread();
    [
        ("one", one.enable_all().build().unwrap()),
        ("many", many.worker_threads(2).enable_all().build().unwrap()),
    ]
}

#[test]
fn nothing_is_lost_or_duplicated() {
    let _watchdog = Watchdog::new("nothing_is_lost_or_duplicated");
    let mut random = Random::from_env("nothing_is_lost_or_duplicated");
    let count = scaled(5000).max(150);
    let mut total = 0;
    for (name, runtime) in runtimes() {
        for bell in BELLS {
            for wait in WAITS {
                let options = options(wait, bell).capacity(16 << 10);
                let (left, right) = options.pair().unwrap();
                // Both directions, each half in a task of its own.
                let mut tasks = Vec::new();
                let [seed, other] = [random.next(), random.next()];
                let ends = [(left, seed, other), (right, other, seed)];
                for (end, ours, theirs) in ends {
                    let (sender, receiver) = end.split();
                    let outgoing = Arc::new(Payloads::new(ours, LONGEST));
                    let incoming = Arc::new(Payloads::new(theirs, LONGEST));
                    let (a, b) = (Random::new(random.next()), Random::new(random.next()));
                    tasks.push(runtime.spawn(send_all(sender, outgoing, count, a)));
                    tasks.push(runtime.spawn(receive_all(receiver, incoming, b)));
                }
                runtime.block_on(async {
                    let all = futures::future::join_all(tasks);
                    let done = tokio::time::timeout(Duration::from_secs(100), all).await;
                    let Ok(done) = done else {
                        panic!("{name}, {bell:?}, {wait:?}: hangs");
                    };
                    let done: Vec<u64> = done.into_iter().map(Result::unwrap).collect();
                    let [sent, back, sent_back, received] = done[..] else {
                        unreachable!("four halves");
                    };
                    assert_eq!((sent, sent_back), (received, back));
                    assert!(sent >= count && sent_back >= count);
                    total += sent + sent_back;
                });
            }
        }
    }
    println!(
        "{total} messages, {} futures dropped",
        DROPPED.load(Ordering::Relaxed)
    );
    assert!(DROPPED.load(Ordering::Relaxed) > total / 10);
}

/// Each operation dropped after exactly k polls, with the peer acting only in between.
#[test]
fn after_each_poll() {
    let _watchdog = Watchdog::new("after_each_poll");
    for (_, runtime) in runtimes() {
        runtime.block_on(async {
            for bell in BELLS {
                for wait in WAITS {
                    for polls in 0..6 {
                        for busy in [false, true] {
                            after(wait, bell, polls, busy).await;
                        }
                    }
                }
            }
        });
    }
}

async fn after(wait: Wait, bell: Doorbell, polls: u32, busy: bool) {
    let options = options(wait, bell).capacity(4096).threshold(2000);
    let (left, right) = options.pair().unwrap();
    let (mut sender, unused) = left.split();
    let (_unused_too, mut receiver) = right.split();
    let busy = busy || wait == Wait::Spin;
    // A park is not woken, and so polled no second time.
    let polls = if busy { polls } else { polls.min(1) };
    let patience = Duration::from_secs(10);

    // An empty ring: nothing is received by what was dropped, and everything by what comes after.
    let mut batch = Batch::new();
    let mut buffer = Vec::new();
    for round in 0u64..4 {
        for _ in 0..3 {
            let none = match round {
                0 => limited(pin!(receiver.recv()), polls, busy).await.is_none(),
                1 => limited(pin!(receiver.recv_into(&mut buffer)), polls, busy)
                    .await
                    .is_none(),
                2 => limited(pin!(receiver.recv_batch(&mut batch)), polls, busy)
                    .await
                    .is_none(),
                _ => limited(pin!(receiver.next()), polls, busy).await.is_none(),
            };
            assert!(none && buffer.is_empty() && batch.is_empty());
        }
        sender.send(round.to_ne_bytes()).await.unwrap();
        let message = tokio::time::timeout(patience, receiver.recv()).await;
        assert_eq!(message.unwrap().unwrap().unwrap(), round.to_ne_bytes()[..]);
    }

    // A full ring: nothing of what was dropped is sent.
    while sender.try_send([1; 100]).is_ok() {}
    let full = sender.stats().messages;
    let frozen = Frozen::copy_from_slice(&[2; 50]).unwrap();
    let mut memories = 0;
    for _ in 0..3 {
        let some = limited(pin!(sender.send([2; 1000])), polls, busy).await;
        assert!(some.is_none());
        let some = limited(pin!(sender.reserve(1000)), polls, busy).await;
        assert!(some.is_none());
        let some = limited(pin!(sender.send_batch([[2; 1000]; 3])), polls, busy).await;
        assert!(some.is_none());
        // The frame that announces memory is small, and may still fit.
        if let Some(sent) = limited(pin!(sender.send_frozen(&frozen)), polls, busy).await {
            sent.unwrap();
            memories += 1;
        }
    }
    assert_eq!(sender.stats().messages, full + memories);
    // Four were received before.
    for number in 4..full + memories {
        let message = tokio::time::timeout(patience, receiver.recv()).await;
        let message = message.unwrap().unwrap().unwrap();
        if number < full {
            assert_eq!(message, [1; 100][..]);
        } else {
            assert_eq!(message, [2; 50][..]);
        }
    }
    assert!(receiver.try_recv().unwrap_err().is_empty());

    // What waits without being dropped is woken, whatever was dropped before.
    let mut waiting = Box::pin(receiver.recv());
    assert!(futures::poll!(&mut waiting).is_pending());
    sender.send("awake").await.unwrap();
    let message = tokio::time::timeout(patience, waiting).await;
    assert_eq!(message.unwrap().unwrap().unwrap(), "awake");
    drop(unused);
}

/// Every peer is accepted once, though most calls of `accept` are given up.
#[test]
fn accepts_that_are_given_up() {
    let _watchdog = Watchdog::new("accepts_that_are_given_up");
    let mut random = Random::from_env("accepts_that_are_given_up");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let clients = scaled(400).max(20);
    for (_, runtime) in runtimes() {
        runtime.block_on(async {
            let mut listener = Options::new().capacity(4096).bind(&path).await.unwrap();
            let tasks: Vec<_> = (0..clients)
                .map(|number| {
                    let path = path.clone();
                    tokio::spawn(async move {
                        // On a busy machine, a client may be turned away and connect anew.
                        let patience = Duration::from_secs(300);
                        let options = Options::new().capacity(4096).handshake_timeout(patience);
                        let mut channel = options.connect(path).await.unwrap();
                        channel.send(number.to_ne_bytes()).await.unwrap();
                        // The other end is dropped without having been closed.
                        let error = channel.recv().await.unwrap_err();
                        assert!(error.is_peer_crashed(), "{error}");
                    })
                })
                .collect();
            let mut seen = Vec::new();
            while seen.len() < tasks.len() {
                if let Some(channel) = perhaps(&mut random, listener.accept()).await {
                    let message = channel.unwrap().recv().await.unwrap().unwrap();
                    seen.push(u64::from_ne_bytes(message[..].try_into().unwrap()));
                }
            }
            for task in tasks {
                task.await.unwrap();
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..clients).collect::<Vec<_>>());
        });
    }
}

/// A connection that is given up leaves nothing behind, at either end, and does not disturb others.
#[test]
fn connects_that_are_given_up() {
    let _watchdog = Watchdog::new("connects_that_are_given_up");
    let mut random = Random::from_env("connects_that_are_given_up");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let options = Options::new().capacity(4096);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let mut baseline = None;
    let (mut met, mut given_up) = (0u32, 0u32);
    runtime.block_on(async {
        let mut listener = options.bind(&path).await.unwrap();
        for _ in 0..scaled(2000).max(100) {
            let connect = async {
                // Dropped within this block, so that the listener hears of it.
                match perhaps(&mut random, options.connect(&path)).await {
                    None => given_up += 1,
                    Some(channel) => {
                        let mut channel = channel.unwrap();
                        channel.send("met").await.unwrap();
                        met += 1;
                    }
                }
                let mut channel = options.connect(&path).await.unwrap();
                channel.send("last").await.unwrap();
            };
            let accept = async {
                loop {
                    let mut channel = listener.accept().await.unwrap();
                    match channel.recv().await {
                        Ok(Some(message)) if message == "last" => break,
                        Ok(message) => assert_eq!(message.unwrap(), "met"),
                        // Given up after its last packet.
                        Err(error) => assert!(error.is_peer_crashed(), "{error}"),
                    }
                }
            };
            tokio::join!(connect, accept);
            match baseline {
                None => baseline = Some(Resources::now()),
                Some(before) => before.assert_back(),
            }
        }
        println!(
            "{met} met, {given_up} given up, {} rejected",
            listener.rejected()
        );
        // How many of each is a matter of the machine.
        assert!(given_up > 0 && met > 0);
    });
}
