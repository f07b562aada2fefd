//! No wake-up is lost between a receiver that does not fence its releases and a sender that goes to
//! sleep.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, MembarrierCommand, membarrier, sched_getaffinity, sched_setaffinity};
use sinew_integration_tests::{Random, Watchdog, scaled, skip};
use sinew_ring::{Consumer, Fence, HeapMemory, Producer, channel};
use sinew_shm::{Channel, Options, Wait};

/// Messages of the relay that each of its processes' tasks carries.
const RELAYED: u64 = 400_000;

/// Holds the calling thread to the first or the second processor that it may use.
fn pin(which: usize) {
    let all = sched_getaffinity(None).unwrap();
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    if let Some(cpu) = usable.nth(which) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).unwrap();
    }
}

#[repr(align(256))]
#[derive(Default)]
struct Line(AtomicU64);

#[derive(Default)]
struct Rounds {
    begun: Line,
    ended: Line,
    rang: Line,
}

/// Receives one message in each round, into memory that is in no cache, and releases it.
fn receive(rounds: &Rounds, count: u64, len: usize, consumer: &mut Consumer<HeapMemory>) {
    pin(0);
    let mut random = Random::new(len as u64);
    let mut cold = vec![0; 128 << 20];
    for round in 1..=count {
        let page = usize::try_from(random.below(cold.len() as u64 / 4096 - 1)).unwrap();
        let at = 4096 * page;
        while rounds.begun.0.load(Ordering::Acquire) != round {
            spin_loop();
        }
        let frame = consumer.peek().unwrap().unwrap();
        consumer.copy_to(&frame, 0, &mut cold[at..at + len]);
        let rang = consumer.release(frame);
        rounds.rang.0.store(rang.into(), Ordering::Relaxed);
        rounds.ended.0.store(round, Ordering::Release);
    }
}

/// Fills the ring and arms, in each round at another moment of the receiver's release. Returns how
/// many wake-ups were lost: neither was the sender told to look, nor did it see the room itself.
fn send(rounds: &Rounds, count: u64, len: usize, producer: &mut Producer<HeapMemory>) -> u64 {
    pin(1);
    let mut random = Random::new(len as u64);
    let payload = vec![7; len];
    let mut lost = 0;
    for round in 1..=count {
        while producer.stage(1, &payload).is_ok() {}
        let _awake = producer.publish();
        let delay = random.below(len as u64 / 8 + 300);
        rounds.begun.0.store(round, Ordering::Release);
        for turn in 0..delay {
            black_box(turn);
        }
        let barrier = || membarrier(MembarrierCommand::GlobalExpedited);
        producer.arm(producer.cursor_for(len), barrier).unwrap();
        let saw = producer.has_room(len).unwrap();
        while rounds.ended.0.load(Ordering::Acquire) != round {
            spin_loop();
        }
        let rang = rounds.rang.0.load(Ordering::Relaxed) != 0;
        lost += u64::from(!rang && !saw);
        producer.disarm();
    }
    lost
}

/// Wakes up often on the sender's processor, which keeps stores of the other in its store buffer
/// for longer.
fn disturb(stop: &AtomicBool) {
    pin(1);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_micros(20));
        for turn in 0..3000 {
            black_box(turn);
        }
    }
}

