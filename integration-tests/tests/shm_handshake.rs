//! A peer that breaks the handshake is turned away, or is an error of `connect`; others are not affected.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use sinew_core::ErrorKind;
use sinew_integration_tests::{
    BELL, Hello, Honest, Offer, PACKET, RawMemory, Resources, Server, Watchdog, Wire,
    epoll_instance, eventfd, scaled, wrong_bells, wrong_memories,
};
use sinew_shm::{Options, connect};
use tokio::runtime::Runtime;

const DATA: u64 = 64 << 10;
/// The feature bit of the doorbell.
const EPOLL_BELL: u64 = 1 << 2;
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

type Hostile = Box<dyn Fn(&Wire) + Send + Sync>;

fn cheat(
    name: impl Into<String>,
    hostile: impl Fn(&Wire) + Send + Sync + 'static,
) -> (String, Hostile) {
    (name.into(), Box::new(hostile))
}

fn hello(wire: &Wire, hello: Hello) {
    wire.send(&hello.encode(), &[]).unwrap();
}

/// Sends descriptors first of all. Since Linux 6.16, a listener has the kernel refuse them.
fn fds_first(wire: &Wire, packet: &[u8], fds: &[BorrowedFd<'_>]) {
    match wire.send(packet, fds) {
        Err(Errno::PERM) => wire.shutdown(rustix::net::Shutdown::Write),
        sent => sent.unwrap(),
    }
}

/// Says hello and gets an accept.
fn accepted(wire: &Wire) {
    hello(wire, Hello::default());
    let (packet, fds) = wire.recv().expect("an accept");
    assert_eq!((packet[8], fds.len()), (2, 2));
}

/// What a connector can do wrong before the channel stands.
fn wrong_connectors() -> Vec<(String, Hostile)> {
    let mut cases = vec![
        cheat("hangs up at once", |_| {}),
        cheat("shuts down", |wire| {
            wire.shutdown(rustix::net::Shutdown::Write)
        }),
        cheat("a zero-length packet", |wire| wire.send(&[], &[]).unwrap()),
        cheat("a doorbell", |wire| wire.send(&[BELL], &[]).unwrap()),
        cheat("wrong magic", |wire| {
            hello(
                wire,
                Hello {
                    magic: 1,
                    ..Hello::default()
                },
            )
        }),
        cheat("descriptors with a hello", |wire| {
            let fd = eventfd();
            fds_first(wire, &Hello::default().encode(), &[fd.as_fd()]);
        }),
        cheat("many descriptors with a hello", |wire| {
            let fd = eventfd();
            fds_first(wire, &Hello::default().encode(), &[fd.as_fd(); 60]);
        }),
        cheat("accept for a hello", |wire| {
            wire.send(&Offer::new(2, DATA).encode(), &[]).unwrap();
        }),
        cheat("ready for a hello", |wire| {
            let memory = RawMemory::new(DATA);
            fds_first(wire, &Offer::new(3, DATA).encode(), &memory.fds());
        }),
        cheat("gives up after the accept", accepted),
        cheat("a hello for a ready", |wire| {
            accepted(wire);
            hello(wire, Hello::default());
        }),
        cheat("a reject for a ready", |wire| {
            accepted(wire);
            wire.send(&Offer::new(4, DATA).encode(), &[]).unwrap();
        }),
        cheat("a zero-length packet for a ready", |wire| {
            accepted(wire);
            wire.send(&[], &[eventfd().as_fd()]).unwrap();
        }),
        cheat("no descriptor with a ready", |wire| {
            accepted(wire);
            wire.send(&Offer::new(3, DATA).encode(), &[]).unwrap();
        }),
        cheat("a bell that was not agreed on", |wire| {
            accepted(wire);
            let (memory, bell) = (RawMemory::new(DATA), epoll_instance());
            wire.send(&Offer::new(3, DATA).encode(), &memory.fds_and([&bell]))
                .unwrap();
        }),
        cheat("one descriptor with a ready", |wire| {
            accepted(wire);
            let memory = RawMemory::new(DATA);
            wire.send(&Offer::new(3, DATA).encode(), &memory.fds()[..1])
                .unwrap();
        }),
        cheat("three descriptors with a ready", |wire| {
            accepted(wire);
            let memory = RawMemory::new(DATA);
            wire.send(&Offer::new(3, DATA).encode(), &[memory.fds()[1]; 3])
                .unwrap();
        }),
        cheat("sixty descriptors with a ready", |wire| {
            accepted(wire);
            let memory = RawMemory::new(DATA);
            wire.send(&Offer::new(3, DATA).encode(), &[memory.fds()[1]; 60])
                .unwrap();
        }),
        cheat("a feature that was not agreed on", |wire| {
            accepted(wire);
            let (memory, bell) = (RawMemory::new(DATA), epoll_instance());
            let offer = Offer {
                features: EPOLL_BELL,
                ..Offer::new(3, DATA)
            };
            wire.send(&offer.encode(), &memory.fds_and([&bell]))
                .unwrap();
        }),
    ];
    for (least, most) in [(3, 9), (0, 1), (9, 1), (u16::MAX, u16::MAX)] {
        cases.push(cheat(format!("versions {least} to {most}"), move |wire| {
            let version = Hello {
                least,
                most,
                ..Hello::default()
            };
            hello(wire, version);
        }));
    }
    for version in [0, 1, 3, u16::MAX] {
        cases.push(cheat(format!("ready of version {version}"), move |wire| {
            accepted(wire);
            let memory = RawMemory::new(DATA);
            let offer = Offer {
                version,
                ..Offer::new(3, DATA)
            };
            wire.send(&offer.encode(), &memory.fds()).unwrap();
        }));
    }
    for len in [1, 8, 64, PACKET - 1, PACKET + 1, 4096] {
        cases.push(cheat(format!("a hello of {len} bytes"), move |wire| {
            let mut packet = Hello::default().encode();
            packet.resize(len, 0);
            wire.send(&packet, &[]).unwrap();
        }));
    }
    for kind in [0, 5, 77, u32::MAX] {
        cases.push(cheat(format!("packet kind {kind}"), move |wire| {
            wire.send(&Offer::new(kind, DATA).encode(), &[]).unwrap();
        }));
    }
    let sizes = [
        (0, DATA),
        (4097, DATA),
        (4 << 20, DATA),
        (u64::MAX, DATA),
        (4096, 0),
        (4096, 2048),
        (4096, DATA + 1),
        (4096, 3 * 4096),
        (4096, 1 << 29),
        (4096, 1 << 32),
        (4096, 1 << 63),
        (u64::MAX - 4095, u64::MAX),
    ];
    for (control, data) in sizes {
        cases.push(cheat(format!("layout {control}+{data}"), move |wire| {
            accepted(wire);
            let memory = RawMemory::new(DATA);
            let offer = Offer {
                control,
                data,
                ..Offer::new(3, DATA)
            };
            wire.send(&offer.encode(), &memory.fds()).unwrap();
        }));
    }
    for (name, fds) in wrong_memories(DATA) {
        cases.push(cheat(format!("memory: {name}"), move |wire| {
            accepted(wire);
            let fds = fds.each_ref().map(AsFd::as_fd);
            wire.send(&Offer::new(3, DATA).encode(), &fds).unwrap();
        }));
    }
    for (name, bell) in wrong_bells(DATA) {
        cases.push(cheat(format!("bell: {name}"), move |wire| {
            let with_bell = Hello {
                features: EPOLL_BELL,
                ..Hello::default()
            };
            hello(wire, with_bell);
            assert_eq!(wire.recv().expect("an accept").1.len(), 3);
            let memory = RawMemory::new(DATA);
            let offer = Offer {
                features: EPOLL_BELL,
                ..Offer::new(3, DATA)
            };
            wire.send(&offer.encode(), &memory.fds_and(&bell)).unwrap();
        }));
    }
    cases
}

#[test]
fn a_connector_that_breaks_the_handshake() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_connector_that_breaks_the_handshake");
    let cases = wrong_connectors();
    runtime().block_on(async {
        let server = Server::start(Options::new()).await;
        let mut honest = Honest::connect(&server.path).await;
        honest.check().await;
        let mut baseline = None;
        let mut rejected = 0;
        for _ in 0..scaled(20) {
            for (name, hostile) in &cases {
                let wire = Wire::connect(&server.path);
                tokio::task::block_in_place(|| hostile(&wire));
                if name.starts_with("hangs up") || name.starts_with("gives up") {
                    drop(wire);
                } else {
                    let hung_up = tokio::task::block_in_place(|| wire.is_hung_up());
                    assert!(hung_up, "{name}: was not hung up on");
                }
                rejected += 1;
                server.until_rejected(rejected, name).await;
                honest.check().await;
            }
            match baseline {
                None => baseline = Some((Resources::now(), Resources::resident())),
                Some((before, _)) => tokio::task::block_in_place(|| before.assert_back()),
            }
        }
        let (_, resident) = baseline.unwrap();
        assert!(Resources::resident() < resident + (32 << 20));
        println!("{} ways, {rejected} rejections", cases.len());
    });
}

