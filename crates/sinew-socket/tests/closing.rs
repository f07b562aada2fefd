//! What `close` waits for, and what it says of a peer that has gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use sinew_core::ErrorKind;
use sinew_socket::{tcp, unix};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

/// Whether it is still waiting after a while.
async fn waits<T>(work: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(100), work)
        .await
        .is_err()
}

async fn tcp_pair() -> (tcp::Connection, tcp::Connection) {
    let mut listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) = tokio::join!(tcp::connect(listener.local_addr()), listener.accept());
    (client.unwrap(), server.unwrap())
}

macro_rules! unix_close {
    ($waits:ident, $gone:ident, $kind:ident) => {
        #[tokio::test]
        async fn $waits() {
            for count in [1, 100] {
                let (left, mut right) = unix::$kind::pair().unwrap();
                let mut left = left.into_sender();
                for _ in 0..count {
                    left.send("message").await.unwrap();
                }
                // Given up, and called again.
                assert!(waits(left.close()).await, "it does not wait");
                let reading = tokio::spawn(async move {
                    for _ in 0..count {
                        assert!(right.recv().await.unwrap().is_some());
                    }
                    assert!(right.recv().await.unwrap().is_none());
                });
                bounded(left.close()).await.unwrap();
                bounded(left.close()).await.unwrap();
                bounded(reading).await.unwrap();
            }
        }

        #[tokio::test]
        async fn $gone() {
            let (left, mut right) = unix::$kind::pair().unwrap();
            let mut left = left.into_sender();
            // More than is read at a time.
            for _ in 0..4 {
                bounded(left.send(vec![7; 30_000])).await.unwrap();
            }
            assert!(right.recv().await.unwrap().is_some());
            let closing = tokio::spawn(async move {
                let closed = left.close().await.unwrap_err();
                // Said again.
                let again = left.close().await.unwrap_err();
                (closed, again)
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(right);
            let (closed, again) = bounded(closing).await.unwrap();
            assert!(closed.is_peer_crashed(), "{closed}");
            assert!(again.is_peer_crashed(), "{again}");
        }
    };
}

unix_close!(a_stream_waits, a_stream_whose_peer_goes, stream);
unix_close!(packets_wait, packets_whose_peer_goes, seqpacket);

/// A peer that has dropped its receiver, and nothing else, does not keep the other end waiting.
#[tokio::test]
async fn a_stream_that_nobody_receives() {
    let (left, right) = unix::stream::pair().unwrap();
    let mut left = left.into_sender();
    left.send("message").await.unwrap();
    let (_sender, receiver) = right.split();
    let closing = tokio::spawn(async move { left.close().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(receiver);
    let error = bounded(closing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// A sender alone takes what comes while it waits, so that the peer can go on.
#[tokio::test]
async fn a_sender_alone_takes_answers_while_it_waits() {
    let (left, mut right) = unix::stream::pair().unwrap();
    let mut left = left.into_sender();
    for _ in 0..20 {
        bounded(left.send(vec![7; 1000])).await.unwrap();
    }
    let answering = tokio::spawn(async move {
        let mut count = 0;
        // The other end goes once everything is read, also before it has had the last answers.
        while let Ok(Some(_)) = right.recv().await {
            let _unwanted = right.send(vec![7; 100_000]).await;
            count += 1;
        }
        count
    });
    bounded(left.close()).await.unwrap();
    drop(left);
    assert_eq!(bounded(answering).await.unwrap(), 20);
}

/// A foreign peer reads when it likes.
#[tokio::test]
async fn a_foreign_peer_that_is_slow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut listener = unix::stream::Listener::bind(&path).await.unwrap();
    let mut foreign = UnixStream::connect(&path).unwrap();
    let mut server = listener.accept().await.unwrap().into_sender();
    server.send("hello").await.unwrap();
    foreign.read_exact(&mut [0; 5]).unwrap();
    assert!(waits(server.close()).await, "half of a message is read");
    foreign.read_exact(&mut [0; 4]).unwrap();
    bounded(server.close()).await.unwrap();
    assert_eq!(foreign.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn tcp_alone_waits_for_the_peers_end() {
    let (client, server) = tcp_pair().await;
    let mut sender = client.into_sender();
    sender.send("message").await.unwrap();
    assert!(waits(sender.close()).await, "it does not wait");
    let mut receiver = server.into_receiver();
    assert_eq!(bounded(receiver.recv()).await.unwrap().unwrap(), "message");
    // The receiver has come to the end, and lives on.
    assert!(bounded(receiver.recv()).await.unwrap().is_none());
    bounded(sender.close()).await.unwrap();
}

#[tokio::test]
async fn tcp_whose_peer_goes_without_having_read() {
    let (client, server) = tcp_pair().await;
    let mut sender = client.into_sender();
    sender.send("message").await.unwrap();
    let closing = tokio::spawn(async move { sender.close().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(server.into_receiver());
    let error = bounded(closing).await.unwrap().unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
}

/// With both halves in hand, it does not wait: the peer may wait for its answers to be received
/// first.
macro_rules! with_both_halves {
    ($name:ident, $pair:expr) => {
        #[tokio::test]
        async fn $name() {
            let (mut client, mut server) = $pair;
            for _ in 0..3 {
                client.send("request").await.unwrap();
            }
            bounded(client.close()).await.unwrap();
            let serving = tokio::spawn(async move {
                while let Some(_request) = server.recv().await.unwrap() {
                    server.send(vec![7; 100_000]).await.unwrap();
                }
                server.close().await.unwrap();
            });
            let mut answers = 0;
            while let Some(_answer) = bounded(client.recv()).await.unwrap() {
                answers += 1;
            }
            assert_eq!(answers, 3);
            bounded(serving).await.unwrap();
        }
    };
}

with_both_halves!(a_stream_with_both_halves, unix::stream::pair().unwrap());
with_both_halves!(packets_with_both_halves, unix::seqpacket::pair().unwrap());
with_both_halves!(tcp_with_both_halves, tcp_pair().await);
