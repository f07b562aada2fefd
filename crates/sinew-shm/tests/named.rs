//! Channels in named memory, both ends in one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use sinew_core::{Error, ErrorKind, TryRecvError};
use sinew_memory::{MappedFile, PosixShm, Region, SysvShm, SysvTarget};
use sinew_shm::Wait;
use sinew_shm::named::{Options, Place, Receiver, Sender};

const CAPACITY: u64 = 4096;
/// A process that there is not.
const DEAD: u64 = 1;
/// The slots of the two ends.
const SENDER: usize = 128;
const RECEIVER: usize = 256;
/// The sender's cursor.
const PUBLISHED: usize = 512;

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Name(String);

impl Name {
    fn new() -> Self {
        Self(format!("/sinew-named-{}-{}", std::process::id(), number()))
    }

    fn shm(&self) -> PosixShm {
        PosixShm::new(&self.0).create(true)
    }

    fn truncate(&self, len: u64) {
        let path = format!("/dev/shm{}", self.0);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(len).unwrap();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _unlinked_before = PosixShm::unlink(&self.0);
    }
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

fn options() -> Options {
    Options::new().capacity(CAPACITY)
}

fn region() -> Region {
    Region::memfd(CAPACITY as usize + 4096).unwrap().0
}

async fn pair(options: &Options, region: &Region) -> (Sender, Receiver) {
    let sender = options.open_sender(region.clone()).await.unwrap();
    (sender, options.open_receiver(region.clone()).await.unwrap())
}

/// As if the process of an end had been killed.
fn kill<T>(end: T, region: &Region, slot: usize) {
    std::mem::forget(end);
    region.store(slot, &DEAD).unwrap();
}

fn is_crash(result: Result<Option<Bytes>, Error>) -> Error {
    let error = result.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    error
}

fn message(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(number as usize % 60)
}

#[tokio::test]
async fn in_every_kind_of_memory_in_either_order() {
    let directory = tempfile::tempdir().unwrap();
    let name = Name::new();
    let file = MappedFile::new(directory.path().join("ring")).create(true);
    let key = (0x5300_0000 | std::process::id() & 0x00ff_ffff).cast_signed();
    let sysv = SysvShm::new(SysvTarget::Key(key)).create(true);
    let keep = sysv.clone().size(4096 + 8192).remove_on_drop(true);
    let _keep = keep.open().unwrap();
    let places: [Place; 4] = [name.shm().into(), file.into(), sysv.into(), region().into()];
    for (index, place) in places.into_iter().enumerate() {
        let (mut sender, mut receiver) = if index % 2 == 0 {
            let sender = options().open_sender(place.clone()).await.unwrap();
            (sender, Options::new().open_receiver(place).await.unwrap())
        } else {
            let receiver = options().open_receiver(place.clone()).await.unwrap();
            (Options::new().open_sender(place).await.unwrap(), receiver)
        };
        let sent = async {
            for number in 0..1000 {
                sender.send(message(number)).await.unwrap();
            }
            sender.close().await.unwrap();
        };
        let received = async {
            for number in 0..1000 {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), message(number));
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
        };
        bounded(async { tokio::join!(sent, received) }).await;
        assert_eq!((sender.published(), receiver.consumed()), (1000, 1000));
    }
}

#[tokio::test]
async fn what_was_sent_stays_for_who_comes_later() {
    let region = region();
    for round in 0..100 {
        let mut sender = options().open_sender(region.clone()).await.unwrap();
        assert_eq!(sender.published(), 2 * round);
        sender.send("one").await.unwrap();
        sender.feed(Bytes::from("two")).await.unwrap();
        drop(sender); // Published with the drop.
        let mut receiver = options().open_receiver(region.clone()).await.unwrap();
        assert_eq!(receiver.consumed(), 2 * round);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
        drop(receiver);
        let mut receiver = options().open_receiver(region.clone()).await.unwrap();
        assert_eq!(receiver.next().await.unwrap().unwrap(), "two");
        assert!(receiver.next().await.is_none());
        assert!(receiver.next().await.is_none(), "a stream stays at its end");
    }
}

#[tokio::test]
async fn one_sender_and_one_receiver_at_a_time() {
    let region = region();
    let ends = pair(&options(), &region).await;
    let me = std::process::id().to_string();
    let errors = [
        options().open_sender(region.clone()).await.unwrap_err(),
        options().open_receiver(region.clone()).await.unwrap_err(),
    ];
    for (error, role) in errors.iter().zip(["a sender", "a receiver"]) {
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains(role) && text.contains(&me), "{text}");
    }
    drop(ends);
    pair(&options(), &region).await;
}

