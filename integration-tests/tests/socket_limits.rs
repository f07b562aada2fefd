//! Limits that are hit on purpose, and peers that are killed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use futures::StreamExt;
use rustix::net::{AddressFamily, SendFlags, SocketType};
use sinew_core::Error;
use sinew_integration_tests::{Peer, Watchdog, skip};
use sinew_socket::unix::{Message, seqpacket, stream};
use sinew_socket::{tcp, udp};

const PEER: &str = env!("CARGO_BIN_EXE_socket_peer");

fn is_half(error: &Error) {
    assert!(error.is_peer_crashed(), "{error}");
    assert!(error.to_string().contains("2 of 5 bytes"), "{error}");
}

/// A frame that was cut off is reported, and never delivered.
#[tokio::test]
async fn a_peer_that_is_killed_within_a_message() {
    let _watchdog = Watchdog::new("a_peer_that_is_killed_within_a_message");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s").display().to_string();
    let mut unix = stream::Listener::bind(&path).await.unwrap();
    let mut inet = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = inet.local_addr().to_string();

    let mut peer = Peer::start(PEER, &["half", "unix", &path]);
    let mut connection = unix.accept().await.unwrap();
    assert_eq!(peer.line(), "half");
    assert_eq!(connection.recv().await.unwrap().unwrap().payload(), "whole");
    assert!(connection.try_recv().unwrap_err().is_empty());
    peer.kill();
    is_half(&connection.recv().await.unwrap_err());
    is_half(&connection.recv().await.unwrap_err());

    let mut peer = Peer::start(PEER, &["half", "tcp", &address]);
    let mut connection = inet.accept().await.unwrap();
    assert_eq!(peer.line(), "half");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "whole");
    peer.kill();
    is_half(&connection.recv().await.unwrap_err());

    // What it was sent and never read makes the end a crash, between two messages too.
    let mut peer = Peer::start(PEER, &["half", "tcp", &address]);
    let mut connection = inet.accept().await.unwrap();
    assert_eq!(peer.line(), "half");
    connection.send("unread").await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "whole");
    peer.kill();
    assert!(connection.recv().await.unwrap_err().is_peer_crashed());
}

/// Accepting goes on after the limit of open files, and does not spin at it.
#[tokio::test]
async fn accepting_without_numbers() {
    let _watchdog = Watchdog::new("accepting_without_numbers");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s").display().to_string();
    let mut peer = Peer::start(PEER, &["shortage", "accept", &path]);
    assert_eq!(peer.line(), "listening");
    let mut connection = stream::connect(&path).await.unwrap();
    let message = connection.recv().await.unwrap().unwrap();
    assert_eq!(message.payload(), "accepted after all");
    let errors: u32 = peer.line().parse().unwrap();
    // 5, 10, 20, … ms apart.
    assert!((2..=12).contains(&errors), "{errors} errors");
    assert!(peer.wait().success());
}

fn files(count: usize) -> Vec<OwnedFd> {
    let file = std::fs::File::open("/dev/null").unwrap();
    let clone = || file.as_fd().try_clone_to_owned().unwrap();
    (0..count).map(|_| clone()).collect()
}

/// Descriptors for which the receiver has no numbers, or for a part of them.
#[tokio::test]
async fn receiving_without_numbers() {
    let _watchdog = Watchdog::new("receiving_without_numbers");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s").display().to_string();
    let mut peer = Peer::start(PEER, &["shortage", "recv", &path]);
    assert_eq!(peer.line(), "listening");
    let mut connection = seqpacket::connect(&path).await.unwrap();
    for _ in 0..2 {
        connection
            .send(Message::new("five").with_fds(files(5)))
            .await
            .unwrap();
        connection.send("none").await.unwrap();
    }
    assert_eq!(peer.line(), "done");
    assert!(peer.wait().success());
}

/// A reader that is slower than its peer, which is another process.
#[tokio::test]
async fn a_flood_of_packets() {
    let _watchdog = Watchdog::new("a_flood_of_packets");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s").display().to_string();
    let mut listener = seqpacket::Listener::bind(&path).await.unwrap();
    let mut peer = Peer::start(PEER, &["flood", &path, "20000"]);
    let mut connection = listener.accept().await.unwrap();
    for number in 0..20_000_u64 {
        let message = connection.recv().await.unwrap().unwrap();
        assert_eq!(message.payload()[..], number.to_le_bytes());
        if number % 5000 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(connection.recv().await.unwrap().is_none());
    assert!(peer.wait().success());
}

/// What a router answers where a link is too narrow is about one datagram, and the socket goes on.
#[tokio::test]
async fn a_path_that_is_too_narrow() {
    let _watchdog = Watchdog::new("a_path_that_is_too_narrow");
    let protocol = rustix::net::ipproto::ICMP;
    let raw = match rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol)) {
        Ok(raw) => raw,
        Err(errno) => {
            return skip(
                "a_path_that_is_too_narrow",
                &format!("raw sockets: {errno}"),
            );
        }
    };
    // An address of its own, since the kernel keeps what it is told of the path.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let far = Ipv4Addr::new(127, 83, high | 1, low);
    let mut server = udp::Socket::bind(format!("{far}:0")).await.unwrap();
    let mut client = udp::Socket::connect(server.local_addr()).await.unwrap();
    let answer = too_narrow(client.local_addr(), server.local_addr());
    for _ in 0..3 {
        client.send("wide").await.unwrap();
        assert_eq!(server.recv().await.unwrap().payload(), "wide");
        rustix::net::sendto(&raw, &answer, SendFlags::empty(), &client.local_addr()).unwrap();
        let error = client.next().await.unwrap().unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(
            (error.errno_name(), error.lost()),
            (Some("EMSGSIZE"), Some(1))
        );
    }
    // The next one may be told of it, when it is sent.
    rustix::net::sendto(&raw, &answer, SendFlags::empty(), &client.local_addr()).unwrap();
    let told = loop {
        match client.send("narrow").await {
            Ok(()) => assert_eq!(server.recv().await.unwrap().payload(), "narrow"),
            Err(told) => break told,
        }
    };
    assert!(
        told.is_recoverable() && told.to_string().contains("shorter ones"),
        "{told}"
    );
    client.send("narrow").await.unwrap();
    assert_eq!(server.recv().await.unwrap().payload(), "narrow");
    server
        .send(udp::Message::new("yes").with_address(client.local_addr()))
        .await
        .unwrap();
    assert_eq!(client.next().await.unwrap().unwrap().payload(), "yes");
}

/// An ICMP message (RFC 792, RFC 1191) about a datagram between these: fragmentation needed, 1400 bytes.
fn too_narrow(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(1400_u16.to_be_bytes());
    // The header of the datagram, of which the kernel looks at protocol and addresses.
    message.extend([0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    for address in [from, to] {
        let IpAddr::V4(ip) = address.ip() else {
            panic!("{address}");
        };
        message.extend(ip.octets());
    }
    for port in [from.port(), to.port()] {
        message.extend(port.to_be_bytes());
    }
    message.extend([0, 12, 0, 0]);
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}
