//! An established end that breaks every rule gets nowhere: correct data or a typed error, and others are not
//! affected.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::SealFlags;
use sinew_core::{Error, ErrorKind, TryRecvError};
use sinew_integration_tests::{
    BELL, FRAME_DATA, FRAME_MEMORY, FRAME_SEGMENT_END, Hello, Honest, MEMORY, Offer, Random,
    RawEnd, RawMemory, Resources, SEGMENT, Server, Watchdog, Wire, frozen, hollow, memfd, scaled,
    wrong_memory,
};
use sinew_shm::{Batch, Channel, Options, Wait};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;

const DATA: u64 = 64 << 10;
/// No read of a hostile peer's may take longer than this.
const HANG: Duration = Duration::from_secs(20);

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Its helper threads end soon, so that they do not count as left behind.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_millis(100))
        .enable_all()
        .build()
        .unwrap()
}

async fn within<T>(case: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(HANG, future).await;
    result.unwrap_or_else(|_| panic!("{case}: hangs"))
}

/// What an established end may do wrong, and which half of the honest end finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Finds {
    /// `recv` fails with one of these.
    Receiver(&'static [ErrorKind]),
    /// `send` fails with one of these.
    Sender(&'static [ErrorKind]),
}

const BROKEN: &[ErrorKind] = &[ErrorKind::Corrupted, ErrorKind::Protocol];
const CORRUPTED: &[ErrorKind] = &[ErrorKind::Corrupted];
const PROTOCOL: &[ErrorKind] = &[ErrorKind::Protocol];
const CRASHED: &[ErrorKind] = &[ErrorKind::PeerCrashed];

type Established = (String, Finds, Box<dyn Fn(&mut RawEnd) + Send + Sync>);

fn breach(
    name: impl Into<String>,
    finds: Finds,
    hostile: impl Fn(&mut RawEnd) + Send + Sync + 'static,
) -> Established {
    (name.into(), finds, Box::new(hostile))
}

fn breaches() -> Vec<Established> {
    use Finds::{Receiver, Sender};
    let mut cases = vec![];
    // Express frames: longer than their words, longer than what is published, beginning before the oldest.
    for (len, published) in [(113_u64, 129 + 128), (104, 129 + 24), (24, 129 + 16)] {
        cases.push(breach(
            format!("express of {len} bytes, published {published}"),
            Receiver(CORRUPTED),
            move |end| {
                for _ in 0..8 {
                    end.frame(FRAME_DATA, &[1; 8]);
                }
                while end.their_released() < 128 {
                    std::thread::yield_now();
                }
                end.set(RawEnd::PUBLISHED + 8, 1 << 32 | len);
                end.set(RawEnd::PUBLISHED, published);
                end.ring();
            },
        ));
    }
    // Cursors of the producer, after eight good frames of 16 bytes.
    for published in [
        1,
        7,
        127,
        120,
        0,
        DATA + 256,
        128 + DATA + 8,
        1 << 40,
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
    ] {
        cases.push(breach(
            format!("published {published}"),
            Receiver(CORRUPTED),
            move |end| {
                for _ in 0..8 {
                    end.frame(FRAME_DATA, &[1; 8]);
                }
                while end.their_released() < 128 {
                    std::thread::yield_now();
                }
                end.set(RawEnd::PUBLISHED, published);
                end.ring();
            },
        ));
    }
    for claim in [9, 16, 4096, 65_528, 65_536, 65_537, u32::MAX - 7, u32::MAX] {
        cases.push(breach(
            format!("a frame that claims {claim} bytes"),
            Receiver(CORRUPTED),
            move |end| {
                end.stage(FRAME_DATA, claim, &[1; 8]);
                end.publish();
            },
        ));
    }
    for kind in [0, 3, 77, u32::MAX >> 1] {
        cases.push(breach(
            format!("a frame of kind {kind}"),
            Receiver(PROTOCOL),
            move |end| end.frame(kind, &[1; 8]),
        ));
        cases.push(breach(
            format!("memory announced by a frame of kind {kind}"),
            Receiver(PROTOCOL),
            move |end| {
                let memory = frozen(&[7; 100]);
                end.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
                end.frame(kind, &100u64.to_le_bytes());
            },
        ));
    }
    for released in [7, 1 << 40, u64::MAX, u64::MAX - 7] {
        cases.push(breach(
            format!("released {released}"),
            Sender(CORRUPTED),
            move |end| {
                end.set(RawEnd::RELEASED, released);
                end.ring();
            },
        ));
    }
    cases.push(breach("released goes back", Sender(CORRUPTED), |end| {
        while end.their_published() < 4096 {
            std::thread::yield_now();
        }
        end.set(RawEnd::RELEASED, end.their_published() & !7);
        end.ring();
        let deadline = Instant::now() + HANG;
        // Once it has gone round, it must have looked at what was released.
        while end.their_published() <= DATA + 16 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        end.set(RawEnd::RELEASED, 8);
        end.ring();
    }));
    for state in [3, 77, u64::from(u32::MAX)] {
        // A sender, and no receiver, can say with 3 that it was dropped.
        let state_of_sender = state.max(4);
        cases.push(breach(
            format!("sender state {state_of_sender}"),
            Receiver(CORRUPTED),
            move |end| {
                end.set(RawEnd::SENDER_STATE, state_of_sender);
                end.ring();
            },
        ));
        cases.push(breach(
            format!("receiver state {state}"),
            Sender(CORRUPTED),
            move |end| {
                end.set(RawEnd::RECEIVER_STATE, state);
                end.ring();
            },
        ));
    }
    cases.push(breach("aborts", Receiver(CORRUPTED), |end| {
        end.set(RawEnd::SENDER_STATE, 2);
        end.ring();
    }));
    cases.push(breach("aborts receiving", Sender(CORRUPTED), |end| {
        end.set(RawEnd::RECEIVER_STATE, 2);
        end.ring();
    }));
    cases.push(breach(
        "a frame without memory",
        Receiver(PROTOCOL),
        |end| {
            end.announce(100);
        },
    ));
    cases.push(breach(
        "too short a descriptor",
        Receiver(PROTOCOL),
        |end| {
            end.frame(FRAME_MEMORY, &[1; 4]);
        },
    ));
    cases.push(breach("too long a descriptor", Receiver(PROTOCOL), |end| {
        end.frame(FRAME_MEMORY, &[1; 16]);
    }));
    for (len, claim) in [
        (100, 101),
        (100, 99),
        (0, 1),
        (1, 0),
        (100, 1 << 20),
        (100, (1 << 30) + 1),
        (100, u64::MAX),
        (100, 1 << 63),
    ] {
        cases.push(breach(
            format!("memory of {len} announced as {claim}"),
            Receiver(PROTOCOL),
            move |end| {
                let memory = frozen(&vec![7; len]);
                end.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
                end.announce(claim);
            },
        ));
    }
    for (name, fd) in wrong_memory(4096 + DATA, RawMemory::SINGLE_WRITER) {
        // Those have the seals of a message, and more.
        if name.contains("immutable") || name.contains("also sealed") {
            continue;
        }
        cases.push(breach(
            format!("a message in memory: {name}"),
            Receiver(PROTOCOL),
            move |end| {
                end.wire.send(&[MEMORY], &[fd.as_fd()]).unwrap();
                end.announce(4096 + DATA);
            },
        ));
    }
    for seal in [
        SealFlags::WRITE,
        SealFlags::SHRINK,
        SealFlags::GROW,
        SealFlags::SEAL,
    ] {
        cases.push(breach(
            "a message without a seal",
            Receiver(PROTOCOL),
            move |end| {
                let memory = memfd(100, RawMemory::IMMUTABLE - seal);
                end.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
                end.announce(100);
            },
        ));
    }
    // Segments: seals, holes, sizes, numbers.
    for (name, fd) in wrong_memory(128 << 10, RawMemory::SINGLE_WRITER) {
        // A segment may have any size.
        if ["too small", "too large", "not a multiple of the page"].contains(&name) {
            continue;
        }
        cases.push(breach(
            format!("a segment: {name}"),
            Receiver(PROTOCOL),
            move |end| {
                let _refused = end.wire.try_send(&[SEGMENT], &[fd.as_fd()]);
                end.announce_segment(0, 100);
            },
        ));
    }
    for (number, len) in [
        (0, (64 << 10) + 1),
        (0, u64::MAX),
        (0, (1 << 30) + 1),
        (1, 10),
        (u64::MAX, 10),
    ] {
        cases.push(breach(
            format!("{len} bytes in segment {number}"),
            Receiver(PROTOCOL),
            move |end| {
                let segment = memfd(64 << 10, RawMemory::SINGLE_WRITER);
                end.wire.send(&[SEGMENT], &[segment.as_fd()]).unwrap();
                end.announce_segment(number, len);
            },
        ));
    }
    cases.push(breach(
        "a segment that was not sent",
        Receiver(PROTOCOL),
        |end| {
            end.announce_segment(0, 10);
        },
    ));
    cases.push(breach("the end of no segment", Receiver(PROTOCOL), |end| {
        end.frame(FRAME_SEGMENT_END, &[0; 8]);
    }));
    cases.push(breach("too large a segment", Receiver(PROTOCOL), |end| {
        let segment = hollow((128 << 20) + 4096, RawMemory::SINGLE_WRITER);
        end.wire.send(&[SEGMENT], &[segment.as_fd()]).unwrap();
        end.announce_segment(0, 10);
    }));
    cases.push(breach("a segment with holes", Receiver(PROTOCOL), |end| {
        let segment = hollow(64 << 10, RawMemory::SINGLE_WRITER);
        end.wire.send(&[SEGMENT], &[segment.as_fd()]).unwrap();
        end.announce_segment(0, 10);
    }));
    cases.push(breach("too many segments", Receiver(PROTOCOL), |end| {
        let segment = memfd(64 << 10, RawMemory::SINGLE_WRITER);
        for _ in 0..100 {
            let _hung_up = end.wire.try_send(&[SEGMENT], &[segment.as_fd()]);
        }
    }));
    cases.push(breach("too many memories", Receiver(PROTOCOL), |end| {
        let memory = frozen(b"once");
        for _ in 0..100 {
            let _hung_up = end.wire.try_send(&[MEMORY], &[memory.as_fd()]);
        }
    }));
    let packets: [(&str, Vec<u8>, usize); 9] = [
        ("an unknown packet", vec![77], 0),
        ("packet zero", vec![0], 0),
        ("a long bell", vec![BELL; 2], 0),
        ("a longer bell", vec![BELL; 8], 0),
        ("an overlong packet", vec![BELL; 9], 0),
        ("a huge packet", vec![BELL; 60_000], 0),
        ("a bell with a descriptor", vec![BELL], 1),
        ("memory without a descriptor", vec![MEMORY], 0),
        ("memory with two descriptors", vec![MEMORY], 2),
    ];
    for (name, bytes, fds) in packets {
        cases.push(breach(name, Receiver(PROTOCOL), move |end| {
            let memory = frozen(b"once");
            end.wire.send(&bytes, &vec![memory.as_fd(); fds]).unwrap();
        }));
    }
    cases.push(breach("sixty descriptors", Receiver(PROTOCOL), |end| {
        let memory = frozen(b"once");
        end.wire.send(&[MEMORY], &[memory.as_fd(); 60]).unwrap();
    }));
    // A zero-length packet cannot be told from a hang-up, and costs its sender the channel.
    cases.push(breach("a zero-length packet", Receiver(CRASHED), |end| {
        end.wire.send(&[], &[]).unwrap();
    }));
    cases.push(breach("half a hang-up", Receiver(CRASHED), |end| {
        end.wire.shutdown(rustix::net::Shutdown::Write);
    }));
    cases.push(breach("a hang-up", Receiver(CRASHED), |end| {
        end.wire.shutdown(rustix::net::Shutdown::Both);
    }));
    cases.push(breach(
        "good frames, then a bad one",
        Receiver(BROKEN),
        |end| {
            for _ in 0..100 {
                end.frame(FRAME_DATA, b"good");
            }
            end.frame(99, b"bad");
        },
    ));
    cases
}

/// Uses the honest end until the half that is meant fails.
async fn until_found(channel: &mut Channel, finds: Finds, way: usize) -> Error {
    match finds {
        Finds::Receiver(_) => {
            let receiver = channel.receiver();
            let mut batch = Batch::new();
            loop {
                let result = match way {
                    0 => receiver.recv().await.map(|message| {
                        let message = message.expect("no clean end");
                        assert!(
                            [&b"good"[..], &[1; 8]].contains(&&message[..]),
                            "{message:?}"
                        );
                    }),
                    1 => receiver.recv_batch(&mut batch).await.map(|count| {
                        assert!(count > 0, "no clean end");
                    }),
                    _ => tokio::task::block_in_place(|| receiver.blocking_recv()).map(|message| {
                        assert!(message.is_some(), "no clean end");
                    }),
                };
                if let Err(error) = result {
                    return error;
                }
            }
        }
        Finds::Sender(_) => loop {
            let result = match way {
                0 => channel.send([5; 1000]).await,
                1 => channel.sender().send_batch([[5; 1000]; 3]).await.map(drop),
                _ => tokio::task::block_in_place(|| channel.blocking_send([5; 1000])),
            };
            if let Err(error) = result {
                return error;
            }
        },
    }
}

#[test]
fn an_end_that_breaks_the_rules() {
    let _alone = alone();
    let _watchdog = Watchdog::new("an_end_that_breaks_the_rules");
    let cases = Arc::new(breaches());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let raw_path = directory.path().join("raw");
    let raw_listener = Wire::listen(&raw_path);
    runtime().block_on(async {
        let server = Server::start(Options::new()).await;
        let mut honest = Honest::connect(&server.path).await;
        let options = Options::new().capacity(DATA);
        let mut listener = options.bind(&path).await.unwrap();
        let mut baseline = None;
        for round in 0..scaled(20).max(3) {
            for index in 0..cases.len() {
                let way = (usize::try_from(round).unwrap() + index) % 3;
                let wait = [Wait::Adaptive, Wait::Park, Wait::Spin][index % 3];
                let raw = if round % 2 == 0 {
                    let path = path.clone();
                    tokio::task::spawn_blocking(move || RawEnd::connect(&path, DATA))
                } else {
                    let listener = raw_listener.clone();
                    tokio::task::spawn_blocking(move || RawEnd::accept(&listener, DATA))
                };
                let mut channel = if round % 2 == 0 {
                    listener.accept().await.unwrap()
                } else {
                    options.connect(&raw_path).await.unwrap()
                };
                channel.receiver().set_wait(wait);
                channel.sender().set_wait(wait);
                let mut raw = raw.await.unwrap();
                let finds = cases[index].1;

                let hostile = {
                    let cases = cases.clone();
                    tokio::task::spawn_blocking(move || {
                        cases[index].2(&mut raw);
                        raw
                    })
                };
                let name = &cases[index].0;
                let found = until_found(&mut channel, finds, way);
                let error = within(name, found).await;
                let raw = within(name, hostile).await.unwrap();
                let (Finds::Receiver(kinds) | Finds::Sender(kinds)) = finds;
                assert!(kinds.contains(&error.kind()), "{name}: {error}");
                assert!(error.address().is_some(), "{name}: {error}");
                // It stays that way.
                let again = within(name, until_found(&mut channel, finds, way)).await;
                assert_eq!(again.kind(), error.kind(), "{name}: {again}");
                drop(channel);
                assert!(tokio::task::block_in_place(|| raw.wire.is_hung_up()));
                drop(raw);
                if index.is_multiple_of(8) {
                    honest.check().await;
                }
            }
            match baseline {
                None => baseline = Some((Resources::now(), Resources::resident())),
                Some((before, _)) => tokio::task::block_in_place(|| before.assert_back()),
            }
        }
        let (_, resident) = baseline.unwrap();
        assert!(Resources::resident() < resident + (32 << 20));
        println!("{} ways to break the rules", cases.len());
    });
}

/// Correct frames from a peer that never rings are found by an end that spins, and do not hang one
/// that parks for longer than the peer takes to hang up.
#[test]
fn a_peer_that_never_rings() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_peer_that_never_rings");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    runtime().block_on(async {
        let options = Options::new().capacity(DATA);
        let mut listener = options.bind(&path).await.unwrap();
        for wait in [Wait::Spin, Wait::Park] {
            let raw = tokio::task::spawn_blocking({
                let path = path.clone();
                move || RawEnd::connect(&path, DATA)
            });
            let mut channel = listener.accept().await.unwrap();
            channel.receiver().set_wait(wait);
            let mut raw = raw.await.unwrap();
            let quiet = std::thread::spawn(move || {
                for number in 0..100u32 {
                    raw.stage(FRAME_DATA, 4, &number.to_le_bytes());
                    raw.set(RawEnd::PUBLISHED, raw.position);
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
            for number in 0..100u32 {
                let message = within("a quiet peer", channel.recv()).await;
                assert_eq!(message.unwrap().unwrap(), number.to_le_bytes()[..]);
            }
            let error = within("a quiet peer", channel.recv()).await.unwrap_err();
            assert!(error.is_peer_crashed(), "{error}");
            quiet.join().unwrap();
        }
    });
}

/// A receiver passes over frames of kinds that a later version may add, in each of its ways, and
/// gets what lies between them.
#[test]
fn frames_that_may_be_skipped_are() {
    let _alone = alone();
    let _watchdog = Watchdog::new("frames_that_may_be_skipped_are");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    runtime().block_on(async {
        let options = Options::new().capacity(DATA);
        let mut listener = options.bind(&path).await.unwrap();
        for way in 0..4 {
            let raw = tokio::task::spawn_blocking({
                let path = path.clone();
                move || RawEnd::connect(&path, DATA)
            });
            let mut channel = listener.accept().await.unwrap();
            let mut raw = raw.await.unwrap();
            let later = std::thread::spawn(move || {
                for number in 0..100u32 {
                    for kind in [1 << 31, u32::MAX] {
                        raw.frame(kind, &[9; 40]);
                    }
                    raw.frame(FRAME_DATA, &number.to_le_bytes());
                    std::thread::sleep(Duration::from_micros(50));
                }
                raw.frame(1 << 31, b"");
            });
            let receiver = channel.receiver();
            let mut batch = Batch::new();
            let mut received = Vec::new();
            let error = loop {
                let item = match way {
                    0 => within("recv", receiver.recv()).await.map(Option::unwrap),
                    1 => within("batch", receiver.recv_batch(&mut batch))
                        .await
                        .map(|_| {
                            let mut messages: Vec<_> = batch.iter().map(<[u8]>::to_vec).collect();
                            let last = messages.pop().unwrap();
                            received.extend(messages);
                            last.into()
                        }),
                    2 => {
                        tokio::task::block_in_place(|| receiver.blocking_recv()).map(Option::unwrap)
                    }
                    _ => match receiver.try_recv() {
                        Ok(message) => Ok(message),
                        Err(TryRecvError::Empty) => {
                            tokio::task::yield_now().await;
                            continue;
                        }
                        Err(TryRecvError::Failed(error)) => Err(error),
                        Err(error) => panic!("{error}"),
                    },
                };
                match item {
                    Ok(message) => received.push(message.to_vec()),
                    Err(error) => break error,
                }
            };
            assert!(error.is_peer_crashed(), "{error}");
            let sent = (0..100u32).map(|number| number.to_le_bytes().to_vec());
            assert!(received.into_iter().eq(sent), "way {way}");
            later.join().unwrap();
        }
    });
}

/// Doorbells at full speed, from as many threads as there are processors: a task of the same worker
/// still gets its turn.
#[test]
fn a_flood_of_bells() {
    let _alone = alone();
    let _watchdog = Watchdog::within("a_flood_of_bells", Duration::from_secs(60));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut listener = Options::new().bind(&path).await.unwrap();
        let raw = tokio::task::spawn_blocking({
            let path = path.clone();
            move || RawEnd::connect(&path, DATA)
        });
        let mut channel = listener.accept().await.unwrap();
        let mut raw = raw.await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let floods: Vec<_> = (0..std::thread::available_parallelism().unwrap().get())
            .map(|_| {
                let (wire, stop) = (raw.wire.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut count = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        count += u64::from(wire.try_send(&[BELL], &[]).is_ok());
                    }
                    count
                })
            })
            .collect();
        let flooded = tokio::spawn(async move {
            assert_eq!(channel.recv().await.unwrap().unwrap(), "the end");
        });
        let begun = Instant::now();
        let (mut turns, mut longest) = (0, Duration::ZERO);
        let (mut left, mut right) = sinew_shm::pair().unwrap();
        while begun.elapsed() < Duration::from_secs(2) {
            let turn = Instant::now();
            left.send("ping").await.unwrap();
            assert_eq!(right.recv().await.unwrap().unwrap(), "ping");
            tokio::task::yield_now().await;
            longest = longest.max(turn.elapsed());
            turns += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let bells: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        raw.frame(FRAME_DATA, b"the end");
        within("after the flood", flooded).await.unwrap();
        println!("{bells} bells in 2 s; {turns} turns for others, the longest {longest:?}");
        // Starved, it would have one turn or two. How many more it has is the scheduler's business, which
        // shares the processors with the flood and with whatever else runs.
        assert!(
            turns > 20,
            "{turns} turns for others, the longest {longest:?}"
        );
    });
}