#[tokio::test]
async fn ends_in_a_row_are_told_and_always_have_room() {
    let region = region();
    // Nobody receives meanwhile.
    for _ in 0..10_000 {
        options().open_sender(region.clone()).await.unwrap();
    }
    let mut receiver = options().open_receiver(region.clone()).await.unwrap();
    assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    // A full ring too.
    let mut sender = options().open_sender(region.clone()).await.unwrap();
    let mut count = 0;
    while sender.try_send([0; 8]).is_ok() {
        count += 1;
    }
    drop(sender);
    for _ in 0..100 {
        options().open_sender(region.clone()).await.unwrap();
    }
    for _ in 0..count {
        assert!(receiver.recv().await.unwrap().is_some());
    }
    assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn a_full_ring_waits_and_goes_on() {
    for wait in [Wait::Adaptive, Wait::Park, Wait::Spin] {
        let region = region();
        let (mut sender, mut receiver) = pair(&options().wait(wait), &region).await;
        let mut count = 0_u64;
        while sender.try_send(count.to_le_bytes()).is_ok() {
            count += 1;
        }
        assert!(sender.send("more").now_or_never().is_none());
        let task = tokio::spawn(async move {
            sender.send(count.to_le_bytes()).await.unwrap();
            sender.close().await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        for number in 0..=count {
            let message = bounded(receiver.recv()).await.unwrap().unwrap();
            assert_eq!(message, number.to_le_bytes()[..]);
        }
        assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
        bounded(task).await.unwrap();
    }
}

#[test]
fn threads_without_a_runtime() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let region = region();
        let options = options().wait(wait);
        let mut sender = options.blocking_open_sender(region.clone()).unwrap();
        let mut receiver = options.blocking_open_receiver(region).unwrap();
        let thread = std::thread::spawn(move || {
            for number in 0..20_000 {
                sender.blocking_send(message(number)).unwrap();
            }
        });
        for number in 0..20_000 {
            assert_eq!(receiver.blocking_recv().unwrap().unwrap(), message(number));
        }
        assert_eq!(receiver.blocking_recv().unwrap(), None);
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_sender_that_died_is_told_after_what_it_published() {
    let region = region();
    for _ in 0..3 {
        let (mut sender, mut receiver) = pair(&options(), &region).await;
        sender.send("last words").await.unwrap();
        kill(sender, &region, SENDER);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "last words");
        let error = is_crash(bounded(receiver.recv()).await);
        let text = error.to_string();
        assert!(
            !error.is_recoverable()
                && text.contains(&format!("process {} died", std::process::id())),
            "{text}"
        );
        // It may be called again, and waits for the next.
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        let mut next = options().open_sender(region.clone()).await.unwrap();
        next.send("next").await.unwrap();
        assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "next");
        drop(next);
        assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_crash_is_told_in_its_place_also_by_the_successor() {
    let region = region();
    let (mut sender, mut receiver) = pair(&options().await_successor(true), &region).await;
    for number in 0..10_u8 {
        sender.send([number]).await.unwrap();
        kill(sender, &region, SENDER);
        // Killed before it sent anything: one more crash, told together with the first.
        let silent = options().open_sender(region.clone()).await.unwrap();
        kill(silent, &region, SENDER);
        sender = options().open_sender(region.clone()).await.unwrap();
        assert_eq!(sender.published(), u64::from(number) + 1);
    }
    sender.send([99]).await.unwrap();
    sender.close().await.unwrap();
    for number in 0..10_u8 {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), [number][..]);
        assert!(is_crash(receiver.recv().await).is_recoverable());
    }
    assert_eq!(receiver.recv().await.unwrap().unwrap(), [99][..]);
    // A close is passed over.
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    let mut sender = options().open_sender(region.clone()).await.unwrap();
    sender.send("on").await.unwrap();
    assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "on");
}

#[tokio::test]
async fn a_successor_tells_of_the_death_before_it_sends_anything() {
    let region = region();
    let (mut sender, mut receiver) = pair(&options(), &region).await;
    sender.send("last").await.unwrap();
    kill(sender, &region, SENDER);
    let silent = options().open_sender(region.clone()).await.unwrap();
    assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "last");
    is_crash(bounded(receiver.recv()).await);
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    drop(silent);
    assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
}

/// The second sender is opened while the end of the first is still to be received, and dies after
/// it was.
#[tokio::test]
async fn a_death_in_silence_after_an_end_is_told() {
    for successor in [false, true] {
        let region = region();
        let (mut sender, mut receiver) = pair(&options(), &region).await;
        sender.send("last").await.unwrap();
        sender.close().await.unwrap();
        drop(sender);
        let silent = options().open_sender(region.clone()).await.unwrap();
        assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "last");
        assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        kill(silent, &region, SENDER);
        let next = match successor {
            true => Some(options().open_sender(region.clone()).await.unwrap()),
            false => None,
        };
        is_crash(bounded(receiver.recv()).await);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        drop(next);
    }
}

/// A receiver that leaves while a sender begins to wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_leaves_at_that_moment() {
    let region = region();
    let options = options().wait(Wait::Park);
    for round in 0..2000_u32 {
        let (mut sender, receiver) = pair(&options, &region).await;
        while sender.try_send("x").is_ok() {}
        let sent = tokio::spawn(async move { sender.send("y").await });
        for _ in 0..round % 400 {
            std::hint::spin_loop();
        }
        drop(receiver);
        let error = bounded(sent).await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
}

#[test]
fn waiting_outside_of_a_runtime_is_an_error() {
    let region = region();
    let options = options().wait(Wait::Park);
    let mut sender = options.blocking_open_sender(region.clone()).unwrap();
    let mut receiver = options.blocking_open_receiver(region).unwrap();
    let error = receiver.recv().now_or_never().unwrap().unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
    while sender.try_send("x").is_ok() {}
    let error = sender.send("y").now_or_never().unwrap().unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

/// A wait that was begun in one runtime, and is taken up in another.
#[test]
fn from_one_runtime_to_the_next() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let region = region();
    let mut first = runtime();
    let options = options().wait(Wait::Park);
    let (mut sender, mut receiver) = first.block_on(pair(&options, &region));
    for round in 0..4_u32 {
        let waits = async {
            let short = Duration::from_millis(5);
            assert!(tokio::time::timeout(short, receiver.recv()).await.is_err());
        };
        first.block_on(waits);
        // With the first one gone, or there, and driven by nobody.
        let next = runtime();
        if round % 2 == 0 {
            first = runtime();
        }
        next.block_on(async {
            let sent = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                sender.send(round.to_le_bytes()).await.unwrap();
            };
            let received = bounded(receiver.recv());
            let (received, ()) = tokio::join!(received, sent);
            assert_eq!(received.unwrap().unwrap(), round.to_le_bytes()[..]);
        });
    }
}

#[tokio::test]
async fn successors_of_a_sender_that_died_at_a_full_ring() {
    let region = region();
    let (mut sender, mut receiver) = pair(&options(), &region).await;
    let mut count = 0;
    while sender.try_send("x").is_ok() {
        count += 1;
    }
    kill(sender, &region, SENDER);
    // Hardly any room to tell of it; and each is closed, or dies as well.
    for round in 0..50 {
        let mut next = options().open_sender(region.clone()).await.unwrap();
        assert!(next.try_send("y").unwrap_err().is_full());
        match round % 3 {
            0 => kill(next, &region, SENDER),
            1 => drop(next),
            _ => next.flush().await.unwrap(),
        }
    }
    for _ in 0..count {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "x");
    }
    let mut crashes = 0;
    while let Err(error) = bounded(receiver.recv()).await {
        assert!(error.is_peer_crashed(), "{error}");
        crashes += 1;
    }
    assert!((1..=4).contains(&crashes), "{crashes}");
    let mut next = options().open_sender(region.clone()).await.unwrap();
    next.send("z").await.unwrap();
    assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "z");
}

