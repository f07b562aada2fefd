//! `exec:`, `fd:` and `fifo:` addresses.
#![cfg(feature = "pipe")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use rustix::io::FdFlags;
use sinew::{Address, BoxStream, Error, ErrorKind, Message};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

fn address(text: impl AsRef<str>) -> Address {
    text.as_ref().parse().unwrap()
}

async fn payloads(stream: BoxStream) -> Vec<String> {
    let text = |message: Result<Message, Error>| {
        String::from_utf8(message.unwrap().into_payload().to_vec()).unwrap()
    };
    bounded(stream.map(text).collect()).await
}

fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// A descriptor number as a process is started with.
fn inherit(fd: impl Into<OwnedFd>) -> i32 {
    let fd = fd.into();
    rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    let number = fd.as_raw_fd();
    std::mem::forget(fd);
    number
}

#[tokio::test]
async fn exec() {
    let (mut sink, stream) = sinew::open(&address("exec:sort -u")).await.unwrap();
    for line in ["b", "a", "b"] {
        sink.send(Message::from(line)).await.unwrap();
    }
    sink.close().await.unwrap();
    assert_eq!(payloads(stream).await, ["a", "b"]);

    let lines = address("exec:printf 'a b\\nc%3F'");
    assert_eq!(
        payloads(sinew::open_receiver(&lines).await.unwrap()).await,
        ["a b", "c?"]
    );

    let failing = address("exec:sh -c 'echo a; exit 3'");
    let mut stream = sinew::open_receiver(&failing).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().payload(), "a");
    let failed = bounded(stream.next()).await.unwrap().unwrap_err();
    assert!(failed.is_peer_crashed(), "{failed}");
    assert!(stream.next().await.is_none());
    let mut sink = sinew::open_sender(&address("exec:false")).await.unwrap();
    let failed = bounded(sink.close()).await.unwrap_err();
    assert!(failed.to_string().contains("exit status: 1"), "{failed}");

    let missing = error(sinew::open(&address("exec:/no/such/program")).await);
    assert_eq!(missing.errno_name(), Some("ENOENT"));
    let shell = error(sinew::open(&address("exec:a | b")).await);
    assert_eq!(shell.kind(), ErrorKind::InvalidAddress, "{shell}");
}

#[tokio::test]
async fn framings() {
    for (framing, payload) in [("lines", "a b"), ("length", "a\nb"), ("packet", "a\nb")] {
        let address = address(format!("exec:cat?framing={framing}&max-message=4"));
        let (mut sink, mut stream) = sinew::open(&address).await.unwrap();
        let refused = bounded(sink.send(Message::from("longer")))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused}");
        // An attribute that cannot cross is not dropped.
        let refused = sink
            .send(Message::from("a").with_priority(1))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        bounded(sink.send(Message::from(payload))).await.unwrap();
        let message = bounded(stream.next()).await.unwrap().unwrap();
        assert_eq!(message.payload(), payload);
        sink.close().await.unwrap();
        assert!(bounded(stream.next()).await.is_none());
    }
}

#[tokio::test]
async fn fd() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let number = inherit(reader);
    let stream = sinew::open_receiver(&address(format!("fd:{number}")))
        .await
        .unwrap();
    writer.write_all(b"one\ntwo").unwrap();
    drop(writer);
    assert_eq!(payloads(stream).await, ["one", "two"]);

    let (reader, writer) = std::io::pipe().unwrap();
    let (from, to) = (inherit(reader), inherit(writer));
    let from = address(format!("fd:{from}?framing=packet"));
    let to = address(format!("fd:{to}?framing=packet"));
    let mut sink = sinew::open_sender(&to).await.unwrap();
    let stream = sinew::open_receiver(&from).await.unwrap();
    for packet in ["one", "two"] {
        sink.send(Message::from(packet)).await.unwrap();
    }
    sink.close().await.unwrap();
    assert_eq!(payloads(stream).await, ["one", "two"]);
    let taken = error(sinew::open_sender(&to).await);
    assert!(taken.to_string().contains("fd:"), "{taken}");

    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let (left, right) = (inherit(left), inherit(right));
    let (mut sink, _stream) = sinew::open(&address(format!("fd:{left}"))).await.unwrap();
    let (_sink, mut stream) = sinew::open(&address(format!("fd:{right}"))).await.unwrap();
    sink.send(Message::from("both")).await.unwrap();
    assert_eq!(
        bounded(stream.next()).await.unwrap().unwrap().payload(),
        "both"
    );

    let file = std::fs::File::open("/etc/passwd").unwrap();
    let number = inherit(file);
    let packets =
        error(sinew::open_receiver(&address(format!("fd:{number}?framing=packet"))).await);
    assert_eq!(packets.kind(), ErrorKind::InvalidInput, "{packets}");
}

