//! What a channel promises to peers that keep the rules.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use sinew_core::{ErrorKind, TryRecvError, TrySendError};
use sinew_integration_tests::{BELLS, Payloads, Random, WAITS, Watchdog, one_way, options, scaled};
use sinew_memory::Frozen;
use sinew_shm::{Batch, Channel, Doorbell, Options, Receiver, Sender, Wait};

const HANG: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(HANG, future).await;
    done.expect("hangs")
}

#[tokio::test]
async fn every_size_around_the_borders() {
    let _watchdog = Watchdog::new("every_size_around_the_borders");
    for (capacity, threshold) in [
        (4096, None),
        (4096, Some(0)),
        (4096, Some(1)),
        (4096, Some(4088)),
        (4096, Some(2000)),
        (16 << 10, None),
        (64 << 10, Some(65_528)),
    ] {
        let mut options = Options::new().capacity(capacity);
        if let Some(threshold) = threshold {
            options = options.threshold(threshold);
        }
        let (mut sender, mut receiver, _rest) = one_way(&options);
        let capacity = usize::try_from(capacity).unwrap();
        let threshold = threshold.unwrap_or(capacity / 4);
        let mut sizes: Vec<usize> = (0..40).collect();
        for border in [
            threshold,
            capacity / 2,
            capacity - 8,
            capacity,
            2 * capacity,
        ] {
            sizes.extend(border.saturating_sub(17)..border + 18);
        }
        let mut memories = 0;
        for (number, size) in sizes.iter().copied().enumerate() {
            let message = vec![u8::try_from(number % 251).unwrap(); size];
            within(sender.send(&message)).await.unwrap();
            memories += u64::from(size > threshold);
            let received = within(receiver.recv()).await.unwrap().unwrap();
            assert!(received == message, "{size} bytes, threshold {threshold}");
        }
        let (sent, received) = (sender.stats(), receiver.stats());
        assert_eq!(sent.messages, sizes.len() as u64);
        assert_eq!(received.messages, sizes.len() as u64);
        assert_eq!(sent.bytes, sizes.iter().sum::<usize>() as u64);
        assert_eq!(received.bytes, sent.bytes);
        assert_eq!((sent.memories, received.memories), (memories, memories));
    }
}

#[tokio::test]
async fn try_send_hands_back_and_send_waits() {
    let _watchdog = Watchdog::new("try_send_hands_back_and_send_waits");
    for bell in BELLS {
        for wait in WAITS {
            let options = options(wait, bell).capacity(4096).threshold(4088);
            let (mut sender, mut receiver, _rest) = one_way(&options);
            let mut sent = 0u64;
            let back = loop {
                match sender.try_send(sent.to_ne_bytes().to_vec()) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert!(back.is_full());
            assert_eq!(back.into_inner(), sent.to_ne_bytes());
            assert_eq!(sent, 4096 / 16);
            let mut waiting = Box::pin(sender.send(sent.to_ne_bytes()));
            assert!(futures::poll!(&mut waiting).is_pending());
            assert_eq!(
                within(receiver.recv()).await.unwrap().unwrap(),
                0u64.to_ne_bytes()[..]
            );
            within(waiting).await.unwrap();
            for number in 1..=sent {
                let message = within(receiver.recv()).await.unwrap().unwrap();
                assert_eq!(message, number.to_ne_bytes()[..]);
            }
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));

            // A frame as large as the ring waits until it is empty.
            sender.try_send("small").unwrap();
            let mut waiting = Box::pin(sender.send([9; 4088]));
            assert!(futures::poll!(&mut waiting).is_pending());
            assert_eq!(within(receiver.recv()).await.unwrap().unwrap(), "small");
            within(waiting).await.unwrap();
            assert_eq!(
                within(receiver.recv()).await.unwrap().unwrap(),
                [9; 4088][..]
            );

            // Eight messages in segments, or sixteen in sealed memory, and no more.
            let most = match bell {
                Doorbell::Auto => 8,
                _ => 16u8,
            };
            for number in 0..most {
                assert!(sender.try_send([number; 5000]).is_ok(), "{number}");
            }
            assert!(sender.try_send([most; 5000]).unwrap_err().is_full());
            let mut waiting = Box::pin(sender.send([most; 5000]));
            assert!(futures::poll!(&mut waiting).is_pending());
            for number in 0..=most {
                if number == 1 {
                    within(&mut waiting).await.unwrap();
                }
                let message = within(receiver.recv()).await.unwrap().unwrap();
                assert!(message == [number; 5000][..], "{number}");
            }
        }
    }
}

