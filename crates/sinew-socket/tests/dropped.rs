//! Senders that are dropped before they were closed: their peers must not believe that this was
//! all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use sinew_core::{Error, Framing};
use sinew_socket::{tcp, unix};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

async fn tcp_pair(framing: Framing) -> (tcp::Connection, tcp::Connection) {
    let options = tcp::Options::new().framing(framing);
    let mut listener = options.bind("127.0.0.1:0").await.unwrap();
    let (client, server) = tokio::join!(options.connect(listener.local_addr()), listener.accept());
    (client.unwrap(), server.unwrap())
}

fn unix_pair(framing: Framing) -> (unix::stream::Connection, unix::stream::Connection) {
    unix::stream::Options::new()
        .framing(framing)
        .pair()
        .unwrap()
}

/// As a task does that fails between two messages.
async fn fails() -> Result<(), Error> {
    "no number"
        .parse::<u32>()
        .map_err(|error| Error::new(sinew_core::ErrorKind::InvalidInput, error.to_string()))?;
    Ok(())
}

#[tokio::test]
async fn tcp_by_length_and_by_lines() {
    for framing in [Framing::Length, Framing::Lines] {
        let (mut client, mut server) = tcp_pair(framing).await;
        let sending = async move {
            client.send("one").await?;
            fails().await?;
            client.close().await
        };
        sending.await.unwrap_err();
        assert_eq!(bounded(server.recv()).await.unwrap().unwrap(), "one");
        let error = bounded(server.recv()).await.unwrap_err();
        assert!(error.is_peer_crashed(), "{framing:?}: {error}");
    }
}

#[tokio::test]
async fn unix_by_length() {
    let (mut client, mut server) = unix_pair(Framing::Length);
    let sending = async move {
        client.send("one").await?;
        fails().await?;
        client.close().await
    };
    sending.await.unwrap_err();
    let message = bounded(server.recv()).await.unwrap().unwrap();
    assert_eq!(message.payload(), "one");
    let error = bounded(server.recv()).await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
}

/// In every order in which the halves can be dropped, also before anything was sent.
#[tokio::test]
async fn halves_in_both_orders() {
    for sender_first in [true, false] {
        for count in [0, 1] {
            let (mut client, mut server) = unix_pair(Framing::Length);
            let (mut tcp_client, mut tcp_server) = tcp_pair(Framing::Length).await;
            for _ in 0..count {
                client.send("one").await.unwrap();
                tcp_client.send("one").await.unwrap();
            }
            let (unix, tcp) = (client.split(), tcp_client.split());
            if sender_first {
                let (sender, receiver) = unix;
                drop(sender);
                drop(receiver);
                let (sender, receiver) = tcp;
                drop(sender);
                drop(receiver);
            } else {
                let (sender, receiver) = unix;
                drop(receiver);
                drop(sender);
                let (sender, receiver) = tcp;
                drop(receiver);
                drop(sender);
            }
            for _ in 0..count {
                assert!(bounded(server.recv()).await.unwrap().is_some());
                assert!(bounded(tcp_server.recv()).await.unwrap().is_some());
            }
            let error = bounded(server.recv()).await.unwrap_err();
            assert!(error.is_peer_crashed(), "{sender_first}, {count}: {error}");
            let error = bounded(tcp_server.recv()).await.unwrap_err();
            assert!(error.is_peer_crashed(), "{sender_first}, {count}: {error}");
        }
    }
}

/// A sender whose buffer is full is dropped: what the kernel took arrives, and then the crash.
#[tokio::test]
async fn with_a_full_buffer() {
    for len in [1, 3, 1000, 50_000] {
        let (mut client, mut server) = unix_pair(Framing::Length);
        let message = Bytes::from(vec![7; len]);
        let mut count = 0_u32;
        while client.try_send(message.clone()).is_ok() {
            count += 1;
        }
        client.feed(message.into()).await.unwrap();
        drop(client);
        let mut received = 0;
        let error = loop {
            match bounded(server.recv()).await {
                Ok(Some(message)) => {
                    assert!(message.payload().iter().all(|&byte| byte == 7));
                    assert_eq!(message.payload().len(), len);
                    received += 1;
                }
                Ok(None) => panic!("{len}: it says that this was all"),
                Err(error) => break error,
            }
        };
        assert!(error.is_peer_crashed(), "{len}: {error}");
        assert!(received >= count - 1, "{len}: {received} of {count}");
    }
}

/// Closed, it is no crash, whatever is dropped after that.
#[tokio::test]
async fn closed_before() {
    let (mut client, mut server) = tcp_pair(Framing::Lines).await;
    client.send("one").await.unwrap();
    client.close().await.unwrap();
    drop(client);
    assert_eq!(bounded(server.recv()).await.unwrap().unwrap(), "one");
    assert!(bounded(server.recv()).await.unwrap().is_none());

    let (mut client, mut server) = unix_pair(Framing::Length);
    let closing = async {
        client.send("one").await.unwrap();
        client.close().await.unwrap();
        drop(client);
    };
    let receiving = async {
        assert!(server.recv().await.unwrap().is_some());
        assert!(server.recv().await.unwrap().is_none());
    };
    bounded(async { tokio::join!(closing, receiving) }).await;

    // An end that only receives has nothing to tell.
    let (client, mut server) = unix_pair(Framing::Length);
    drop(client.into_receiver());
    assert!(bounded(server.recv()).await.unwrap().is_none());
}

/// What a foreign program sees of it: a length that is cut off.
#[tokio::test]
async fn on_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut listener = unix::stream::Listener::bind(&path).await.unwrap();
    let mut foreign = UnixStream::connect(&path).unwrap();
    let mut connection = listener.accept().await.unwrap();
    connection.send("hi").await.unwrap();
    drop(connection);
    let mut bytes = Vec::new();
    foreign.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\0\0\0\x02hi\0");
}
