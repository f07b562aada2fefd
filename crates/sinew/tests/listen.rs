//! `sinew::listen`: one process takes the messages of many.
#![cfg(all(feature = "shm", feature = "socket"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew::{Address, Error, ErrorKind, Message, Peer};

static NAMES: AtomicU32 = AtomicU32::new(0);

/// An address that nobody else has.
fn address(scheme: &str, parameters: &str) -> Address {
    let place = match scheme {
        "tcp" => TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string(),
        _ => format!(
            "@sinew-listen-{}-{}",
            std::process::id(),
            NAMES.fetch_add(1, Ordering::Relaxed)
        ),
    };
    format!("{scheme}:{place}{parameters}").parse().unwrap()
}

const SCHEMES: [&str; 4] = ["unix", "unix-seqpacket", "tcp", "shm"];

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it hangs")
}

async fn send(address: &Address, messages: impl IntoIterator<Item = String>) -> Result<(), Error> {
    let mut sink = sinew::open_sender(address).await?;
    for message in messages {
        sink.send(Message::from(message)).await?;
    }
    sink.close().await
}

#[tokio::test]
async fn everything_of_twenty_clients_arrives() {
    for scheme in SCHEMES {
        let address = address(scheme, "");
        let mut listener = sinew::listen(&address).await.unwrap();
        let clients: Vec<_> = (0..20)
            .map(|client| {
                let address = address.clone();
                tokio::spawn(async move {
                    send(&address, (0..50).map(|line| format!("{client}:{line}"))).await
                })
            })
            .collect();
        let receiving = async {
            let mut received = BTreeSet::new();
            for _ in 0..20 {
                let connection = listener.accept().await.unwrap();
                match connection.peer() {
                    Peer::Process(peer) => assert_eq!(peer.pid, std::process::id()),
                    Peer::Host(peer) => assert!(peer.ip().is_loopback()),
                    other => panic!("{other:?}"),
                }
                let mut messages = connection.into_receiver();
                while let Some(message) = messages.next().await {
                    let payload = message.unwrap().into_payload();
                    assert!(received.insert(payload), "{scheme}: twice");
                }
            }
            received
        };
        let received = bounded(receiving).await;
        assert_eq!(received.len(), 1000, "{scheme}");
        for client in clients {
            bounded(client).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn both_directions() {
    for scheme in SCHEMES {
        let address = address(scheme, "");
        let mut listener = sinew::listen(&address).await.unwrap();
        let serving = async {
            let (mut sink, mut stream) = listener.next().await.unwrap().unwrap().split();
            while let Some(message) = stream.next().await {
                sink.send(message.unwrap()).await.unwrap();
            }
            sink.close().await.unwrap();
        };
        let asking = async {
            let (mut sink, mut stream) = sinew::open(&address).await.unwrap();
            sink.send(Message::from("ping")).await.unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap().payload(), "ping");
            sink.close().await.unwrap();
            assert!(stream.next().await.is_none(), "{scheme}");
        };
        bounded(async { tokio::join!(serving, asking) }).await;
    }
}

/// A peer that is one too many waits, and is not refused.
#[tokio::test]
async fn no_more_than_max_peers() {
    for scheme in SCHEMES {
        let address = address(scheme, "?max-peers=1");
        let mut listener = sinew::listen(&address).await.unwrap();
        let sending = |text: &'static str| {
            let address = address.clone();
            tokio::spawn(async move { send(&address, [text.to_owned()]).await })
        };
        let first = sending("first");
        let mut held = bounded(listener.accept()).await.unwrap().into_receiver();
        assert_eq!(
            bounded(held.next()).await.unwrap().unwrap().payload(),
            "first"
        );
        let second = sending("second");
        let early = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(early.is_err(), "{scheme}: {early:?}");
        drop(held);
        let mut held = bounded(listener.accept()).await.unwrap().into_receiver();
        assert_eq!(
            bounded(held.next()).await.unwrap().unwrap().payload(),
            "second"
        );
        drop(held);
        bounded(first).await.unwrap().unwrap();
        bounded(second).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn addresses_that_nobody_can_listen_at() {
    for (text, part) in [
        ("unix:@x?connect", "connect"),
        ("unix:@x?timeout=1s", "timeout"),
        ("tcp:127.0.0.1:1?peers=one", "peers=one"),
        ("mq:/x", "nobody can connect"),
        ("unix-dgram:@x", "nobody can connect"),
    ] {
        let error = sinew::listen(&text.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    for parameter in ["peers=many", "max-peers=3"] {
        let address = format!("unix:@x?{parameter}").parse().unwrap();
        let error = match sinew::open_receiver(&address).await {
            Ok(_) => panic!("it opened"),
            Err(error) => error,
        };
        assert!(error.to_string().contains(parameter), "{error}");
    }
}

/// What is sent to a listener that never accepts is an error of `close`.
#[tokio::test]
async fn what_nobody_has_accepted_is_no_success() {
    for scheme in ["unix", "unix-seqpacket", "tcp"] {
        let address = address(scheme, "");
        let listener = sinew::listen(&address).await.unwrap();
        let mut sink = sinew::open_sender(&address).await.unwrap();
        sink.send(Message::from("lost")).await.unwrap();
        let mut closing = tokio::spawn(async move { sink.close().await });
        let early = tokio::time::timeout(Duration::from_millis(100), &mut closing).await;
        assert!(early.is_err(), "{scheme}: {early:?}");
        drop(listener);
        let error = bounded(closing).await.unwrap().unwrap_err();
        assert!(error.is_peer_crashed(), "{scheme}: {error}");
    }
}

/// Of several that send to an end that takes one peer, those that it does not take fail.
#[tokio::test]
async fn one_peer_is_taken_and_the_others_fail() {
    for scheme in SCHEMES {
        let address = address(scheme, "?timeout=1s");
        let receiver = address.clone();
        let receiving = tokio::spawn(async move {
            let mut stream = sinew::open_receiver(&receiver).await.unwrap();
            let mut received = Vec::new();
            while let Some(message) = stream.next().await {
                received.push(message.unwrap().into_payload());
            }
            received
        });
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let address = address.clone();
                tokio::spawn(async move { send(&address, [sender.to_string()]).await })
            })
            .collect();
        let mut sent = Vec::new();
        for (number, sender) in senders.into_iter().enumerate() {
            if bounded(sender).await.unwrap().is_ok() {
                sent.push(number.to_string());
            }
        }
        assert_eq!(bounded(receiving).await.unwrap(), sent, "{scheme}");
        assert_eq!(sent.len(), 1, "{scheme}");
    }
}

/// socat as a peer, and a foreign client that goes before it has sent a whole message.
#[tokio::test]
async fn foreign_peers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let address = format!("unix:{}?framing=lines", path.display());
    let mut listener = sinew::listen(&address.parse().unwrap()).await.unwrap();
    let socat = Command::new("socat")
        .args(["-u", "-", &format!("UNIX-CONNECT:{}", path.display())])
        .stdin(Stdio::piped())
        .spawn();
    let mut socat = match socat {
        Ok(socat) => socat,
        Err(error) => return println!("skipped: socat: {error}"),
    };
    socat
        .stdin
        .take()
        .unwrap()
        .write_all(b"one\ntwo\n")
        .unwrap();
    let connection = bounded(listener.accept()).await.unwrap();
    let Peer::Process(peer) = connection.peer() else {
        panic!("{connection:?}");
    };
    assert_eq!(peer.pid, socat.id());
    let messages: Vec<_> = bounded(connection.into_receiver().collect()).await;
    let messages: Vec<_> = messages
        .into_iter()
        .map(|message| message.unwrap().into_payload())
        .collect();
    assert_eq!(messages, ["one", "two"]);
    assert!(socat.wait().unwrap().success());

    // Unread by it, and so the answer is not taken for received.
    let mut client = UnixStream::connect(&path).unwrap();
    let mut sink = bounded(listener.accept()).await.unwrap().into_sender();
    sink.send(Message::from("answer")).await.unwrap();
    sink.send(Message::from("unread")).await.unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    drop(client);
    let error = bounded(sink.close()).await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
}

#[tokio::test]
async fn a_port_that_the_kernel_chooses() {
    let zero: Address = "tcp:127.0.0.1:0?framing=lines".parse().unwrap();
    let mut listener = sinew::listen(&zero).await.unwrap();
    let chosen = listener.address().clone();
    assert_ne!(chosen.host_port().unwrap().1, 0);
    assert_eq!(chosen.get_str("framing"), Some("lines"));
    let (sink, connection) = tokio::join!(sinew::open_sender(&chosen), listener.accept());
    let (mut sink, mut stream) = (sink.unwrap(), connection.unwrap().into_receiver());
    sink.send(Message::from("found")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().payload(), "found");
}

#[tokio::test]
async fn everything_can_be_sent_to_another_thread() {
    fn sendable<T: Send>(_: &T) {}
    let address = address("unix", "");
    sendable(&sinew::listen(&address));
    let mut listener = sinew::listen(&address).await.unwrap();
    sendable(&listener);
    sendable(&listener.accept());
    fn is_send<T: Send>() {}
    is_send::<sinew::Connection>();
}