/// Each way of sending against each way of receiving, with every pair of waits.
#[test]
fn every_way_faces_every_way() {
    every_way(Random::from_env("every_way_faces_every_way"));
}

/// With this one, a sender often goes to sleep while less than the room is made that it needs.
#[test]
fn every_way_faces_every_way_as_once_before() {
    every_way(Random::new(685_647_012));
}

fn every_way(mut random: Random) {
    let _watchdog = Watchdog::new("every_way_faces_every_way");
    let count = scaled(2000).max(60);
    for (workers, sends, receives) in [(0, 7, 6), (2, 7, 6)] {
        let runtime = match workers {
            0 => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build(),
            workers => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_all()
                .build(),
        }
        .unwrap();
        for (send_wait, recv_wait) in WAITS.into_iter().flat_map(|a| WAITS.map(|b| (a, b))) {
            let bell = random.pick(&BELLS);
            let (mut sender, mut receiver, rest) =
                one_way(&Options::new().capacity(16 << 10).doorbell(bell));
            sender.set_wait(send_wait);
            receiver.set_wait(recv_wait);
            let seed = random.next();
            let longest = 20_000;
            runtime.block_on(async move {
                let sent = tokio::spawn(async move {
                    let payloads = Payloads::new(seed, longest);
                    let mut random = Random::new(seed);
                    let mut next = 0;
                    while next < count {
                        next = send_some(&mut sender, &payloads, next, random.below(sends)).await;
                    }
                    sender.close().await.unwrap();
                    next
                });
                let received = tokio::spawn(async move {
                    let payloads = Payloads::new(seed, longest);
                    let mut random = Random::new(seed + 1);
                    let mut next = 0;
                    while let Some(new) =
                        recv_some(&mut receiver, &payloads, next, random.below(receives)).await
                    {
                        next = new;
                    }
                    next
                });
                let (sent, received) = within(futures::future::join(sent, received)).await;
                assert_eq!(sent.unwrap(), received.unwrap());
                drop(rest);
            });
        }
    }
}

/// Sends the next one or few, in one of seven ways. The number after them.
async fn send_some(sender: &mut Sender, payloads: &Payloads, next: u64, way: u64) -> u64 {
    let message = payloads.get(next);
    match way {
        0 => sender.send(message).await.unwrap(),
        1 => match sender.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(same)) => {
                assert_eq!(same.len(), message.len());
                tokio::task::yield_now().await;
                return next;
            }
            Err(error) => panic!("{error}"),
        },
        2 => {
            let mut loan = sender.reserve(message.len() + 33).await.unwrap();
            loan[..message.len()].copy_from_slice(message);
            loan.commit(message.len()).await.unwrap();
        }
        3 => {
            let frozen = Frozen::copy_from_slice(message).unwrap();
            sender.send_frozen(&frozen).await.unwrap();
        }
        4 => {
            let batch = (next..next + 9).map(|number| payloads.get(number));
            assert_eq!(sender.send_batch(batch).await.unwrap(), 9);
            return next + 9;
        }
        5 => {
            for number in next..next + 5 {
                let message = Bytes::copy_from_slice(payloads.get(number));
                sender.feed(message).await.unwrap();
            }
            SinkExt::<Bytes>::flush(sender).await.unwrap();
            return next + 5;
        }
        _ => {
            // A loan that is dropped sends nothing.
            let mut loan = sender.reserve(message.len()).await.unwrap();
            loan.fill(0xee);
            drop(loan);
            let stream = futures::stream::iter(next..next + 3)
                .map(|number| Ok(Bytes::copy_from_slice(payloads.get(number))));
            sender.send_all(&mut stream.boxed()).await.unwrap();
            return next + 3;
        }
    }
    next + 1
}

