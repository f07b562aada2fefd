//! Peers that are not admitted, or that only take up room, cost the others nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sinew_core::ErrorKind;
use sinew_integration_tests::{Hello, Honest, Offer, RawEnd, Resources, Server, Watchdog, Wire};
use sinew_shm::{Options, connect};

const DATA: u64 = 64 << 10;
/// For how long the close of a lingering socket blocks.
const LINGER: Duration = Duration::from_secs(8);
/// Less than that, and more than a busy machine takes.
const AT_ONCE: Duration = Duration::from_secs(4);

static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test while no other of this program runs, since it counts what the process holds.
///
/// With one thread, what blocks a worker blocks the test.
fn alone(name: &'static str, threads: usize, test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = Watchdog::new(name);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().unwrap().block_on(test);
}

/// Fails unless no more descriptors are open than `before`, and no helper thread is left.
///
/// Other threads are the test harness's, which starts one for each test that waits for its turn.
#[track_caller]
fn assert_back(before: Resources) {
    let threads = usize::MAX;
    Resources { threads, ..before }.assert_back();
    let is_closer = |task: &std::io::Result<std::fs::DirEntry>| {
        let name = task.as_ref().map(|task| task.path().join("comm"));
        name.is_ok_and(|name| {
            std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("sinew-closer"))
        })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_dir("/proc/self/task")
        .unwrap()
        .any(|task| is_closer(&task))
    {
        assert!(Instant::now() < deadline, "a helper thread is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A socket whose last close blocks until its peer has received everything, or `LINGER` is over.
fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65536]).is_ok() {}
    // A non-blocking socket would not linger.
    socket.set_nonblocking(false).unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(LINGER)).unwrap();
    (socket.into(), peer)
}

/// Lets the close of a lingering socket end.
fn let_go(mut peer: TcpStream) {
    peer.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_close_of_a_lingering_socket_blocks() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (socket, peer) = lingering();
    let (tell, told) = std::sync::mpsc::channel();
    let closing = std::thread::spawn(move || {
        drop(socket);
        tell.send(()).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    let_go(peer);
    closing.join().unwrap();
}

/// Packets that bring descriptors which nobody wants, before the handshake, during it and instead
/// of it.
#[test]
fn closing_what_a_peer_sends_blocks_nothing() {
    alone("closing_what_a_peer_sends_blocks_nothing", 1, async {
        let before = Resources::now();
        let hello = Hello::default().encode();
        let ready = Offer::new(3, DATA).encode();
        for (case, packets) in [
            ("a hello with it", vec![hello.clone()]),
            ("no hello at all", vec![vec![1, 2, 3]]),
            ("empty packets first", vec![vec![], vec![], vec![7]]),
            ("a hello, and too much with the ready", vec![hello, ready]),
        ] {
            let (ours, theirs) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::SEQPACKET,
                rustix::net::SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            let theirs = Wire::from(theirs);
            let (socket, peer) = lingering();
            let (last, first) = packets.split_last().unwrap();
            for packet in first {
                theirs.send(packet, &[]).unwrap();
            }
            theirs.send(last, &[socket.as_fd(); 60]).unwrap();
            drop(socket);
            let begun = Instant::now();
            let error = Options::new().accept_on(ours).await.unwrap_err();
            assert!(begun.elapsed() < AT_ONCE, "{case}: {:?}", begun.elapsed());
            let kinds = [ErrorKind::Protocol, ErrorKind::Closed];
            assert!(kinds.contains(&error.kind()), "{case}: {error}");
            assert!(theirs.is_hung_up(), "{case}");
            let_go(peer);
        }
        assert_back(before);
    });
}

/// An established peer sends what the protocol does not have, or leaves it in the socket.
#[test]
fn closing_what_an_established_peer_sends_blocks_nothing() {
    alone(
        "closing_what_an_established_peer_sends_blocks_nothing",
        1,
        async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("shm");
            let mut listener = Options::new().bind(&path).await.unwrap();
            let before = Resources::now();
            for (case, packet, receives) in [
                ("an unknown packet", 9, true),
                ("memory that is none", 2, true),
                ("memory that nobody asks for", 2, false),
                ("what is still in the queue", 9, false),
            ] {
                let raw = std::thread::spawn({
                    let path = path.clone();
                    move || RawEnd::connect(&path, DATA)
                });
                let mut channel = listener.accept().await.unwrap();
                let mut raw = raw.join().unwrap();
                let (socket, peer) = lingering();
                raw.wire.send(&[packet], &[socket.as_fd()]).unwrap();
                drop(socket);
                raw.announce(100);
                let begun = Instant::now();
                if receives {
                    let error = channel.recv().await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Protocol, "{case}: {error}");
                }
                drop(channel);
                assert!(begun.elapsed() < AT_ONCE, "{case}: {:?}", begun.elapsed());
                assert!(raw.wire.is_hung_up(), "{case}");
                let_go(peer);
            }
            assert_back(before);
        },
    );
}

