//! Connections and descriptors that come and go leave nothing behind.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use sinew_integration_tests::{Random, Resources, Watchdog, limited, scaled};
use sinew_socket::tcp;
use sinew_socket::unix::{Message, datagram, seqpacket, stream};

const FULL: u64 = 100_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn descriptors_on_every_kind() {
    let _watchdog = Watchdog::new("descriptors_on_every_kind");
    let before = Resources::now();
    let mut random = Random::from_env("descriptors_on_every_kind");
    runtime().block_on(async {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"shared").unwrap();
        let some = |random: &mut Random, most: u64| -> Vec<OwnedFd> {
            let count = random.below(most + 1);
            (0..count)
                .map(|_| file.as_fd().try_clone_to_owned().unwrap())
                .collect()
        };
        let (mut left, mut right) = stream::Options::new().max_fds(4).pair().unwrap();
        let (mut one, mut other) = seqpacket::Options::new().max_fds(4).pair().unwrap();
        let (mut here, mut there) = datagram::Options::new().max_fds(4).pair().unwrap();
        let (mut passed, mut refused) = (0, 0);
        while passed < scaled(FULL) {
            let fds = some(&mut random, 6);
            let (count, is_allowed) = (fds.len(), fds.len() <= 4);
            passed += count as u64;
            refused += u64::from(!is_allowed);
            let message = Message::new(vec![1; count * 1000]).with_fds(fds);
            let received = match random.below(3) {
                0 => {
                    left.send(message).await.unwrap();
                    right.recv().await.map(Option::unwrap)
                }
                1 => {
                    one.send(message).await.unwrap();
                    other.recv().await.map(Option::unwrap)
                }
                _ => {
                    here.send(message).await.unwrap();
                    there.recv().await
                }
            };
            match received {
                Ok(message) => assert!(is_allowed && message.fds().len() == count),
                Err(error) => assert!(!is_allowed && error.is_recoverable(), "{error}"),
            }
        }
        assert!(passed < 20 || refused > 0);
        // Some that nobody receives.
        for _ in 0..3 {
            left.send(Message::new("unread").with_fds(some(&mut random, 4)))
                .await
                .unwrap();
            one.send(Message::new("unread").with_fds(some(&mut random, 4)))
                .await
                .unwrap();
        }
    });
    before.assert_back();
}

fn unix_connections() {
    let _watchdog = Watchdog::new("unix_connections");
    let directory = tempfile::tempdir().unwrap();
    let before = Resources::now();
    let mut random = Random::from_env("unix_connections");
    let mut resident = 0;
    runtime().block_on(async {
        let (at, packets_at) = (directory.path().join("s"), directory.path().join("p"));
        let mut listener = stream::Listener::bind(&at).await.unwrap();
        let mut packets = seqpacket::Listener::bind(&packets_at).await.unwrap();
        for round in 0..scaled(FULL) {
            match random.below(4) {
                0 => {
                    let mut client = stream::connect(&at).await.unwrap();
                    let mut server = listener.accept().await.unwrap();
                    client.send("ping").await.unwrap();
                    assert_eq!(server.recv().await.unwrap().unwrap().payload(), "ping");
                }
                1 => {
                    let mut client = seqpacket::connect(&packets_at).await.unwrap();
                    let (mut sender, _receiver) = packets.accept().await.unwrap().split();
                    sender.send("ping").await.unwrap();
                    drop(sender);
                    assert_eq!(client.recv().await.unwrap().unwrap().payload(), "ping");
                    assert!(client.recv().await.unwrap().is_none());
                }
                2 => {
                    // One that has gone before it is accepted.
                    drop(stream::connect(&at).await.unwrap());
                    let mut server = listener.accept().await.unwrap();
                    assert!(server.recv().await.unwrap_err().is_peer_crashed());
                }
                _ => {
                    let accept = std::pin::pin!(packets.accept());
                    let polls = u32::try_from(random.below(3)).unwrap();
                    assert!(limited(accept, polls, true).await.is_none());
                }
            }
            if round == scaled(FULL) / 10 {
                resident = Resources::resident();
            }
        }
    });
    before.assert_back();
    let grown = Resources::resident().saturating_sub(resident);
    assert!(grown < 16 << 20, "{} MiB more", grown >> 20);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

fn tcp_connections() {
    let _watchdog = Watchdog::new("tcp_connections");
    let before = Resources::now();
    runtime().block_on(async {
        // A reset leaves no port behind that would have to wait.
        let options = tcp::Options::new().linger(std::time::Duration::ZERO);
        let mut listener = options.bind("127.0.0.1:0").await.unwrap();
        for _ in 0..scaled(FULL) {
            let mut client = options.connect(listener.local_addr()).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            client.send("ping").await.unwrap();
            assert_eq!(server.recv().await.unwrap().unwrap(), "ping");
        }
    });
    before.assert_back();
}

/// One test, as what is left behind can be counted only while no other runs or begins.
#[test]
fn nothing_is_left_behind() {
    // The first runtime makes what all share, and is kept: the pipe for signals.
    drop(runtime());
    descriptors_on_every_kind();
    unix_connections();
    tcp_connections();
}