#[tokio::test]
async fn a_socket_that_listens_is_accepted_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let number = inherit(listener);
    let receiving = tokio::spawn(async move {
        let stream = sinew::open_receiver(&address(format!("fd:{number}"))).await;
        payloads(stream.unwrap()).await
    });
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"one\ntwo\n").unwrap();
    drop(client);
    assert_eq!(bounded(receiving).await.unwrap(), ["one", "two"]);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let number = inherit(listener);
    let client = std::thread::spawn(move || {
        let mut client = std::net::TcpStream::connect(at).unwrap();
        std::io::copy(&mut client.try_clone().unwrap(), &mut client).unwrap();
    });
    let listening = address(format!("fd:{number}"));
    let (mut sink, mut stream) = bounded(sinew::open(&listening)).await.unwrap();
    sink.send(Message::from("an echo")).await.unwrap();
    let answer = bounded(stream.next()).await.unwrap().unwrap();
    assert_eq!(answer.payload(), "an echo");
    drop((sink, stream));
    client.join().unwrap();
}

#[tokio::test]
async fn fifo() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let at = |parameters: &str| address(format!("fifo:{}{parameters}", path.display()));

    let missing = error(sinew::open_receiver(&at("")).await);
    assert_eq!(missing.errno_name(), Some("ENOENT"));
    let both = at("?create&mode=622&unlink&timeout=30s");
    let (stream, sink) = tokio::join!(sinew::open_receiver(&both), sinew::open_sender(&both));
    let (stream, mut sink) = (stream.unwrap(), sink.unwrap());
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o622);
    sink.send(Message::from("one")).await.unwrap();
    sink.send(Message::from("two")).await.unwrap();
    sink.close().await.unwrap();
    drop(sink);
    assert_eq!(payloads(stream).await, ["one", "two"]);
    assert!(!path.exists());

    let late = error(sinew::open_sender(&at("?create&timeout=10ms")).await);
    assert!(late.is_timed_out(), "{late}");
    assert_eq!(
        error(sinew::open(&at("")).await).kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        error(sinew::open_sender(&at("?mode=600")).await).kind(),
        ErrorKind::InvalidAddress
    );

    let mut stream = sinew::open_receiver(&at("?eof=hold&framing=length"))
        .await
        .unwrap();
    for _ in 0..2 {
        let mut sink = sinew::open_sender(&at("?framing=length")).await.unwrap();
        sink.send(Message::from("a\nb")).await.unwrap();
        drop(sink);
        assert_eq!(
            bounded(stream.next()).await.unwrap().unwrap().payload(),
            "a\nb"
        );
        assert!(stream.next().now_or_never().is_none());
    }
    drop(stream);
    let reopen = at("?eof=reopen");
    let plain = at("");
    let (stream, sink) = tokio::join!(sinew::open_receiver(&reopen), sinew::open_sender(&plain));
    let mut stream = stream.unwrap();
    drop(sink.unwrap());
    let mut sink = bounded(sinew::open_sender(&plain)).await.unwrap();
    sink.send(Message::from("again")).await.unwrap();
    assert_eq!(
        bounded(stream.next()).await.unwrap().unwrap().payload(),
        "again"
    );
}