/// Requests for what this version does not have are refused, and told apart.
#[test]
fn terms_that_a_listener_does_not_have() {
    let _alone = alone();
    let _watchdog = Watchdog::new("terms_that_a_listener_does_not_have");
    runtime().block_on(async {
        let server = Server::start(Options::new()).await;
        let right = Hello::default();
        let shape = |kind: u64, direction: u64, align: u64| Hello {
            shape: kind | direction << 16 | align << 32,
            ..right
        };
        let required = |required| Hello { required, ..right };
        let cases = [
            ("an unknown feature", required(1 << 63 | 1), 6, 1 << 63),
            ("another kind", shape(2, 0, 3), 7, 0),
            ("no kind", shape(0, 0, 3), 7, 0),
            ("one direction", shape(1, 1, 3), 7, 0),
            ("aligned to 16", shape(1, 0, 4), 8, 0),
            ("aligned to a page", shape(1, 0, 12), 8, 0),
            ("aligned to more", shape(1, 0, 13), 4, 0),
            ("hardly aligned", shape(1, 0, 2), 4, 0),
            (
                "typed payloads",
                Hello {
                    payload: 7,
                    ..right
                },
                8,
                0,
            ),
        ];
        for (count, (name, hello, reason, detail)) in (1..).zip(cases) {
            let wire = Wire::connect(&server.path);
            wire.send(&hello.encode(), &[]).unwrap();
            let answer = tokio::task::block_in_place(|| wire.recv());
            let (packet, _) = answer.expect("a reject");
            let word =
                |index: usize| u64::from_le_bytes(packet[8 * index..][..8].try_into().unwrap());
            assert_eq!((word(1), word(2), word(3)), (4, reason, detail), "{name}");
            server.until_rejected(count, name).await;
        }
        // Features that only somebody offers are left out.
        let wire = Wire::connect(&server.path);
        let offers = Hello {
            features: u64::MAX - 4,
            ..right
        };
        wire.send(&offers.encode(), &[]).unwrap();
        let (packet, _) = tokio::task::block_in_place(|| wire.recv()).expect("an accept");
        assert_eq!(packet[8], 2);
        let chosen = u64::from_le_bytes(packet[16..24].try_into().unwrap());
        assert!(
            chosen & !0b1011 == 0 && chosen & 0b1001 == 0b1001,
            "{chosen:#x}"
        );
    });
}

