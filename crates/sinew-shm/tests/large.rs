//! Messages above the threshold.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "trusts its own other end"
)]

use std::time::Duration;

use sinew_shm::{Channel, Options, Receiver, Sender};

fn one_way(options: &Options) -> (Sender, Receiver, (Receiver, Sender)) {
    let (left, right): (Channel, Channel) = options.pair().unwrap();
    let (sender, unused_receiver) = left.split();
    let (unused_sender, receiver) = right.split();
    (sender, receiver, (unused_receiver, unused_sender))
}

/// How many mappings of a kind this process has.
fn mappings(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(20), work).await;
    done.unwrap()
}

#[tokio::test]
async fn sizes_grow_and_shrink_within_the_memory_that_is_kept() {
    let options = Options::new().capacity(4096).reused_memory(1 << 20);
    let (mut sender, mut receiver, _rest) = one_way(&options);
    let sizes = [
        1025,
        65_536,
        65_537,
        500_000,
        3000,
        1 << 20,
        (1 << 20) + 1,
        70_000,
        1 << 20,
    ];
    for round in 0..20u8 {
        for len in sizes {
            let message = vec![round; len];
            let (sent, received) = tokio::join!(sender.send(&message), within(receiver.recv()));
            sent.unwrap();
            assert!(received.unwrap().unwrap() == message, "{len}");
        }
    }
    let many = sizes.len() as u64 * 20;
    assert_eq!(sender.stats().memories, many);
    assert_eq!(receiver.stats().memories, many);
}

#[tokio::test]
async fn what_was_received_does_not_change() {
    let (mut sender, mut receiver, _rest) = one_way(&Options::new());
    let mut kept = Vec::new();
    for number in 0..30u8 {
        sender.send(vec![number; 200_000]).await.unwrap();
        kept.push(receiver.recv().await.unwrap().unwrap());
    }
    for (number, message) in (0..30u8).zip(kept) {
        assert!(message.iter().all(|byte| *byte == number), "{number}");
    }
}

#[tokio::test]
async fn a_loan_is_written_and_borrowed_in_place() {
    let (mut sender, receiver, _rest) = one_way(&Options::new());
    // SAFETY: the other end is this test.
    let mut receiver = unsafe { receiver.into_trusted() };
    let mut places = std::collections::BTreeSet::new();
    for round in 0..100u8 {
        let mut loan = sender.reserve(1 << 20).await.unwrap();
        loan.fill(round);
        if round % 10 == 9 {
            // Dropped, it sends nothing, and is there for the next.
            continue;
        }
        loan.commit((1 << 20) - usize::from(round)).await.unwrap();
        let message = within(receiver.recv()).await.unwrap().unwrap();
        assert!(message.len() == (1 << 20) - usize::from(round));
        assert!(message.iter().all(|byte| *byte == round));
        places.insert(message.as_ptr().addr());
    }
    assert_eq!(places.len(), 2, "two segments take turns");
    let mut receiver = receiver.into_inner();
    sender.send(vec![7; 100_000]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn what_is_borrowed_is_not_written_until_it_is_released() {
    let options = Options::new().reused_memory(256 << 10);
    let (mut sender, receiver, _rest) = one_way(&options);
    // SAFETY: the other end is this test.
    let mut receiver = unsafe { receiver.into_trusted() };
    sender.send(vec![1; 200_000]).await.unwrap();
    let borrowed = within(receiver.recv()).await.unwrap().unwrap();
    // There is one segment, and it is borrowed.
    assert!(sender.try_send(vec![2; 200_000]).unwrap_err().is_full());
    let mut waiting = Box::pin(sender.reserve(200_000));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert!(borrowed.iter().all(|byte| *byte == 1));
    drop(borrowed);
    let mut loan = within(waiting).await.unwrap();
    loan.fill(3);
    loan.commit(200_000).await.unwrap();
    let borrowed = within(receiver.recv()).await.unwrap().unwrap();
    assert!(borrowed.iter().all(|byte| *byte == 3));
}

#[tokio::test]
async fn threads_without_a_runtime_and_sinks_use_segments_too() {
    use futures::SinkExt;
    let (mut sender, mut receiver, rest) = one_way(&Options::new().reused_memory(512 << 10));
    let receiving = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while let Some(message) = receiver.blocking_recv().unwrap() {
            seen.push((message.len(), message[0]));
        }
        seen
    });
    let mut sender = tokio::task::spawn_blocking(move || {
        for number in 0..50u8 {
            sender.blocking_send(vec![number; 100_000]).unwrap();
        }
        sender
    })
    .await
    .unwrap();
    for number in 50..100u8 {
        within(SinkExt::send(&mut sender, vec![number; 300_000].into()))
            .await
            .unwrap();
    }
    within(sender.close()).await.unwrap();
    let expected: Vec<_> = (0..50u8)
        .map(|number| (100_000, number))
        .chain((50..100).map(|number| (300_000, number)))
        .collect();
    assert!(receiving.join().unwrap() == expected);
    drop(rest);
}

#[test]
fn nothing_is_left_of_segments() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A size that no other test has, since they run beside this one.
    runtime.block_on(async {
        let before = mappings("sinew-segment");
        let (mut sender, mut receiver, rest) = one_way(&Options::new());
        sender.send(vec![1; 3 << 20]).await.unwrap();
        receiver.recv().await.unwrap().unwrap();
        assert!(mappings("sinew-segment") > 0);
        drop((sender, receiver, rest));
        for _ in 0..2000 {
            if mappings("sinew-segment") <= before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Other tests have some for a moment, but not for ten seconds.
        panic!("{} mappings", mappings("sinew-segment"));
    });
}