#[tokio::test]
async fn a_successor_that_sends_nothing_is_closed_all_the_same() {
    let region = region();
    for full in [false, true] {
        let (mut sender, mut receiver) = pair(&options(), &region).await;
        let mut count = 1;
        sender.send("x").await.unwrap();
        while full && sender.try_send("x").is_ok() {
            count += 1;
        }
        for _ in 0..5 {
            kill(sender, &region, SENDER);
            sender = options().open_sender(region.clone()).await.unwrap();
            if full {
                // It waits, and has told of the death by then.
                assert!(sender.send("y").now_or_never().is_none());
            }
        }
        sender.close().await.unwrap();
        for _ in 0..count {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), "x");
        }
        is_crash(bounded(receiver.recv()).await);
        assert_eq!(bounded(receiver.recv()).await.unwrap(), None);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    }
}

/// Senders and receivers that come, go and die, in any order: the last of what happened is what is told last.
#[tokio::test]
async fn lives_of_all_kinds_are_told_to_the_end() {
    let region = region();
    let message = |number: u64| number.to_le_bytes().repeat(number as usize % 3);
    for seed in 1..=2000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % most
        };
        let mut receiver = options().open_receiver(region.clone()).await.unwrap();
        let (mut killed, mut after_sending) = (0, 0);
        let (mut crashes, mut last) = (0, "nothing");
        let lives = 1 + below(8);
        for life in 0..=lives {
            let mut sender = options().open_sender(region.clone()).await.unwrap();
            let first = sender.published();
            let mut number = first;
            for _ in 0..[0, 0, 1, 3, 400][below(5) as usize] {
                number += u64::from(sender.try_send(message(number)).is_ok());
            }
            assert_eq!(sender.published(), number);
            // The last one is closed.
            let death = if life == lives { 0 } else { below(5) };
            if death > 0 {
                killed += 1;
                after_sending += u64::from(number > first);
            }
            match death {
                0 => sender.close().await.unwrap(),
                1 => kill(sender, &region, SENDER),
                2 => {
                    let _full = sender.feed(Bytes::from(message(number))).now_or_never();
                    kill(sender, &region, SENDER);
                }
                _ => {
                    // While it was about to say that it is closed, or that another one died.
                    let published = region.load::<u64>(PUBLISHED).unwrap() & !7;
                    let marks = [SENDER + 16, SENDER + 24];
                    let stands = |mark| region.load::<u64>(mark).unwrap() == published;
                    if !marks.into_iter().any(stands) {
                        let mark = marks[death as usize - 3];
                        region.store(mark, &(published + 8)).unwrap();
                    }
                    kill(sender, &region, SENDER);
                }
            }
            if below(3) == 0 {
                kill(receiver, &region, RECEIVER);
                receiver = options().open_receiver(region.clone()).await.unwrap();
            }
            let most = [0, 1, 3, 1000][below(4) as usize];
            for _ in 0..if life == lives { 100_000 } else { most } {
                let expected = receiver.consumed();
                match receiver.try_recv() {
                    Ok(received) => {
                        assert_eq!(received, message(expected), "seed {seed}");
                        last = "a message";
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => last = "a close",
                    Err(error) => {
                        let TryRecvError::Failed(error) = error else {
                            panic!("seed {seed}: {error}");
                        };
                        assert!(error.is_peer_crashed(), "seed {seed}: {error}");
                        last = "a crash";
                        crashes += 1;
                    }
                }
            }
            if life == lives {
                assert_eq!(receiver.consumed(), number, "seed {seed}");
            }
        }
        assert_eq!(last, "a close", "seed {seed}");
        // Who has sent nothing may be told of together with another.
        assert!(
            (after_sending..=killed).contains(&crashes),
            "seed {seed}: {crashes} of {killed}"
        );
    }
}

#[tokio::test]
async fn a_receiver_that_left_or_died() {
    let region = region();
    let (mut sender, receiver) = pair(&options(), &region).await;
    drop(receiver);
    while sender.try_send("x").is_ok() {}
    let error = bounded(sender.send("y")).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    // There may be another one, and then it goes on.
    let receiver = options().open_receiver(region.clone()).await.unwrap();
    assert!(sender.send("y").now_or_never().is_none());
    kill(receiver, &region, RECEIVER);
    let error = bounded(sender.send("y")).await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    let mut receiver = options().open_receiver(region.clone()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "x");
    bounded(sender.send("y")).await.unwrap();

    // One that nobody has received from yet waits, and so does one that awaits a successor.
    drop((sender, receiver));
    let short = Duration::from_millis(150);
    let mut sender = options().open_sender(region.clone()).await.unwrap();
    while sender.try_send("x").is_ok() {}
    assert!(tokio::time::timeout(short, sender.send("y")).await.is_err());
    drop(sender);
    let patient = options().await_successor(true);
    let mut sender = patient.open_sender(region.clone()).await.unwrap();
    let receiver = options().open_receiver(region.clone()).await.unwrap();
    kill(receiver, &region, RECEIVER);
    assert!(tokio::time::timeout(short, sender.send("y")).await.is_err());
    let mut receiver = options().open_receiver(region.clone()).await.unwrap();
    let sent = async { sender.send("y").await.unwrap() };
    let received = async {
        let last = Some(Bytes::from("y"));
        // There is a `y` of before, and an end after it.
        while receiver.recv().await.unwrap() != last {}
        while receiver.recv().await.unwrap() != last {}
    };
    bounded(async { tokio::join!(sent, received) }).await;
}

#[tokio::test]
async fn shown_again_until_it_is_committed() {
    let region = region();
    let (mut sender, mut receiver) = pair(&options(), &region).await;
    sender.send("one").await.unwrap();
    sender.send("two").await.unwrap();
    assert!(!receiver.commit().unwrap());
    assert_eq!(receiver.peek().await.unwrap().unwrap(), "one");
    assert_eq!(receiver.peek().await.unwrap().unwrap(), "one");
    assert_eq!(receiver.consumed(), 0);
    kill(receiver, &region, RECEIVER);
    let mut receiver = options().open_receiver(region.clone()).await.unwrap();
    assert_eq!(receiver.peek().await.unwrap().unwrap(), "one");
    assert!(receiver.commit().unwrap());
    assert!(!receiver.commit().unwrap());
    assert_eq!(receiver.peek().await.unwrap().unwrap(), "two");
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "two");
    assert!(!receiver.commit().unwrap(), "it was received");
    assert_eq!(receiver.consumed(), 2);
}

/// The region of a channel of two directions.
fn duplex_region() -> Region {
    Region::memfd(2 * (4096 + CAPACITY as usize)).unwrap().0
}

/// Where the second ring begins.
const ANSWERS: usize = 4096 + CAPACITY as usize;

