//! `sem:`, `sysvsem:` and `futex:` addresses, within one process.
#![cfg(feature = "sync")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use sinew::sync::{Semaphore, sysv};
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

fn address(text: impl AsRef<str>) -> Address {
    text.as_ref().parse().unwrap()
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

/// The name of a semaphore that nobody else has, and that goes with the test.
struct Posix(String);

impl Posix {
    fn new() -> Self {
        Self(format!("/sinew-open-{}-{}", std::process::id(), number()))
    }

    fn address(&self, parameters: &str) -> Address {
        address(format!("sem:{}{parameters}", self.0))
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        let _unlinked_before = Semaphore::unlink(&self.0);
    }
}

/// A key that nobody else has, and its set goes with the test.
struct Sysv(i32);

impl Sysv {
    fn new() -> Self {
        let key = 0x4000_0000 | std::process::id() << 8 & 0x3fff_ff00 | number() & 0xff;
        Self(key.cast_signed())
    }

    fn address(&self, parameters: &str) -> Address {
        address(format!("sysvsem:{:#x}/{parameters}", self.0))
    }
}

impl Drop for Sysv {
    fn drop(&mut self) {
        let options = sysv::Options::new().init_timeout(None);
        if let Ok(set) = options.blocking_open(self.0) {
            let _removed_before = set.remove();
        }
    }
}

#[tokio::test]
async fn a_unit_for_each_message() {
    let (posix, sysv) = (Posix::new(), Sysv::new());
    for (create, open) in [
        (posix.address("?create&value=1"), posix.address("")),
        (sysv.address("2?create&value=1"), sysv.address("2")),
    ] {
        let mut sink = sinew::open_sender(&create).await.unwrap();
        sink.send(Message::from("x")).await.unwrap();
        sink.close().await.unwrap();
        drop(sink);
        let mut stream = sinew::open_receiver(&open).await.unwrap();
        for _ in 0..2 {
            assert_eq!(next(&mut stream).await.payload(), "");
        }
        assert!(stream.next().now_or_never().is_none());
        let (mut sink, mut both) = sinew::open(&create).await.unwrap();
        sink.send(Message::from("")).await.unwrap();
        tokio::select! {
            _ = next(&mut stream) => {}
            _ = next(&mut both) => {}
        }
    }
}

#[tokio::test]
async fn exclusive_mode_and_removal() {
    let (posix, sysv) = (Posix::new(), Sysv::new());
    let path = format!("/dev/shm/sem.{}", &posix.0[1..]);
    let sink = sinew::open_sender(&posix.address("?create&exclusive&mode=640&unlink"))
        .await
        .unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let again = error(sinew::open_sender(&posix.address("?create&exclusive")).await);
    assert_eq!(again.errno_name(), Some("EEXIST"));
    drop(sink);
    let gone = error(sinew::open_sender(&posix.address("")).await);
    assert_eq!(gone.errno_name(), Some("ENOENT"));
    assert!(gone.to_string().contains("`create`"), "{gone}");

    let (sink, mut stream) =
        sinew::open(&sysv.address("1?create&exclusive&mode=640&count=3&value=2&remove"))
            .await
            .unwrap();
    let set = sysv::Options::new().open(sysv.0).await.unwrap();
    assert_eq!(set.attributes().unwrap().mode, 0o640);
    assert_eq!(set.values().unwrap(), [2, 2, 2]);
    next(&mut stream).await;
    assert_eq!(set.values().unwrap(), [2, 1, 2]);
    let again = error(sinew::open_sender(&sysv.address("1?create&exclusive")).await);
    assert_eq!(again.errno_name(), Some("EEXIST"));
    let mut other = sinew::open_receiver(&address(format!("sysvsem:id={}/2?undo", set.id())))
        .await
        .unwrap();
    next(&mut other).await;
    next(&mut other).await;
    let end = tokio::spawn(async move { other.next().await.is_none() });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop((sink, stream));
    assert!(bounded(end).await.unwrap());
}

#[tokio::test]
async fn by_a_path_and_a_project() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let mut sink = sinew::open_sender(&address(format!(
        "sysvsem:{path}/0?create&project=7&remove"
    )))
    .await
    .unwrap();
    sink.send(Message::from("x")).await.unwrap();
    let key = sysv::ftok(directory.path(), 7).unwrap();
    let set = sysv::Options::new().open(key).await.unwrap();
    assert_eq!(set.values().unwrap(), [1]);
}

#[tokio::test]
async fn words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("word");
    let text = format!("futex:{}", path.display());
    let missing = error(sinew::open_receiver(&address(&text)).await);
    assert_eq!(missing.errno_name(), Some("ENOENT"));
    assert!(missing.to_string().contains("create"), "{missing}");
    let mut stream = sinew::open_receiver(&address(format!("{text}?create&mode=664&offset=8")))
        .await
        .unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.len()),
        (0o664, 4096)
    );
    let mut sink = sinew::open_sender(&address(format!("{text}?offset=8")))
        .await
        .unwrap();
    let received = tokio::spawn(async move { (next(&mut stream).await, stream) });
    tokio::task::yield_now().await;
    sink.send(Message::from("4294967295")).await.unwrap();
    let (message, mut stream) = received.await.unwrap();
    assert_eq!(message.payload(), "4294967295");
    assert_eq!(std::fs::read(&path).unwrap()[8..12], [255; 4]);
    // Two changes that nobody has looked at in between.
    for value in ["1", " 2\n"] {
        sink.send(Message::from(value)).await.unwrap();
    }
    assert_eq!(next(&mut stream).await.payload(), "2");
    assert!(stream.next().now_or_never().is_none());
    for bad in ["", "-1", "4294967296", "0x10", "+1"] {
        let error = sink.send(Message::from(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        assert!(
            error.to_string().contains("4294967295, in decimal"),
            "{error}"
        );
    }
    let far = error(sinew::open_receiver(&address(format!("{text}?offset=4096"))).await);
    assert_eq!(far.kind(), ErrorKind::Protocol, "{far}");
    assert!(far.to_string().contains("an offset within it"), "{far}");
}

#[tokio::test]
async fn what_cannot_be() {
    for (text, part) in [
        ("sem:/x?exclusive", "`create`"),
        ("sem:/x?create&mode=4755", "755"),
        ("sysvsem:0x5e1f/0?exclusive", "`create`"),
        ("sysvsem:0x5e1f/0?project=3", "for a path"),
        ("sysvsem:0x5e1f/4?create&count=4", "counted from 0"),
        ("futex:/tmp/x?create&mode=1777", "777"),
    ] {
        let error = error(sinew::open(&address(text)).await);
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