/// A ring or a message that is announced large and was never allocated costs the honest end no
/// memory.
#[test]
fn memory_with_holes() {
    let _alone = alone();
    let _watchdog = Watchdog::new("memory_with_holes");
    const LARGE: u64 = 128 << 20;
    runtime().block_on(async {
        let server = Server::start(Options::new()).await;
        let before = Resources::resident();
        tokio::task::block_in_place(|| {
            let wire = Wire::connect(&server.path);
            wire.send(&Hello::default().encode(), &[]).unwrap();
            wire.recv().expect("an accept");
            let control = memfd(4096, RawMemory::FIXED_SIZE);
            let data = hollow(LARGE, RawMemory::SINGLE_WRITER);
            let fds = [control.as_fd(), data.as_fd()];
            wire.send(&Offer::new(3, LARGE).encode(), &fds).unwrap();
            assert!(wire.is_hung_up());
        });
        server.until_rejected(1, "a ring with holes").await;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shm");
        let mut listener = Options::new().bind(&path).await.unwrap();
        let raw = tokio::task::spawn_blocking(move || RawEnd::connect(&path, DATA));
        let mut channel = listener.accept().await.unwrap();
        let mut raw = raw.await.unwrap();
        let memory = hollow(LARGE, RawMemory::IMMUTABLE);
        raw.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
        raw.announce(LARGE);
        let error = within("holes", channel.recv()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("allocated"), "{error}");
        assert_eq!(rustix::fs::fstat(&memory).unwrap().st_blocks, 0);
        let grown = Resources::resident().saturating_sub(before);
        assert!(grown < LARGE / 4, "{} MiB more", grown >> 20);
    });
}