/// Receives one or more, in one of six ways. The number after them; `None` at the end.
async fn recv_some(
    receiver: &mut Receiver,
    payloads: &Payloads,
    next: u64,
    way: u64,
) -> Option<u64> {
    match way {
        0 => payloads.check(next, &receiver.recv().await.unwrap()?),
        1 => match receiver.try_recv() {
            Ok(message) => payloads.check(next, &message),
            Err(TryRecvError::Empty) => {
                tokio::task::yield_now().await;
                return Some(next);
            }
            Err(TryRecvError::Closed) => return None,
            Err(error) => panic!("{error}"),
        },
        2 => {
            let mut buffer = b"before".to_vec();
            let len = receiver.recv_into(&mut buffer).await.unwrap()?;
            assert_eq!(buffer.len(), 6 + len);
            payloads.check(next, &buffer[6..]);
        }
        3 | 4 => {
            let mut batch = Batch::new();
            let count = receiver.recv_batch(&mut batch).await.unwrap();
            assert_eq!((count, count == 0), (batch.len(), batch.is_empty()));
            let mut number = next;
            for message in &batch {
                payloads.check(number, message);
                number += 1;
            }
            assert_eq!(number, next + count as u64);
            return (count > 0).then_some(number);
        }
        _ => payloads.check(next, &receiver.next().await?.unwrap()),
    }
    Some(next + 1)
}

/// Threads and tasks face each other, also as the two halves of one end.
#[test]
fn blocking_faces_async() {
    let _watchdog = Watchdog::new("blocking_faces_async");
    let mut random = Random::from_env("blocking_faces_async");
    let count = scaled(20_000).max(500);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for bell in BELLS {
        for blocking in 0..16u8 {
            let wait = [Wait::Adaptive, Wait::Park][usize::from(blocking % 2)];
            let wait = if blocking == 15 { Wait::Spin } else { wait };
            let options = options(wait, bell).capacity(16 << 10);
            let (left, right) = options.pair().unwrap();
            let seed = random.next();
            let halves = [left, right].map(Channel::split);
            let mut done = Vec::new();
            for (end, (mut sender, mut receiver)) in halves.into_iter().enumerate() {
                let seed_of = move |end: usize| seed + end as u64;
                let payloads = Payloads::new(seed_of(end), 20_000);
                if blocking & (1 << (2 * end)) == 0 {
                    done.push(runtime.spawn(async move {
                        for number in 0..count {
                            sender.send(payloads.get(number)).await.unwrap();
                        }
                        sender.close().await.unwrap();
                    }));
                } else {
                    done.push(runtime.spawn_blocking(move || {
                        for number in 0..count {
                            sender.blocking_send(payloads.get(number)).unwrap();
                        }
                        sender.blocking_close().unwrap();
                    }));
                }
                let payloads = Payloads::new(seed_of(1 - end), 20_000);
                if blocking & (2 << (2 * end)) == 0 {
                    done.push(runtime.spawn(async move {
                        for number in 0..count {
                            payloads.check(number, &receiver.recv().await.unwrap().unwrap());
                        }
                        assert_eq!(receiver.recv().await.unwrap(), None);
                    }));
                } else {
                    done.push(runtime.spawn_blocking(move || {
                        let mut number = 0;
                        let mut batch = Batch::new();
                        while number < count {
                            match number % 3 {
                                0 => {
                                    receiver.blocking_recv_batch(&mut batch).unwrap();
                                    for message in &batch {
                                        payloads.check(number, message);
                                        number += 1;
                                    }
                                }
                                1 => {
                                    let timeout = Duration::from_secs(20);
                                    let message = receiver.blocking_recv_timeout(timeout);
                                    payloads.check(number, &message.unwrap().unwrap());
                                    number += 1;
                                }
                                _ => {
                                    let message = receiver.blocking_recv().unwrap().unwrap();
                                    payloads.check(number, &message);
                                    number += 1;
                                }
                            }
                        }
                        assert_eq!(receiver.blocking_recv().unwrap(), None);
                    }));
                }
            }
            runtime.block_on(async {
                for task in done {
                    tokio::time::timeout(Duration::from_secs(60), task)
                        .await
                        .unwrap_or_else(|_| panic!("{bell:?}, blocking {blocking:04b}: hangs"))
                        .unwrap();
                }
            });
        }
    }
}