/// The policy is asked before anything is received: a peer that is not admitted need not say
/// anything.
#[test]
fn a_peer_that_is_not_admitted_holds_nothing() {
    alone("a_peer_that_is_not_admitted_holds_nothing", 2, async {
        let server = Server::start(Options::new().max_handshakes(1).authorize(|_| false)).await;
        let before = Resources::now();
        let mut mutes = Vec::new();
        for count in 1..=50 {
            let wire = Wire::connect(&server.path);
            server.until_rejected(count, "mute").await;
            let (packet, fds) = wire.recv().expect("a reject");
            let reason = u64::from_le_bytes(packet[16..24].try_into().unwrap());
            assert_eq!((packet[8], reason, fds.len()), (4, 2, 0));
            assert!(wire.recv().is_none());
            mutes.push(wire);
        }
        // Their own ends are all that is left of them.
        let now = Resources::now();
        assert!(
            now.fds <= before.fds + mutes.len(),
            "{now:?} after {before:?}"
        );

        let (socket, peer) = lingering();
        let wire = Wire::connect(&server.path);
        let ours = match wire.send(&Hello::default().encode(), &[socket.as_fd()]) {
            Ok(()) => None,
            // The kernel refuses it (Linux 6.16), or the listener has hung up already.
            Err(Errno::PERM | Errno::PIPE) => Some(socket),
            Err(errno) => panic!("{errno}"),
        };
        let begun = Instant::now();
        server.until_rejected(51, "lingering").await;
        let error = connect(&server.path).await.unwrap_err();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("policy"), "{error}");
        let closing = std::thread::spawn(move || drop((ours, wire)));
        let_go(peer);
        closing.join().unwrap();
    });
}

/// A crowd that says nothing keeps nobody off for longer than a hello may take.
#[test]
fn a_crowd_of_mute_peers() {
    alone("a_crowd_of_mute_peers", 2, async {
        let server = Server::start(Options::new().hello_timeout(LINGER)).await;
        Honest::connect(&server.path).await.check().await;
        let mutes: Vec<Wire> = (0..600).map(|_| Wire::connect(&server.path)).collect();
        let begun = Instant::now();
        Honest::connect(&server.path).await.check().await;
        // 64 slots change hands every 50 ms.
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        drop(mutes);
    });
}

/// The same with peers that stop after their hello, for which the listener has made memory.
#[test]
fn a_crowd_that_stalls() {
    alone("a_crowd_that_stalls", 2, async {
        let options = Options::new()
            .max_handshakes(8)
            .handshake_timeout(Duration::from_secs(600));
        let server = Server::start(options).await;
        let before = Resources::now();
        let crowd: Vec<Wire> = (0..40)
            .map(|_| {
                let wire = Wire::connect(&server.path);
                wire.send(&Hello::default().encode(), &[]).unwrap();
                wire
            })
            .collect();
        let begun = Instant::now();
        Honest::connect(&server.path).await.check().await;
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        // A ring has three mappings, of which those that were displaced hold none.
        let grown = Resources::now().maps.saturating_sub(before.maps);
        assert!(grown <= (8 + 2) * 3, "{grown} mappings");
        drop(crowd);
    });
}

/// A peer that connects and says nothing has less time than a handshake.
#[test]
fn a_hello_has_a_deadline_of_its_own() {
    alone("a_hello_has_a_deadline_of_its_own", 2, async {
        let options = Options::new()
            .handshake_timeout(Duration::from_secs(600))
            .hello_timeout(Duration::from_millis(100));
        let server = Server::start(options).await;
        let mute = Wire::connect(&server.path);
        server.until_rejected(1, "mute").await;
        // Its process may only have had no processor: it may try again.
        let (packet, _) = mute.recv().expect("a reject");
        assert_eq!((packet[8], packet[16]), (4, 3));
        assert!(mute.is_hung_up());
        let wire = Wire::connect(&server.path);
        wire.send(&Hello::default().encode(), &[]).unwrap();
        let (packet, fds) = wire.recv().expect("an accept");
        assert_eq!((packet[8], fds.len()), (2, 2));
    });
}

/// A connector that is told to try again later does so, until it is told something else.
#[test]
fn a_busy_listener_is_asked_again() {
    alone("a_busy_listener_is_asked_again", 1, async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shm");
        let listener = Wire::listen(&path);
        let serving = std::thread::spawn(move || {
            for reason in [3, 3, 2] {
                let peer = listener.accept();
                peer.recv().expect("a hello");
                peer.send(&reject(reason), &[]).unwrap();
            }
            let peer = listener.accept();
            peer.send(&reject(3), &[]).unwrap();
        });
        let error = connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("policy"), "{error}");
        let options = Options::new().handshake_timeout(Duration::ZERO);
        let error = options.connect(&path).await.unwrap_err();
        let kinds = [ErrorKind::Refused, ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
        serving.join().unwrap();
    });
}

fn reject(reason: u64) -> Vec<u8> {
    let mut packet = Hello::default().encode();
    packet[8..].fill(0);
    packet[8] = 4;
    packet[16..24].copy_from_slice(&reason.to_le_bytes());
    packet
}