/// As if the process that had both ends of the client had been killed.
fn kill_client(ends: (Sender, Receiver), region: &Region) {
    kill(ends.0, region, SENDER);
    kill(ends.1, region, ANSWERS + RECEIVER);
}

/// As if the process that had both ends of the server had been killed.
fn kill_server(ends: (Sender, Receiver), region: &Region) {
    kill(ends.0, region, ANSWERS + SENDER);
    kill(ends.1, region, RECEIVER);
}

async fn next(receiver: &mut Receiver) -> Bytes {
    bounded(receiver.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_sides_are_fixed() {
    let region = duplex_region();
    let options = Options::new();
    for client_first in [false, true, false] {
        let (mut server, mut client);
        if client_first {
            client = options.open_client(region.clone()).await.unwrap();
            server = options.open_server(region.clone()).await.unwrap();
        } else {
            server = options.open_server(region.clone()).await.unwrap();
            client = options.open_client(region.clone()).await.unwrap();
        }
        let me = std::process::id().to_string();
        for (error, side) in [
            (options.open_server(region.clone()).await.err(), "a server"),
            (options.open_client(region.clone()).await.err(), "a client"),
        ] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            let text = error.to_string();
            assert!(text.contains(side) && text.contains(&me), "{text}");
        }
        client.0.send("to the server").await.unwrap();
        assert_eq!(next(&mut server.1).await, "to the server");
        server.0.send("to the client").await.unwrap();
        assert_eq!(next(&mut client.1).await, "to the client");
        client.0.close().await.unwrap();
        assert_eq!(bounded(server.1.recv()).await.unwrap(), None);
        // The client has closed one half, and may have an answer to the other.
        server.0.send("the last answer").await.unwrap();
        server.0.close().await.unwrap();
        assert_eq!(next(&mut client.1).await, "the last answer");
        assert_eq!(bounded(client.1.recv()).await.unwrap(), None);
        assert_eq!(client.1.skipped(), 0);
    }
    let error = options.open_sender(region).await.unwrap_err();
    assert!(error.to_string().contains("two directions"), "{error}");
}

#[tokio::test]
async fn a_successor_of_a_client_takes_the_clients_ends_and_none_of_its_answers() {
    let region = duplex_region();
    let options = options().await_successor(true);
    let mut server = options.open_server(region.clone()).await.unwrap();
    let mut client = options.open_client(region.clone()).await.unwrap();
    for number in 0..3_u8 {
        client.0.send(format!("question {number}")).await.unwrap();
        client.0.send("question without answer yet").await.unwrap();
        let question = next(&mut server.1).await;
        assert_eq!(question, format!("question {number}"));
        // Two answers, of which one is received.
        server.0.send(format!("answer {number}")).await.unwrap();
        server.0.send("more").await.unwrap();
        assert_eq!(next(&mut client.1).await, format!("answer {number}"));
        kill_client(client, &region);

        client = options.open_client(region.clone()).await.unwrap();
        assert_eq!(client.1.skipped(), 0);
        // What the first client has asked is answered, and the answer is not the second one's.
        assert_eq!(next(&mut server.1).await, "question without answer yet");
        server.0.send("late").await.unwrap();
        is_crash(bounded(server.1.recv()).await);
        server.0.send("too late").await.unwrap();
        assert!(bounded_out(client.1.recv()).await);
        assert_eq!(client.1.skipped(), 3);
        client.0.send("mine").await.unwrap();
        assert_eq!(next(&mut server.1).await, "mine");
        server.0.send("yours").await.unwrap();
        assert_eq!(next(&mut client.1).await, "yours");
        assert_eq!(client.1.skipped(), 3);
    }
    assert_eq!(client.1.consumed(), server.0.published());
}

/// Whether nothing comes for a while.
async fn bounded_out<T>(work: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(20), work)
        .await
        .is_err()
}