/// What the scribbler writes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// Everything.
    All,
    /// The ring's bytes, lengths and kinds among them.
    Data,
    /// The wait words.
    Waits,
    /// The cursors and states, with values that nearly make sense.
    Control,
    /// The control words of the honest end, which only that should write; now and then it takes all away.
    Theirs,
}

fn scribble(raw: &RawEnd, random: &mut Random, target: Target, count: u64) {
    let words = raw.ours.len() as u64 / 8;
    for _ in 0..count {
        let (offset, word) = match target {
            Target::All => (random.below(words) * 8, random.next()),
            Target::Data => {
                let offset = 4096 + random.below(words - 512) * 8;
                let header = random.below(4) << 32 | random.below(2000);
                let wild = random.next();
                (offset, random.pick(&[header, header, wild]))
            }
            Target::Theirs => {
                if random.below(1000) == 0 {
                    raw.punch();
                }
                let word = random.pick(&[0, 1, 16, 17, 32, 48, 49]);
                raw.set_theirs(8 * word, random.next());
                continue;
            }
            Target::Waits => {
                let offset = random.pick(&[RawEnd::SENDER_WAIT, RawEnd::RECEIVER_WAIT]);
                (offset as u64, random.next())
            }
            Target::Control => {
                let express = RawEnd::PUBLISHED + 8;
                let offset = random.pick(&[
                    RawEnd::PUBLISHED,
                    RawEnd::PUBLISHED,
                    express,
                    RawEnd::RELEASED,
                    RawEnd::SENDER_STATE,
                    RawEnd::RECEIVER_STATE,
                ]);
                let near = raw.their_released() + random.below(4096) * 8;
                let far = raw.their_published().wrapping_sub(random.below(64) * 8);
                let word = if offset == RawEnd::SENDER_STATE || offset == RawEnd::RECEIVER_STATE {
                    random.below(4) / 3
                } else if offset == express {
                    random.below(3) << 32 | random.below(130)
                } else if offset == RawEnd::PUBLISHED && random.below(2) == 0 {
                    raw.their_released() + random.below(17) * 8 + 1
                } else {
                    random.pick(&[near, near, far])
                };
                (offset as u64, word)
            }
        };
        raw.set(usize::try_from(offset).unwrap(), word);
    }
}

