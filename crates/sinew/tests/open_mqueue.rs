//! `mq:` and `sysvmq:` addresses, within one process.
#![cfg(feature = "mqueue")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew::mqueue::{posix, sysv};
use sinew::{Address, BoxStream, Error, ErrorKind, Message};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The name of a queue that nobody else has, and that goes with the test.
struct Posix(String);

impl Posix {
    fn new() -> Self {
        Self(format!("/sinew-open-{}-{}", std::process::id(), number()))
    }

    fn address(&self, parameters: &str) -> Address {
        format!("mq:{}{parameters}", self.0).parse().unwrap()
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        let _unlinked_before = posix::unlink(&self.0);
    }
}

/// A key that nobody else has, and its queue goes with the test.
struct Sysv(i32);

impl Sysv {
    fn new() -> Self {
        let key = 0x4000_0000 | std::process::id() << 8 & 0x3fff_ff00 | number() & 0xff;
        Self(key.cast_signed())
    }

    fn address(&self, parameters: &str) -> Address {
        format!("sysvmq:{:#x}{parameters}", self.0).parse().unwrap()
    }
}

impl Drop for Sysv {
    fn drop(&mut self) {
        if let Ok(queue) = sysv::Options::new().open(self.0) {
            let _removed_before = queue.remove();
        }
    }
}

fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

async fn next(stream: &mut BoxStream) -> Message {
    bounded(stream.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_sender_makes_the_queue_and_a_later_receiver_finds_it() {
    let (posix, sysv) = (Posix::new(), Sysv::new());
    for (create, open) in [
        (posix.address("?create"), posix.address("")),
        (sysv.address("?create"), sysv.address("")),
    ] {
        let mut sink = sinew::open_sender(&create).await.unwrap();
        sink.send(Message::from("hello")).await.unwrap();
        sink.close().await.unwrap();
        drop(sink);
        let mut stream = sinew::open_receiver(&open).await.unwrap();
        assert_eq!(next(&mut stream).await.payload(), "hello");
    }
}

#[tokio::test]
async fn open_has_both_directions() {
    let (posix, sysv) = (Posix::new(), Sysv::new());
    for address in [
        posix.address("?create&unlink"),
        sysv.address("?create&remove"),
    ] {
        let (mut sink, mut stream) = sinew::open(&address).await.unwrap();
        sink.send(Message::from("to myself")).await.unwrap();
        assert_eq!(next(&mut stream).await.payload(), "to myself");
    }
    // `unlink` and `remove` have removed them.
    for address in [posix.address(""), sysv.address("")] {
        let error = error(sinew::open(&address).await);
        assert!(error.to_string().contains("ENOENT"), "{error}");
    }
}

#[tokio::test]
async fn every_parameter_of_mq_is_taken() {
    let place = Posix::new();
    let all = place.address("?create&exclusive&maxmsg=3&msgsize=1K&mode=640&prio=5&unlink");
    let (mut sink, mut stream) = sinew::open(&all).await.unwrap();
    let queue = posix::Options::new().open(&place.0).unwrap();
    let found = queue.attributes().unwrap();
    assert_eq!((found.max_messages, found.message_size), (3, 1024));
    sink.send(Message::from("default")).await.unwrap();
    sink.send(Message::from("urgent").with_priority(9))
        .await
        .unwrap();
    let first = next(&mut stream).await;
    assert_eq!(
        (&first.payload()[..], first.priority()),
        (&b"urgent"[..], Some(9))
    );
    let second = next(&mut stream).await;
    assert_eq!(
        (&second.payload()[..], second.priority()),
        (&b"default"[..], Some(5))
    );
    assert!(
        error(sinew::open(&all).await)
            .to_string()
            .contains("EEXIST")
    );
    let kind = sink
        .send(Message::from("x").with_kind(1))
        .await
        .unwrap_err();
    assert_eq!(kind.kind(), ErrorKind::Unsupported);
    sink.send(Message::from("goes on")).await.unwrap();
}

#[tokio::test]
async fn types_of_sysvmq() {
    let place = Sysv::new();
    let mut sink = sinew::open_sender(&place.address("?create&exclusive&mode=640&type=7"))
        .await
        .unwrap();
    for (parameters, expected) in [
        ("", vec![7, 2, 9]),
        ("?type=0", vec![7, 2, 9]),
        ("?type=7", vec![7]),
        ("?type=-7", vec![2, 7]),
        ("?except=2&max-message=1K", vec![7, 9]),
    ] {
        sink.send(Message::from("x")).await.unwrap();
        for kind in [2, 9] {
            sink.send(Message::from("x").with_kind(kind)).await.unwrap();
        }
        let mut stream = sinew::open_receiver(&place.address(parameters))
            .await
            .unwrap();
        for kind in expected {
            assert_eq!(next(&mut stream).await.kind(), Some(kind), "{parameters}");
        }
        let mut rest = sysv::Options::new().open_receiver(place.0).unwrap();
        while rest.try_recv().is_ok() {}
    }
    let found = sysv::Options::new()
        .open(place.0)
        .unwrap()
        .attributes()
        .unwrap();
    assert_eq!(found.mode, 0o640);
}

#[tokio::test]
async fn what_is_sent_by_default_is_what_the_address_receives() {
    let place = Sysv::new();
    for (parameters, kind) in [
        ("", 1),
        ("&type=3", 3),
        ("&type=-3", 1),
        ("&except=1", 2),
        ("&except=4", 1),
    ] {
        let address = place.address(&format!("?create{parameters}"));
        let (mut sink, mut stream) = sinew::open(&address).await.unwrap();
        sink.send(Message::from("x")).await.unwrap();
        assert_eq!(next(&mut stream).await.kind(), Some(kind), "{address}");
    }
}

#[tokio::test]
async fn sysvmq_by_path_and_id() {
    let file = std::env::current_exe().unwrap();
    let project = std::process::id() % 255 + 1;
    let address: Address = format!("sysvmq:{}?create&remove&project={project}", file.display())
        .parse()
        .unwrap();
    let (mut sink, other) = sinew::open(&address).await.unwrap();
    let key = sysv::ftok(&file, u8::try_from(project).unwrap()).unwrap();
    let id = sysv::Options::new().open(key).unwrap().id();
    let by_id: Address = format!("sysvmq:id={id}").parse().unwrap();
    let mut stream = sinew::open_receiver(&by_id).await.unwrap();
    sink.send(Message::from("hello")).await.unwrap();
    assert_eq!(next(&mut stream).await.payload(), "hello");
    drop((sink, other));
    assert!(bounded(stream.next()).await.is_none(), "removed");
}

#[tokio::test]
async fn impossible_parameters_say_why() {
    let (posix, sysv) = (Posix::new(), Sysv::new());
    for (address, part) in [
        (posix.address("?exclusive"), "add `create`"),
        (sysv.address("?exclusive"), "add `create`"),
        (posix.address("?create&mode=4755"), "write 755"),
        (sysv.address("?create&mode=1777"), "write 777"),
        (sysv.address("?create&project=3"), "`project` is for a path"),
    ] {
        for error in [
            error(sinew::open(&address).await),
            error(sinew::open_sender(&address).await),
            error(sinew::open_receiver(&address).await),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