#[tokio::test]
async fn a_message_is_for_the_client_that_the_server_knew_when_it_was_sent() {
    let region = duplex_region();
    let options = options().await_successor(true);
    let mut server = options.open_server(region.clone()).await.unwrap();
    // Before any client was heard of: for the first that receives it.
    server.0.send("hello").await.unwrap();
    let mut client = options.open_client(region.clone()).await.unwrap();
    assert_eq!(next(&mut client.1).await, "hello");
    // The next has sent nothing, and the server hears of it all the same.
    for _ in 0..3 {
        assert!(matches!(server.1.try_recv(), Err(TryRecvError::Empty)));
        server.0.send("to you").await.unwrap();
        assert_eq!(next(&mut client.1).await, "to you");
        client = {
            drop(client);
            options.open_client(region.clone()).await.unwrap()
        };
        // It has not heard of it yet.
        server.0.send("to the last one").await.unwrap();
        assert!(bounded_out(client.1.recv()).await);
        assert_eq!(client.1.skipped(), 1);
    }

    // Handed over while there was no room: for whom it was meant then.
    client.0.send("a question").await.unwrap();
    assert_eq!(next(&mut server.1).await, "a question");
    let mut count = 0;
    while server.0.try_send([7; 100]).is_ok() {
        count += 1;
    }
    let sink = &mut server.0;
    futures::future::poll_fn(|cx| {
        assert!(sink.poll_ready_unpin(cx).is_ready());
        sink.start_send_unpin(Bytes::from(vec![8; 100])).unwrap();
        assert!(sink.poll_flush_unpin(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    kill_client(client, &region);
    let mut client = options.open_client(region.clone()).await.unwrap();
    client.0.send("another").await.unwrap();
    is_crash(bounded(server.1.recv()).await);
    assert_eq!(next(&mut server.1).await, "another");
    let sent = server.0.send("to another");
    let (sent, received) = bounded(async { tokio::join!(sent, client.1.recv()) }).await;
    sent.unwrap();
    assert_eq!(received.unwrap().unwrap(), "to another");
    assert_eq!(client.1.skipped(), count + 1);
}

#[tokio::test]
async fn a_successor_of_a_server_goes_on_with_the_same_client() {
    let region = duplex_region();
    let options = options().await_successor(true);
    let mut client = options.open_client(region.clone()).await.unwrap();
    let mut server = options.open_server(region.clone()).await.unwrap();
    for _ in 0..3 {
        client.0.send("one").await.unwrap();
        client.0.send("two").await.unwrap();
        assert_eq!(next(&mut server.1).await, "one");
        kill_server(server, &region);
        server = options.open_server(region.clone()).await.unwrap();
        is_crash(bounded(client.1.recv()).await);
        // The label before it was consumed by the one that died.
        assert_eq!(next(&mut server.1).await, "two");
        server.0.send("second").await.unwrap();
        assert_eq!(next(&mut client.1).await, "second");
        // Both die: what is told to the next client is what happens in its own time.
        client.0.send("three").await.unwrap();
        kill_client(client, &region);
        kill_server(server, &region);
        server = options.open_server(region.clone()).await.unwrap();
        client = options.open_client(region.clone()).await.unwrap();
        assert_eq!(next(&mut server.1).await, "three");
        server.0.send("to the dead one").await.unwrap();
        client.0.send("four").await.unwrap();
        is_crash(bounded(server.1.recv()).await);
        assert_eq!(next(&mut server.1).await, "four");
        server.0.send("fourth").await.unwrap();
        assert_eq!(next(&mut client.1).await, "fourth");
    }
}

#[tokio::test]
async fn a_client_is_not_told_of_ends_before_its_time() {
    let region = duplex_region();
    let options = options();
    drop(options.open_server(region.clone()).await.unwrap());
    let mut client = options.open_client(region.clone()).await.unwrap();
    assert!(matches!(client.1.try_recv(), Err(TryRecvError::Empty)));
    let server = options.open_server(region.clone()).await.unwrap();
    drop(server);
    assert_eq!(bounded(client.1.recv()).await.unwrap(), None);
}

/// With its label the longest message would not fit: the label goes ahead.
#[tokio::test]
async fn the_longest_messages_of_two_directions() {
    for way in 0..3 {
        let region = duplex_region();
        let mut client = options().open_client(region.clone()).await.unwrap();
        let longest = usize::try_from(client.0.max_message()).unwrap();
        let mut server = options().open_server(region.clone()).await.unwrap();
        let message = vec![7; longest];
        // With what takes the label's room away from it.
        server.0.send("x").await.unwrap();
        client.0.send("x").await.unwrap();
        assert_eq!(next(&mut server.1).await, "x");
        let (answers, receiver) = (&mut server.0, &mut client.1);
        let sent = async {
            match way {
                0 => answers.send(&message).await.unwrap(),
                1 => {
                    let bytes = Bytes::from(message.clone());
                    SinkExt::send(answers, bytes).await.unwrap();
                }
                _ => {
                    while answers.try_send(&message).is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        let received = async {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), "x");
            assert_eq!(receiver.recv().await.unwrap().unwrap(), message);
        };
        bounded(async { tokio::join!(sent, received) }).await;
    }
    // A thread.
    let region = duplex_region();
    let mut client = options().open_client(region.clone()).await.unwrap();
    let mut server = options().open_server(region.clone()).await.unwrap();
    let longest = vec![7; usize::try_from(client.0.max_message()).unwrap()];
    let thread = std::thread::spawn({
        let longest = longest.clone();
        move || client.0.blocking_send(longest).map(|()| client)
    });
    let received = bounded(server.1.recv()).await.unwrap().unwrap();
    assert_eq!(received, longest);
    thread.join().unwrap().unwrap();
}

/// There is room for the message, and not for the label that has to go ahead of it.
#[test]
fn no_room_for_a_label() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let region = duplex_region();
            let options = options().wait(Wait::Park);
            let mut server = options.open_server(region.clone()).await.unwrap();
            let client = options.open_client(region.clone()).await.unwrap();
            assert!(server.1.try_recv().is_err());
            server.0.send("").await.unwrap();
            while server.0.try_send([0; 8]).is_ok() {}
            drop(client);
            let mut client = options.open_client(region).await.unwrap();
            assert!(matches!(server.1.try_recv(), Err(TryRecvError::Closed)));
            assert!(matches!(server.1.try_recv(), Err(TryRecvError::Empty)));
            assert!(server.0.send("").now_or_never().is_none());
            let sent = server.0.send("");
            let (sent, received) = bounded(async { tokio::join!(sent, client.1.recv()) }).await;
            sent.unwrap();
            assert_eq!(received.unwrap().unwrap(), "");
        });
        done.send(()).unwrap();
    });
    let waited = is_done.recv_timeout(Duration::from_secs(30));
    waited.expect("it failed, or is in a loop");
}

/// Servers and clients that come, go and die at any point between two calls: no client gets an
/// answer to a question of another, and each answer to its own that a server has sent.
#[tokio::test]
async fn lives_of_servers_and_clients() {
    let options = options().await_successor(true);
    let region = duplex_region();
    let (mut life, mut asked) = (0_u64, 0_u64);
    for seed in 1..=500_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % most
        };
        let mut server = options.open_server(region.clone()).await.unwrap();
        let mut client = options.open_client(region.clone()).await.unwrap();
        // The questions that are with the server, and have no answer yet.
        let mut open = std::collections::VecDeque::new();
        // The answers to the present client that are under way.
        let mut under_way = std::collections::VecDeque::new();
        let before = asked;
        life += 1;
        for _ in 0..300 {
            match below(12) {
                0..3 => {
                    let question = [life.to_le_bytes(), asked.to_le_bytes()].concat();
                    asked += u64::from(client.0.try_send(question).is_ok());
                }
                3..6 => {
                    if open.is_empty()
                        && let Ok(question) = server.1.try_recv()
                    {
                        open.push_back(question);
                    }
                }
                6..9 => {
                    if let Some(question) = open.pop_front() {
                        match server.0.try_send(question.clone()) {
                            Ok(()) if question[..8] == life.to_le_bytes() => {
                                under_way.push_back(question);
                            }
                            Ok(()) => {}
                            Err(_) => open.push_front(question),
                        }
                    }
                }
                9 => match client.1.try_recv() {
                    Ok(answer) => {
                        assert_eq!(Some(answer), under_way.pop_front(), "seed {seed}");
                    }
                    Err(TryRecvError::Empty) => assert!(under_way.is_empty(), "seed {seed}"),
                    Err(TryRecvError::Failed(error)) => assert!(error.is_peer_crashed()),
                    Err(error) => panic!("seed {seed}: {error}"),
                },
                10 => {
                    match below(2) {
                        0 => kill_client(client, &region),
                        _ => drop(client),
                    }
                    life += 1;
                    under_way.clear();
                    client = options.open_client(region.clone()).await.unwrap();
                }
                _ => {
                    match below(2) {
                        0 => kill_server(server, &region),
                        _ => drop(server),
                    }
                    open.clear();
                    server = options.open_server(region.clone()).await.unwrap();
                }
            }
        }
        while let Some(answer) = under_way.pop_front() {
            let received = loop {
                match bounded(client.1.recv()).await {
                    Err(error) if error.is_peer_crashed() => {}
                    received => break received.unwrap().unwrap(),
                }
            };
            assert_eq!(received, answer, "seed {seed}");
        }
        assert!(client.1.try_recv().is_err(), "seed {seed}");
        assert!(asked > before, "seed {seed}");
    }
}