/// What a listener can do wrong before the channel stands, to be answered with an error by `connect`.
fn wrong_acceptors() -> Vec<(String, Hostile)> {
    fn said_hello(wire: &Wire) {
        let (packet, fds) = wire.recv().expect("a hello");
        assert_eq!((packet.len(), packet[8], fds.len()), (PACKET, 1, 0));
    }
    fn answer(offer: Offer, fds: &[BorrowedFd<'_>]) -> impl Fn(&Wire) + Send + Sync + use<> {
        let packet = offer.encode();
        let fds: Vec<OwnedFd> = fds
            .iter()
            .map(|fd| fd.try_clone_to_owned().unwrap())
            .collect();
        move |wire| {
            said_hello(wire);
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            wire.send(&packet, &fds).unwrap();
        }
    }
    let memory = RawMemory::new(DATA);
    let fds = memory.fds();
    let fd = fds[1];
    let right = Offer::new(2, DATA);
    let mut cases = vec![
        cheat("hangs up at once", |_| {}),
        cheat("hangs up after the hello", said_hello),
        cheat("a zero-length packet", |wire| {
            said_hello(wire);
            wire.send(&[], &[]).unwrap();
        }),
        cheat("a short packet", |wire| {
            said_hello(wire);
            wire.send(&[1, 2, 3], &[]).unwrap();
        }),
        cheat("a long packet", |wire| {
            said_hello(wire);
            wire.send(&[7; 4096], &[]).unwrap();
        }),
        cheat("a hello for a hello", |wire| {
            said_hello(wire);
            hello(wire, Hello::default());
        }),
        cheat("ready", answer(Offer::new(3, DATA), &fds)),
        cheat("unknown kind", answer(Offer::new(9, DATA), &fds)),
        cheat("no descriptor", answer(right, &[])),
        cheat("one descriptor", answer(right, &fds[..1])),
        cheat("three descriptors", answer(right, &[fd; 3])),
        cheat("sixty descriptors", answer(right, &[fd; 60])),
    ];
    fn said_ready(wire: &Wire) {
        said_hello(wire);
        let memory = RawMemory::new(DATA);
        let accept = Offer::new(2, DATA).encode();
        wire.send(&accept, &memory.fds()).unwrap();
        let (packet, fds) = wire.recv().expect("a ready");
        assert_eq!((packet.len(), packet[8], fds.len()), (PACKET, 3, 2));
    }
    cases.push(cheat("hangs up after the ready", said_ready));
    for kind in [0, 1, 2, 3, 4, 6] {
        cases.push(cheat(format!("{kind} for an open"), move |wire| {
            said_ready(wire);
            wire.send(&Offer::new(kind, DATA).encode(), &[]).unwrap();
        }));
    }
    cases.push(cheat("an open with a descriptor", |wire| {
        said_ready(wire);
        let open = Offer::new(5, DATA).encode();
        wire.send(&open, &[eventfd().as_fd()]).unwrap();
    }));
    cases.push(cheat(
        "an open for an accept",
        answer(Offer::new(5, DATA), &[]),
    ));
    cases.push(cheat("a bell for an open", |wire| {
        said_ready(wire);
        wire.send(&[BELL], &[]).unwrap();
    }));
    for version in [0, 1, 3, 99] {
        let offer = Offer { version, ..right };
        cases.push(cheat(format!("version {version}"), answer(offer, &fds)));
    }
    for features in [8, 12, u64::MAX] {
        let offer = Offer { features, ..right };
        cases.push(cheat(
            format!("features {features:#x}"),
            answer(offer, &[fds[0], fd, fd]),
        ));
    }
    for data in [0, 4095, 1 << 29, 1 << 40] {
        let offer = Offer { data, ..right };
        cases.push(cheat(format!("ring of {data}"), answer(offer, &fds)));
    }
    // With reason 3, busy, the connector would ask again.
    for reason in (0..10).filter(|&reason| reason != 3) {
        let offer = Offer {
            features: reason,
            ..Offer::new(4, DATA)
        };
        cases.push(cheat(format!("reject {reason}"), answer(offer, &[])));
    }
    for (name, fds) in wrong_memories(DATA) {
        let case = answer(right, &fds.each_ref().map(AsFd::as_fd));
        cases.push(cheat(format!("memory: {name}"), case));
    }
    for (name, bell) in wrong_bells(DATA) {
        let offer = Offer {
            features: EPOLL_BELL,
            ..right
        };
        let case = answer(offer, &memory.fds_and(&bell));
        cases.push(cheat(format!("bell: {name}"), case));
    }
    cases
}

#[test]
fn a_listener_that_breaks_the_handshake() {
    let _alone = alone();
    let _watchdog = Watchdog::new("a_listener_that_breaks_the_handshake");
    let cases = Arc::new(wrong_acceptors());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let listener = Wire::listen(&path);
    runtime().block_on(async {
        for index in 0..cases.len() {
            let (cases, listener) = (cases.clone(), listener.clone());
            let hostile = tokio::task::spawn_blocking(move || {
                let wire = listener.accept();
                cases[index].1(&wire);
                // What the connector says, if anything, until it hangs up.
                if !cases[index].0.starts_with("hangs up") {
                    assert!(wire.is_hung_up());
                }
                cases[index].0.clone()
            });
            let error = within("connect", connect(&path)).await.unwrap_err();
            let name = hostile.await.unwrap();
            let kinds = [
                ErrorKind::Protocol,
                ErrorKind::LimitExceeded,
                ErrorKind::Refused,
                ErrorKind::Unsupported,
                ErrorKind::Closed,
            ];
            assert!(kinds.contains(&error.kind()), "{name}: {error}");
            if name.starts_with("memory:") {
                assert_eq!(error.kind(), ErrorKind::Protocol, "{name}: {error}");
            }
            assert_eq!(
                error.address(),
                Some(format!("shm:{}", path.display()).as_str()),
                "{name}: {error}"
            );
        }
    });
}

/// Peers that stop at each step of the handshake: others connect meanwhile, and they are given up.
#[test]
fn peers_that_stall() {
    let _alone = alone();
    let _watchdog = Watchdog::new("peers_that_stall");
    runtime().block_on(async {
        let timeout = Duration::from_secs(2);
        let server = Server::start(Options::new().handshake_timeout(timeout)).await;
        Honest::connect(&server.path).await.check().await;
        let mut baseline = None;
        for round in 1..=scaled(20).max(2) {
            let stalled: Vec<Wire> = (0..30)
                .map(|index| {
                    let wire = Wire::connect(&server.path);
                    tokio::task::block_in_place(|| match index % 3 {
                        0 => {}
                        1 => hello(&wire, Hello::default()),
                        _ => accepted(&wire),
                    });
                    wire
                })
                .collect();
            for _ in 0..10 {
                Honest::connect(&server.path).await.check().await;
            }
            server.until_rejected(30 * round, "stalled").await;
            for wire in &stalled {
                assert!(tokio::task::block_in_place(|| wire.is_hung_up()));
            }
            drop(stalled);
            match baseline {
                None => baseline = Some(Resources::now()),
                Some(before) => tokio::task::block_in_place(|| before.assert_back()),
            }
        }

        // A listener that says nothing.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mute");
        let _mute = Wire::listen(&path);
        let options = Options::new().handshake_timeout(timeout);
        let error = within("mute", options.connect(&path)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("mute") && error.remedy().is_some());
    });
}