/// A peer that writes random words all over its memory while the honest end sends and receives.
#[test]
fn a_peer_that_scribbles() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_peer_that_scribbles");
    let mut random = Random::from_env("a_peer_that_scribbles");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let runtime = runtime();
    let total = scaled(10_000_000);
    runtime.block_on(async {
        let server = Server::start(Options::new()).await;
        let mut honest = Honest::connect(&server.path).await;
        let options = Options::new().capacity(DATA);
        let mut listener = options.bind(&path).await.unwrap();
        let mut resident = None;
        let (mut written, mut channels, mut messages, mut round) = (0, 0u32, 0u64, 0usize);
        let mut found = std::collections::BTreeMap::new();
        while written < total {
            let target = [
                Target::All,
                Target::Data,
                Target::Waits,
                Target::Control,
                Target::Theirs,
            ][round % 5];
            let writes = 10_000;
            round += 1;
            let mut hostile_random = Random::new(random.next());
            let path = path.clone();
            let raw = tokio::task::spawn_blocking(move || RawEnd::connect(&path, DATA));
            let channel = listener.accept().await.unwrap();
            let mut raw = raw.await.unwrap();
            let hostile = tokio::task::spawn_blocking(move || {
                // Good frames at first, so that there is something to lie about.
                let mut written = 0;
                while written < writes {
                    if target != Target::All && target != Target::Control {
                        for _ in 0..20 {
                            if raw.has_room(512) {
                                raw.frame(FRAME_DATA, &[9; 512]);
                            }
                        }
                        let published = raw.their_published();
                        raw.set(RawEnd::RELEASED, published);
                    }
                    scribble(&raw, &mut hostile_random, target, 500);
                    written += 500;
                    raw.ring();
                }
                written
            });
            let (mut sender, mut receiver) = channel.split();
            sender.set_wait(Wait::Park);
            let sends = async {
                loop {
                    if let Err(error) = sender.send([3; 700]).await {
                        return error;
                    }
                }
            };
            let receives = async {
                let mut batch = Batch::new();
                let mut count = 0;
                loop {
                    let result = if count % 2 == 0 {
                        receiver.recv_batch(&mut batch).await
                    } else {
                        receiver
                            .recv()
                            .await
                            .map(|message| usize::from(message.is_some()))
                    };
                    match result {
                        Ok(0) => return (count, None),
                        Ok(_) => count += 1,
                        Err(error) => return (count, Some(error)),
                    }
                }
            };
            let ((count, received), sent) =
                within("scribbling", futures::future::join(receives, sends)).await;
            messages += count;
            for error in received.iter().chain([&sent]) {
                let kinds = [
                    ErrorKind::Corrupted,
                    ErrorKind::Protocol,
                    ErrorKind::PeerCrashed,
                    ErrorKind::Closed,
                ];
                assert!(kinds.contains(&error.kind()), "{target:?}: {error}");
                *found.entry(format!("{:?}", error.kind())).or_insert(0u32) += 1;
            }
            channels += 1;
            // Both halves are given up: the peer may go on with its memory, and reaches nobody.
            drop((sender, receiver));
            written += hostile.await.unwrap();
            honest.check().await;
            if channels == 5 {
                resident = Some((Resources::now(), Resources::resident()));
            }
        }
        println!("{written} words over {channels} channels, {messages} receives; found {found:?}");
        if let Some((before, resident)) = resident {
            tokio::task::block_in_place(|| before.assert_back());
            assert!(Resources::resident() < resident + (32 << 20));
        }
    });
}