/// Round trips between two threads, each at a random moment of the other's going to sleep: a wake-up
/// that is lost is a hang here, since nothing else comes.
#[test]
fn no_wake_up_is_lost() {
    let _watchdog = Watchdog::new("no_wake_up_is_lost");
    let mut random = Random::from_env("no_wake_up_is_lost");
    let count = scaled(40_000).max(2000);
    let pause = |random: &mut Random| {
        for _ in 0..random.below(4) * random.below(400) {
            std::hint::spin_loop();
        }
    };
    for bell in BELLS {
        for wait in WAITS {
            for blocking in [false, true] {
                let (left, right) = options(wait, bell).pair().unwrap();
                let ends = [(left, true), (right, false)].map(|(mut end, first)| {
                    let mut random = Random::new(random.next());
                    std::thread::spawn(move || {
                        let mut runtime = tokio::runtime::Builder::new_current_thread();
                        let runtime = runtime.enable_all().build().unwrap();
                        for number in 0..count {
                            for sends in [first, !first] {
                                if sends && blocking {
                                    pause(&mut random);
                                    end.blocking_send(number.to_ne_bytes()).unwrap();
                                } else if sends {
                                    pause(&mut random);
                                    let sent = runtime.block_on(end.send(number.to_ne_bytes()));
                                    sent.unwrap();
                                } else {
                                    let message = if blocking {
                                        let receiver = end.receiver();
                                        receiver.blocking_recv_timeout(HANG).unwrap()
                                    } else {
                                        runtime.block_on(within(end.recv())).unwrap()
                                    };
                                    assert_eq!(message.unwrap(), number.to_ne_bytes()[..]);
                                }
                            }
                        }
                    })
                });
                let ends = ends.map(std::thread::JoinHandle::join);
                let fine = ends.iter().all(Result::is_ok);
                assert!(fine, "{bell:?}, {wait:?}, blocking {blocking}");
            }
        }
    }
}

#[test]
fn blocking_without_a_runtime() {
    let _watchdog = Watchdog::new("blocking_without_a_runtime");
    for wait in WAITS {
        for bell in BELLS {
            let (mut left, mut right) = options(wait, bell).pair().unwrap();
            let echo = std::thread::spawn(move || {
                while let Some(message) = right.blocking_recv().unwrap() {
                    right.blocking_send(message).unwrap();
                }
            });
            for len in [0, 1, 1000, 100_000] {
                left.blocking_send(vec![5; len]).unwrap();
                assert_eq!(left.blocking_recv().unwrap().unwrap(), vec![5; len]);
            }
            let timeout = Duration::from_millis(5);
            for _ in 0..3 {
                let receiver = left.receiver();
                let error = receiver.blocking_recv_timeout(timeout).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            }
            left.blocking_send("on").unwrap();
            assert_eq!(left.blocking_recv().unwrap().unwrap(), "on");
            left.blocking_close().unwrap();
            echo.join().unwrap();
        }
    }
}