#[tokio::test]
async fn limits() {
    let region = region();
    let (mut sender, mut receiver) = pair(&Options::new().max_message(100), &region).await;
    assert_eq!((sender.capacity(), sender.max_message()), (4096, 100));
    let error = sender.send([0; 101]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("`size`"), "{error}");
    assert!(sender.try_send([0; 101]).unwrap_err().is_rejected());
    sender.send([7; 100]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), [7; 100][..]);
    drop((sender, receiver));
    let more = [
        Options::new().max_message(101),
        Options::new().capacity(8192),
    ];
    for options in more {
        let error = options.open_sender(region.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let more = [
        Options::new().capacity(1 << 40),
        Options::new().max_message(4096),
    ];
    for options in more {
        let region = self::region();
        let error = options.open_sender(region.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        // It was not spoiled by that.
        pair(&Options::new(), &region).await;
    }

    // The longest of all fills the ring.
    let region = self::region();
    let (mut sender, mut receiver) = pair(&Options::new(), &region).await;
    let longest = usize::try_from(sender.max_message()).unwrap();
    for byte in 0..20 {
        bounded(sender.send(vec![byte; longest])).await.unwrap();
        let received = bounded(receiver.recv()).await.unwrap();
        assert_eq!(received.unwrap(), vec![byte; longest]);
    }
}

#[tokio::test]
async fn what_is_no_channel_is_refused() {
    let laid = region();
    pair(&options(), &laid).await;
    let mut good = vec![0; laid.len()];
    laid.read(0, &mut good).unwrap();
    let change = |offset: usize, word: u64| {
        let mut bytes = good.clone();
        bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        bytes
    };
    let mut early = vec![0; 8192];
    early[100..105].copy_from_slice(b"first");
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("foreign", vec![b'x'; 8192], "something else"),
        ("foreign behind zeros", early, "something else"),
        ("version 1", change(16, 1), "of version 1"),
        ("version 2", change(16, 2), "of version 2"),
        ("version 4", change(16, 4), "of version 4"),
        ("feature", change(48, 0x18), "requires feature bit 3,"),
        (
            "last feature",
            change(48, 1 << 63),
            "requires feature bit 63,",
        ),
        ("capacity", change(24, 4095), "what cannot be"),
        ("huge", change(24, 1 << 40), "what cannot be"),
        ("longer than there is", change(24, 1 << 20), "truncated"),
        ("messages", change(32, 4096), "what cannot be"),
        ("cut off", good[..5000].to_vec(), "are too few"),
        ("tiny", vec![0; 10], "are too few"),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, reason) in cases {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let file = MappedFile::new(&path).create(true);
        for error in [
            Options::new().open_sender(file.clone()).await.unwrap_err(),
            Options::new().open_receiver(file).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Protocol, "{name}: {error}");
            assert!(error.to_string().contains(reason), "{name}: {error}");
        }
    }
    let read_only = directory.path().join("read-only");
    std::fs::write(&read_only, &good).unwrap();
    let file = MappedFile::new(read_only).read_only(true);
    let error = Options::new().open_receiver(file).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// Memory of another user, if this test can have such: a place of each kind.
fn of_another_user(directory: &std::path::Path, uid: u32) -> Option<(Vec<Place>, Name, SysvShm)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: memory of another user: only root can give a file away");
        return None;
    }
    let files = [directory.join("ring"), directory.join("region")];
    for file in &files {
        std::fs::write(file, vec![0; 8192]).unwrap();
    }
    let name = Name::new();
    name.shm().size(8192).open().unwrap();
    let [path, region] = files;
    for file in [&path, &region, &format!("/dev/shm{}", name.0).into()] {
        std::os::unix::fs::chown(file, Some(uid), None).unwrap();
    }
    let mut places: Vec<Place> = vec![MappedFile::new(path).create(true).into()];
    places.push(name.shm().into());
    // A region that was opened by the caller.
    places.push(MappedFile::new(region).open().unwrap().into());
    let mut ipcmk = std::process::Command::new("ipcmk");
    std::os::unix::process::CommandExt::uid(&mut ipcmk, uid);
    let made = match ipcmk.args(["-M", "8192", "-p", "0666"]).output() {
        Ok(output) => String::from_utf8(output.stdout).unwrap(),
        Err(error) => {
            eprintln!("skipped: a segment of another user: ipcmk: {error}");
            return None;
        }
    };
    let id = made.rsplit(' ').next().unwrap().trim().parse().unwrap();
    let segment = SysvShm::new(SysvTarget::Id(id));
    // A channel may be made in a region that is new, but not in a segment that is named by its id.
    let keep = segment.clone().remove_on_drop(true);
    places.push(segment.open().unwrap().into());
    Some((places, name, keep))
}

#[tokio::test]
async fn memory_of_another_user_is_refused_unless_allowed() {
    const UID: u32 = 54_321;
    let directory = tempfile::tempdir().unwrap();
    let Some((places, _name, segment)) = of_another_user(directory.path(), UID) else {
        return;
    };
    let _removed_with_this = segment.open().unwrap();
    for place in places {
        let others = Options::new().allow_uid(UID + 1);
        for error in [
            Options::new().open_sender(place.clone()).await.unwrap_err(),
            others.open_receiver(place.clone()).await.unwrap_err(),
            Options::new()
                .blocking_open_sender(place.clone())
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("uid 54321") && text.contains("allow_uid"),
                "{text}"
            );
        }
        let allowed = Options::new().allow_uid(1).allow_uid(UID);
        let mut sender = allowed.open_sender(place.clone()).await.unwrap();
        let mut receiver = allowed.open_receiver(place).await.unwrap();
        sender.send("trusted").await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "trusted");
    }
}

