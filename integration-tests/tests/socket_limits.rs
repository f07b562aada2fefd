//! Limits that are hit on purpose, and peers that are killed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use sinew_core::Error;
use sinew_integration_tests::{Peer, Watchdog};
use sinew_socket::tcp;
use sinew_socket::unix::{Message, seqpacket, stream};

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