/// Bytes are read as a stream from a peer that lies in the middle of one.
#[test]
fn a_byte_stream_from_a_liar() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_byte_stream_from_a_liar");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    runtime().block_on(async {
        let mut listener = Options::new().bind(&path).await.unwrap();
        let raw = tokio::task::spawn_blocking(move || RawEnd::connect(&path, DATA));
        let mut stream = listener.accept().await.unwrap().into_byte_stream();
        let mut raw = raw.await.unwrap();
        raw.frame(FRAME_DATA, &[6; 1000]);
        let mut part = [0; 100];
        stream.read_exact(&mut part).await.unwrap();
        // The frame that is half read changes its length, and its bytes.
        raw.set(4096, u64::from(u32::MAX));
        let mut rest = [0; 900];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, [6; 900]);
        raw.stage(FRAME_DATA, u32::MAX, &[0; 8]);
        raw.publish();
        let error = within("a liar", stream.read(&mut part)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        assert!(Error::from(error).is_corrupted());
    });
}

/// Messages in memory of their own that the receiver keeps: they do not use up the process's
/// mappings.
#[test]
fn many_messages_in_memory_are_kept() {
    let _alone = alone();
    let _watchdog = Watchdog::new("many_messages_in_memory_are_kept");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    runtime().block_on(async {
        let mut listener = Options::new().bind(&path).await.unwrap();
        let before = Resources::now().maps;
        for (len, count, most) in [(1, 5000, 10), (100_000, 1100, 1024 + 10)] {
            let path = path.clone();
            let raw = tokio::task::spawn_blocking(move || RawEnd::connect(&path, DATA));
            let mut channel = listener.accept().await.unwrap();
            let mut raw = raw.await.unwrap();
            let sending = tokio::task::spawn_blocking(move || {
                for index in 0..count {
                    // A frame has 16 bytes, and 16 messages may be under way.
                    while raw.position - raw.their_released() >= 16 * 16 {
                        std::thread::yield_now();
                    }
                    let memory = frozen(&vec![u8::try_from(index % 251).unwrap(); len]);
                    raw.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
                    raw.announce(len as u64);
                }
                raw
            });
            let mut kept = Vec::new();
            for _ in 0..count {
                kept.push(within("memory", channel.recv()).await.unwrap().unwrap());
            }
            let grown = Resources::now().maps - before;
            // Some more are the ring's.
            assert!(
                grown <= most,
                "{grown} mappings of {count} messages of {len} bytes"
            );
            for (index, message) in kept.iter().enumerate() {
                assert!(
                    message.len() == len
                        && message.iter().all(|byte| usize::from(*byte) == index % 251)
                );
            }
            drop(sending.await.unwrap());
        }
    });
}