#[test]
fn a_release_without_a_fence_wakes_a_sender_that_arms_with_a_barrier() {
    if membarrier(MembarrierCommand::RegisterGlobalExpedited).is_err() {
        return skip(
            "a_release_without_a_fence",
            "membarrier(2) is not allowed here",
        );
    }
    let count = match std::env::var("SINEW_WAKEUP_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap(),
        Err(_) => scaled(1_000_000),
    };
    let _watchdog = (count <= 1_000_000).then(|| Watchdog::new("a_release_without_a_fence"));
    let stop = Arc::new(AtomicBool::new(false));
    let disturbance = thread::spawn({
        let stop = stop.clone();
        move || disturb(&stop)
    });
    for len in [64, 2048] {
        let rounds = Arc::new(Rounds::default());
        let (mut producer, mut consumer) = channel(1 << 18);
        consumer.set_fence(Fence::Asymmetric);
        let receiver = thread::spawn({
            let rounds = rounds.clone();
            move || receive(&rounds, count, len, &mut consumer)
        });
        let lost = thread::scope(|scope| {
            let sender = scope.spawn(|| send(&rounds, count, len, &mut producer));
            sender.join().unwrap()
        });
        receiver.join().unwrap();
        println!("{count} rounds of {len} bytes: {lost} wake-ups lost");
        assert_eq!(lost, 0, "{count} rounds of {len} bytes");
    }
    stop.store(true, Ordering::Relaxed);
    disturbance.join().unwrap();
}

/// Receives from one and sends to the other, and does nothing else: what it does not tell the one
/// before it waits for the other is never told.
async fn relay(mut from: Channel, mut to: Channel) -> u64 {
    let mut carried = 0;
    while let Some(message) = from.recv().await.unwrap() {
        to.send(message).await.unwrap();
        carried += 1;
    }
    to.close().await.unwrap();
    carried
}

/// A ring of relays whose smallest buffers are always full: a lost wake-up anywhere stops all of it
/// for ever.
#[test]
fn relays_in_a_circle_never_stand_still() {
    let _watchdog = Watchdog::new("relays_in_a_circle_never_stand_still");
    for wait in [Wait::Park, Wait::Adaptive] {
        let options = Options::new().capacity(4096).wait(wait);
        let (mut first, from) = options.pair().unwrap();
        let (to, from_second) = options.pair().unwrap();
        let (to_second, mut last) = options.pair().unwrap();
        let count = scaled(RELAYED);
        let run = |work: std::pin::Pin<Box<dyn Future<Output = u64> + Send>>| {
            thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(work)
            })
        };
        let threads = [
            run(Box::pin(async move {
                for number in 0..count {
                    // Sizes vary, so that the room for one is made by the release of several.
                    first
                        .send(vec![1; usize::try_from(number * 37 % 900).unwrap()])
                        .await
                        .unwrap();
                }
                first.close().await.unwrap();
                count
            })),
            run(Box::pin(relay(from, to))),
            run(Box::pin(relay(from_second, to_second))),
            run(Box::pin(async move {
                let mut received = 0;
                while let Some(message) = last.recv().await.unwrap() {
                    assert_eq!(message.len() as u64, received * 37 % 900);
                    received += 1;
                }
                received
            })),
        ];
        for thread in threads {
            assert_eq!(thread.join().unwrap(), count, "{wait:?}");
        }
    }
}

/// A sender that waits for much room is rung once, when all of it is there.
#[tokio::test]
async fn a_large_message_behind_small_ones_costs_one_park() {
    let options = Options::new()
        .capacity(64 << 10)
        .threshold(60_000)
        .wait(Wait::Park);
    let (mut left, mut right) = options.pair().unwrap();
    let mut small = 0_u64;
    while left.try_send([1; 64]).is_ok() {
        small += 1;
    }
    let sending = tokio::spawn(async move {
        left.send(vec![2; 60_000]).await.unwrap();
        left
    });
    for _ in 0..small {
        // The sender's task has its turn after each release.
        tokio::task::yield_now().await;
        assert_eq!(right.recv().await.unwrap().unwrap().len(), 64);
    }
    assert_eq!(right.recv().await.unwrap().unwrap().len(), 60_000);
    let (parks, rings) = (
        sending.await.unwrap().sender().stats().parks,
        right.receiver().stats().rings,
    );
    assert!(small > 800, "{small}");
    // A park more where a wake-up for the connection itself came in between.
    assert!(parks <= 2 && rings == 1, "{parks} parks, {rings} rings");
}