#[tokio::test]
async fn cursors_and_lengths_that_cannot_be() {
    const PUBLISHED: usize = 512;
    const RELEASED: usize = 768;
    const DATA: usize = 4096;
    for word in [8_u64, 12, 1 << 20, u64::MAX, 1 << 63, !7, 3] {
        for offset in [PUBLISHED, RELEASED] {
            let region = region();
            let (mut sender, mut receiver) = pair(&options(), &region).await;
            region.store(offset, &word).unwrap();
            if let Some(received) = receiver.recv().now_or_never() {
                assert!(received.unwrap_err().is_corrupted(), "{word} at {offset}");
                assert!(receiver.recv().await.unwrap_err().is_corrupted());
            }
            // A sender looks when it has to.
            let sent = (0..1000).find_map(|_| sender.try_send([0; 64]).err());
            let error = sent.unwrap_or_else(|| panic!("{word} at {offset}"));
            // Eight might be true, once as much is published.
            if offset == RELEASED && word != 8 {
                assert!(error.error().unwrap().is_corrupted(), "{word}");
            }
            drop((sender, receiver));
            // And who comes later.
            for error in [
                options().open_sender(region.clone()).await.err(),
                options().open_receiver(region.clone()).await.err(),
            ]
            .into_iter()
            .flatten()
            {
                assert!(error.is_corrupted(), "{error}");
            }
        }
    }
    // Lengths and kinds of a frame.
    for header in [u64::MAX, 4096, 64 << 32, 2 << 32] {
        let region = region();
        let (mut sender, mut receiver) = pair(&options(), &region).await;
        sender.feed(Bytes::from_static(&[1; 8])).await.unwrap();
        sender.flush().await.unwrap();
        region.store(DATA, &header).unwrap();
        let error = receiver.recv().await.unwrap_err();
        assert!(error.is_corrupted(), "{header:#x}: {error}");
    }
    // Holders that are none.
    for word in [1, u64::MAX, 1 << 42] {
        let region = region();
        pair(&options(), &region).await;
        region.store(SENDER, &word).unwrap();
        region.store(RECEIVER, &word).unwrap();
        if let Err(error) = options().open_sender(region.clone()).await {
            assert_eq!(error.kind(), ErrorKind::Refused, "{word:#x}: {error}");
        }
    }
}

#[tokio::test]
async fn truncated_while_it_is_open() {
    for len in [0, 4096, 6000] {
        let name = Name::new();
        let options = Options::new().capacity(64 << 10);
        let mut sender = options.open_sender(name.shm()).await.unwrap();
        let mut receiver = options.open_receiver(name.shm()).await.unwrap();
        sender.send(vec![1; 30_000]).await.unwrap();
        name.truncate(len);
        let error = bounded(receiver.recv()).await.unwrap_err();
        assert!(error.is_corrupted(), "{error}");
        assert!(error.to_string().contains("truncated"), "{error}");
        let mut sent = Ok(());
        for _ in 0..10 {
            sent = bounded(sender.send(vec![1; 30_000])).await;
            if sent.is_err() {
                break;
            }
        }
        let error = sent.unwrap_err();
        assert!(error.is_corrupted(), "{error}");
        assert!(error.to_string().contains("truncated"), "{error}");
        drop((sender, receiver));
        // Whatever becomes of one that is opened then, it is no fault.
        let opened = options.open_sender(name.shm()).await;
        assert!(len == 0 || opened.is_err());
    }
}

/// Nobody rings for that.
#[tokio::test]
async fn truncated_while_it_sleeps() {
    let name = Name::new();
    let options = Options::new().wait(Wait::Park);
    let mut receiver = options.open_receiver(name.shm()).await.unwrap();
    let task = tokio::spawn(async move { receiver.recv().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    name.truncate(0);
    let error = bounded(task).await.unwrap().unwrap_err();
    assert!(error.is_corrupted(), "{error}");
}

/// Nobody can come to the other end of a channel whose name is gone.
#[tokio::test]
async fn a_name_that_is_removed_ends_the_wait() {
    for is_made_anew in [false, true] {
        let name = Name::new();
        let mut receiver = options().open_receiver(name.shm()).await.unwrap();
        let waiting = tokio::spawn(async move {
            let first = receiver.recv().await;
            (first, receiver)
        });
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!waiting.is_finished());
        PosixShm::unlink(&name.0).unwrap();
        let mut other = None;
        if is_made_anew {
            other = Some(options().open_sender(name.shm()).await.unwrap());
        }
        let (ended, mut receiver) = bounded(waiting).await.unwrap();
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("name was removed") && text.contains("open it anew"),
            "{text}"
        );
        // And for a thread.
        let error = tokio::task::spawn_blocking(move || receiver.blocking_recv());
        let error = bounded(error).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        drop(other);
    }
}

#[tokio::test]
async fn a_full_sender_without_a_name_ends_its_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    let file = MappedFile::new(&path).create(true);
    let patient = options().await_successor(true);
    let mut sender = patient.open_sender(file.clone()).await.unwrap();
    while sender.try_send([7; 100]).is_ok() {}
    let waiting = tokio::spawn(async move { sender.send([7; 100]).await });
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(!waiting.is_finished());
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    let _other = options().open_receiver(file).await.unwrap();
    let error = bounded(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(error.to_string().contains("name was removed"), "{error}");
}

/// A region that was handed over is not opened by its name.
#[tokio::test]
async fn a_name_that_is_removed_does_not_matter_to_a_region_that_is_handed_over() {
    let name = Name::new();
    let region = name.shm().size(8192).open().unwrap();
    PosixShm::unlink(&name.0).unwrap();
    let mut receiver = options().open_receiver(region.clone()).await.unwrap();
    let waiting = tokio::spawn(async move { receiver.recv().await });
    tokio::time::sleep(Duration::from_millis(120)).await;
    let mut sender = options().open_sender(region).await.unwrap();
    sender.send("here").await.unwrap();
    assert_eq!(bounded(waiting).await.unwrap().unwrap().unwrap(), "here");
}

/// Two that have met need no name.
#[tokio::test]
async fn a_name_that_is_removed_does_not_part_two_that_have_met() {
    let name = Name::new();
    let mut receiver = options().open_receiver(name.shm()).await.unwrap();
    let mut sender = options().open_sender(name.shm()).await.unwrap();
    PosixShm::unlink(&name.0).unwrap();
    let waiting = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
    tokio::time::sleep(Duration::from_millis(120)).await;
    sender.send("still").await.unwrap();
    sender.close().await.unwrap();
    let (message, end) = bounded(waiting).await.unwrap();
    assert_eq!(message.unwrap().unwrap(), "still");
    assert_eq!(end.unwrap(), None);
}