#[tokio::test]
async fn a_sink_and_a_stream() {
    let _watchdog = Watchdog::new("a_sink_and_a_stream");
    let count = scaled(20_000).max(2000);
    for bell in BELLS {
        let (left, right) = Options::new().capacity(8192).doorbell(bell).pair().unwrap();
        let payloads = std::sync::Arc::new(Payloads::new(11, 10_000));
        let numbers = futures::stream::iter(0..count);
        let messages = {
            let payloads = payloads.clone();
            numbers.map(move |number| Ok(Bytes::copy_from_slice(payloads.get(number))))
        };
        // There and back, each end a stream forwarded into a sink.
        let (there, back) = right.split();
        let echo = tokio::spawn(back.forward(there));
        let (sender, receiver) = left.split();
        let forward = tokio::spawn(messages.forward(sender));
        let mut number = 0;
        let check = receiver.try_for_each(|message| {
            payloads.check(number, &message);
            number += 1;
            futures::future::ok(())
        });
        within(check).await.unwrap();
        assert_eq!(number, count);
        within(forward).await.unwrap().unwrap();
        within(echo).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn feeding_rings_once() {
    let _watchdog = Watchdog::new("feeding_rings_once");
    for bell in BELLS {
        let (mut sender, mut receiver, _rest) = one_way(&options(Wait::Park, bell));
        for round in 1..=10 {
            let mut waiting = Box::pin(receiver.recv());
            assert!(futures::poll!(&mut waiting).is_pending());
            for _ in 0..50 {
                sender.feed(Bytes::from("many")).await.unwrap();
            }
            assert_eq!(sender.stats().rings, round - 1);
            SinkExt::<Bytes>::flush(&mut sender).await.unwrap();
            assert_eq!(sender.stats().rings, round);
            within(waiting).await.unwrap().unwrap();
            for _ in 1..50 {
                receiver.try_recv().unwrap();
            }
        }
        assert_eq!(receiver.stats().messages, 500);
        assert!(receiver.stats().parks >= 10);
    }
}

#[tokio::test]
async fn loans() {
    let _watchdog = Watchdog::new("loans");
    let (mut sender, mut receiver, _rest) = one_way(&Options::new().capacity(4096).threshold(1000));
    for len in [0, 1, 7, 999, 1000, 1001, 5000, 1 << 20] {
        for keep in [0, len / 2, len] {
            let mut loan = within(sender.reserve(len)).await.unwrap();
            assert_eq!(loan.len(), len);
            loan.fill(0x5a);
            drop(loan);
            let mut loan = within(sender.reserve(len)).await.unwrap();
            loan.fill(0xa5);
            within(loan.commit(keep)).await.unwrap();
            let message = within(receiver.recv()).await.unwrap().unwrap();
            assert!(message == vec![0xa5; keep], "{keep} of {len}");
        }
        let loan = sender.reserve(len).await.unwrap();
        let error = loan.commit(len + 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("were lent"), "{error}");
    }
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    assert_eq!(sender.stats().messages, 24);
}

/// A process that forks, for a moment, while a large loan is being written.
#[test]
fn loans_beside_a_fork() {
    use std::os::unix::process::CommandExt;
    let _watchdog = Watchdog::new("loans_beside_a_fork");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut command = std::process::Command::new("/bin/true");
                // Another group makes the standard library fork rather than spawn.
                let _status = command.gid(rustix::process::getgid().as_raw()).status();
            }
        });
        let loans = runtime.block_on(async {
            let (mut sender, mut receiver, _rest) = one_way(&Options::new());
            for _ in 0..scaled(4000).max(400) {
                let mut loan = sender.reserve(100_000).await?;
                loan.fill(1);
                loan.commit(100_000).await?;
                receiver.recv().await?;
            }
            Ok::<_, sinew_core::Error>(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        loans.unwrap();
    });
}

#[tokio::test]
async fn one_frozen_for_many() {
    let _watchdog = Watchdog::new("one_frozen_for_many");
    let frozen = Frozen::copy_from_slice(&vec![0x77; 1 << 20]).unwrap();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let (mut sender, mut receiver, _rest) = one_way(&Options::new());
        for _ in 0..3 {
            sender.send_frozen(&frozen).await.unwrap();
            kept.push(receiver.recv().await.unwrap().unwrap());
        }
    }
    drop(frozen);
    // They outlive their channels.
    assert!(
        kept.iter()
            .all(|message| message[..] == vec![0x77; 1 << 20])
    );
}

#[tokio::test]
async fn a_trusted_receiver() {
    let _watchdog = Watchdog::new("a_trusted_receiver");
    let payloads = Payloads::new(3, 20_000);
    let (mut sender, receiver, _rest) = one_way(&Options::new().capacity(16 << 10));
    #[allow(unsafe_code, reason = "the peer is this very test")]
    // SAFETY: the peer is a `Sender`, which leaves alone what it has published.
    let mut receiver = unsafe { receiver.into_trusted() };
    for number in 0..500 {
        sender.send(payloads.get(number)).await.unwrap();
        if number % 3 == 0 {
            // Given up before it was polled, and after.
            drop(receiver.recv());
        }
        let message = within(receiver.recv()).await.unwrap().unwrap();
        payloads.check(number, &message);
    }
    let mut receiver = receiver.into_inner();
    sender.send("again").await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "again");
    assert_eq!(receiver.stats().messages, 501);
    assert_eq!(receiver.recv().await.unwrap(), None);
}

/// A short message travels beside the cursor, where the next takes its place: the borrow is of what was received.
#[tokio::test]
async fn a_borrowed_short_message_stays_while_others_come() {
    let _watchdog = Watchdog::new("a_borrowed_short_message_stays_while_others_come");
    let (mut sender, receiver, _rest) = one_way(&Options::new());
    #[allow(unsafe_code, reason = "the peer is this very test")]
    // SAFETY: the peer is a `Sender`, which leaves alone what it has published.
    let mut receiver = unsafe { receiver.into_trusted() };
    for len in [0, 1, 8, 63, 64, 100, 112, 113] {
        let message = |byte: u8| vec![byte; len];
        sender.send(message(1)).await.unwrap();
        let borrowed = within(receiver.recv()).await.unwrap().unwrap();
        sender.send(message(2)).await.unwrap();
        sender.send(message(3)).await.unwrap();
        assert_eq!(borrowed.to_vec(), message(1));
        drop(borrowed);
        for byte in [2, 3] {
            let next = within(receiver.recv()).await.unwrap().unwrap();
            assert_eq!(next.to_vec(), message(byte));
        }
    }
}

#[tokio::test]
async fn stats_are_plausible() {
    let _watchdog = Watchdog::new("stats_are_plausible");
    for bell in [Doorbell::Auto, Doorbell::Socket] {
        let (mut sender, mut receiver, _rest) = one_way(&options(Wait::Park, bell));
        for _ in 0..100 {
            let mut waiting = Box::pin(receiver.recv());
            assert!(futures::poll!(&mut waiting).is_pending());
            sender.send([0; 10]).await.unwrap();
            within(waiting).await.unwrap().unwrap();
        }
        let (sent, received) = (sender.stats(), receiver.stats());
        assert_eq!((sent.messages, sent.bytes), (100, 1000));
        assert_eq!((received.messages, received.bytes), (100, 1000));
        // One ring for each park but those that ended otherwise; a poll without budget parks not.
        assert!((90..=100).contains(&sent.rings), "{sent:?}");
        assert!((sent.rings..300).contains(&received.parks), "{received:?}");
        assert_eq!((sent.parks, received.spins), (0, 0));

        receiver.set_wait(Wait::Spin);
        for _ in 0..10 {
            let mut waiting = Box::pin(receiver.recv());
            assert!(futures::poll!(&mut waiting).is_pending());
            sender.send([0; 10]).await.unwrap();
            within(waiting).await.unwrap().unwrap();
        }
        assert_eq!(sender.stats().rings, sent.rings, "nobody slept");
    }
}