#[tokio::test]
async fn waits_for_a_channel_to_be_laid() {
    let name = Name::new();
    let there = PosixShm::new(&name.0);
    let error = Options::new().open_sender(there.clone()).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ENOENT"));
    let patient = Options::new().timeout(Duration::from_secs(20));
    let opening = tokio::spawn({
        let there = there.clone();
        async move { patient.open_sender(there).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    // Made, and all zeros, as by a program that is not done yet.
    let raw = name.shm().size(8192).open().unwrap();
    let error = Options::new().open_sender(there.clone()).await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    assert!(error.to_string().contains("no channel yet"), "{error}");
    // Somebody who lives is laying it …
    raw.store(8, &raw.presence().enter().unwrap()).unwrap();
    let hasty = Options::new().timeout(Duration::from_millis(30));
    let error = hasty.open_receiver(name.shm()).await.unwrap_err();
    let why = "a process is laying a channel there";
    assert!(error.to_string().contains(why), "{error}");
    // … or has died over it.
    raw.store(8, &DEAD).unwrap();
    raw.store(0, b"SINEWNEW").unwrap();
    raw.store(24, &77_u64).unwrap();
    let mut receiver = Options::new().open_receiver(name.shm()).await.unwrap();
    let mut sender = bounded(opening).await.unwrap().unwrap();
    sender.send("at last").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "at last");
}

#[tokio::test]
async fn racing_starters_share_one_channel() {
    for _ in 0..50 {
        let name = Name::new();
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let shm = name.shm();
                std::thread::spawn(move || {
                    let options = Options::new().capacity(4096 << index);
                    match index % 2 {
                        0 => options.blocking_open_sender(shm).map(drop),
                        _ => options.blocking_open_receiver(shm).map(drop),
                    }
                })
            })
            .collect();
        for thread in threads {
            // Too small, or taken: never a mixture.
            if let Err(error) = thread.join().unwrap() {
                let kinds = [ErrorKind::InvalidInput, ErrorKind::Refused];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
        let mut sender = Options::new().open_sender(name.shm()).await.unwrap();
        let mut receiver = Options::new().open_receiver(name.shm()).await.unwrap();
        sender.send("x").await.unwrap();
        while bounded(receiver.recv()).await.unwrap().is_none() {}
    }
}

/// Polls a few times, then gives up.
struct Limited<F>(F, u32);

impl<F: Future + Unpin> Future for Limited<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.poll_unpin(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.1 == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.1 -= 1;
                Poll::Pending
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_up_after_each_poll() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let region = region();
        let (mut sender, mut receiver) = pair(&options().wait(wait), &region).await;
        let sending = tokio::spawn(async move {
            for number in 0..20_000 {
                let bytes = message(number);
                let mut polls = 0;
                while Limited(Box::pin(sender.send(&bytes)), polls % 3)
                    .await
                    .is_none()
                {
                    polls += 1;
                }
            }
        });
        let mut number = 0;
        let mut polls = 0;
        bounded(async {
            loop {
                polls += 1;
                match Limited(Box::pin(receiver.recv()), polls % 3).await {
                    // To give the sender its turn where there is one core.
                    None => tokio::task::yield_now().await,
                    Some(Ok(Some(bytes))) => {
                        assert_eq!(bytes, message(number));
                        number += 1;
                    }
                    Some(end) => break assert_eq!(end.unwrap(), None),
                }
            }
        })
        .await;
        assert_eq!(number, 20_000);
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_of_ten_thousand() {
    let name = Name::new();
    let keep = name.shm().size(4096 + 4096).open().unwrap();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (lines, fds) = (maps().lines().count(), descriptors());
    for number in 0..10_000_u64 {
        let mut sender = Options::new().open_sender(name.shm()).await.unwrap();
        let mut receiver = Options::new().open_receiver(name.shm()).await.unwrap();
        sender.send(number.to_le_bytes()).await.unwrap();
        drop(sender);
        let received = receiver.recv().await.unwrap().unwrap();
        assert_eq!(received, number.to_le_bytes()[..]);
        assert_eq!(receiver.recv().await.unwrap(), None);
    }
    // Other tests of this process open things too.
    assert!(maps().lines().count() < lines + 200 && descriptors() < fds + 100);
    let holder = keep.view::<AtomicU64>(SENDER).unwrap();
    assert_eq!(holder.load(Ordering::Relaxed), 0);
}

/// Words that no end would write, anywhere in the control part and the ring, before and while it is open: an error or
/// whatever was written there, and never a fault or a hang.
#[tokio::test]
async fn random_words() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let region = region();
    let mut blank = vec![0; region.len()];
    region.read(0, &mut blank).unwrap();
    for _ in 0..3000 {
        region.write(0, &blank).unwrap();
        let (mut sender, receiver) = pair(&options(), &region).await;
        for _ in 0..random(20) {
            let _full = sender.try_send(vec![7; random(200) as usize]);
        }
        if random(2) == 0 {
            drop((sender, receiver));
            spoil(&region, &mut random);
            let opened = options().open_sender(region.clone()).await;
            if let Ok(mut sender) = opened {
                for _ in 0..5 {
                    let _sent = sender.try_send([1; 100]);
                }
            }
            if let Ok(mut receiver) = options().open_receiver(region.clone()).await {
                for _ in 0..100 {
                    let _received = receiver.try_recv();
                }
            }
        } else {
            let mut receiver = receiver;
            for _ in 0..5 {
                spoil(&region, &mut random);
                for _ in 0..5 {
                    let _received = receiver.recv().now_or_never();
                    let _sent = sender.send([1; 100]).now_or_never();
                }
            }
        }
    }
}

fn spoil(region: &Region, random: &mut impl FnMut(u64) -> u64) {
    for _ in 0..=random(3) {
        // Those that mean something, most of the time.
        let offset = match random(4) {
            0 => 8 * random(6),
            1 => 128 + 8 * random(48),
            2 => 512 + 128 * random(4),
            _ => 8 * random(region.len() as u64 / 8),
        };
        let word = match random(4) {
            0 => random(1 << 16),
            1 => 8 * random(1 << 10),
            2 => random(u64::MAX),
            _ => u64::MAX - random(16),
        };
        region
            .store(usize::try_from(offset).unwrap(), &word)
            .unwrap();
    }
}
