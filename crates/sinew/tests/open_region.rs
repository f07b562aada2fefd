//! `posixshm:`, `sysvshm:` and `mmap:` addresses, within one process.
#![cfg(feature = "shm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew::memory::{PosixShm, SysvShm};
use sinew::{Address, BoxStream, ErrorKind, Message};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

/// A name of each kind that nobody else has, and that goes with the test.
struct Names {
    posix: String,
    key: i32,
    directory: tempfile::TempDir,
}

impl Names {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let key = 0x5400_0000 | std::process::id() << 5 & 0x00ff_ffe0 | number & 0x1f;
        Self {
            posix: format!("/sinew-open-region-{}-{number}", std::process::id()),
            key: key.cast_signed(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn addresses(&self, parameters: &str) -> [Address; 3] {
        let file = self.directory.path().join("ring");
        [
            format!("posixshm:{}{parameters}", self.posix),
            format!(
                "sysvshm:{:#x}{}",
                self.key,
                parameters.replace("unlink", "remove")
            ),
            format!("mmap:{}{parameters}", file.display()),
        ]
        .map(|address| address.parse().unwrap())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _unlinked_before = PosixShm::unlink(&self.posix);
        let _removed_before = SysvShm::remove(self.key);
    }
}

async fn next(stream: &mut BoxStream) -> Message {
    bounded(stream.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn one_direction_in_either_order_and_again() {
    let names = Names::new();
    for address in names.addresses("?create&size=10000&mode=640&max-message=5000") {
        let mut sink = sinew::open_sender(&address).await.unwrap();
        sink.send(Message::from("early")).await.unwrap();
        sink.close().await.unwrap();
        let mut stream = sinew::open_receiver(&address).await.unwrap();
        assert_eq!(next(&mut stream).await.payload(), "early");
        assert!(bounded(stream.next()).await.is_none());
        drop(stream);

        let mut stream = sinew::open_receiver(&address).await.unwrap();
        let mut sink = sinew::open_sender(&address).await.unwrap();
        for number in 0..1000_u32 {
            let message = Message::from(number.to_le_bytes().to_vec());
            sink.send(message).await.unwrap();
            assert_eq!(next(&mut stream).await.payload(), &number.to_le_bytes()[..]);
        }
        let error = sink.send(Message::from(vec![0; 5001])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    }
    // A ring of 16 KiB and a page, with these permissions.
    let file = std::fs::metadata(names.directory.path().join("ring")).unwrap();
    assert_eq!(file.len(), 16384 + 4096);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777,
        0o640
    );
}

#[tokio::test]
async fn both_directions() {
    let names = Names::new();
    let servers = names.addresses("?create&wait=park&listen");
    for (address, listening) in names.addresses("?create&wait=park").iter().zip(&servers) {
        let (mut left, mut from_right) = sinew::open(address).await.unwrap();
        let (mut right, mut from_left) = sinew::open(listening).await.unwrap();
        left.send(Message::from("ping")).await.unwrap();
        assert_eq!(next(&mut from_left).await.payload(), "ping");
        right.send(Message::from("pong")).await.unwrap();
        assert_eq!(next(&mut from_right).await.payload(), "pong");
        for (address, side) in [(address, "a client"), (listening, "a server")] {
            let error = sinew::open(address).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains(side), "{error}");
        }
        for error in [
            sinew::open_sender(listening).await.err().unwrap(),
            sinew::open_receiver(listening).await.err().unwrap(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
        }
    }
}

#[tokio::test]
async fn a_stranger_is_allowed_by_the_address() {
    let names = Names::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: memory of another user: only root can give a file away");
        return;
    }
    let path = names.directory.path().join("ring");
    std::fs::write(&path, vec![0; 8192]).unwrap();
    std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
    let [.., refused] = names.addresses("?create&allow-uid=54322");
    let error = sinew::open_sender(&refused).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("allow-uid"), "{error}");
    let [.., allowed] = names.addresses("?create&allow-uid=54321");
    let mut sink = sinew::open_sender(&allowed).await.unwrap();
    sink.send(Message::from("trusted")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_waited_for_where_asked() {
    let names = Names::new();
    let patient = names.addresses("?timeout=20s");
    let makers = names.addresses("?create");
    for (index, address) in names.addresses("").iter().enumerate() {
        let error = sinew::open_sender(address).await.err().unwrap();
        assert_eq!(error.errno_name(), Some("ENOENT"), "{error}");
        let opened = tokio::spawn({
            let address = patient[index].clone();
            async move { sinew::open_receiver(&address).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut sink = sinew::open_sender(&makers[index]).await.unwrap();
        let mut stream = bounded(opened).await.unwrap().unwrap();
        sink.send(Message::from("there")).await.unwrap();
        assert_eq!(next(&mut stream).await.payload(), "there");
    }
}

#[tokio::test]
async fn exclusive_and_removed() {
    let names = Names::new();
    let exclusive = names.addresses("?create&exclusive&unlink");
    for address in &exclusive {
        for _ in 0..2 {
            let sink = sinew::open_sender(address).await.unwrap();
            let error = sinew::open_sender(address).await.err().unwrap();
            assert_eq!(error.errno_name(), Some("EEXIST"), "{error}");
            drop(sink);
        }
    }
    for address in names.addresses("?exclusive") {
        let error = sinew::open_sender(&address).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let address = format!("sysvshm:{}?create&remove&project=7", file.path().display());
    let by_file: Address = address.parse().unwrap();
    let mut sink = sinew::open_sender(&by_file).await.unwrap();
    sink.send(Message::from("by a file")).await.unwrap();
    let address = format!("sysvshm:{}?project=7", file.path().display());
    let mut stream = sinew::open_receiver(&address.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(next(&mut stream).await.payload(), "by a file");
    for (address, errno) in [
        (address.replace("=7", "=8"), Some("ENOENT")),
        ("sysvshm:0x5e1f?project=7".to_owned(), None),
    ] {
        let address = address.parse().unwrap();
        let error = sinew::open_receiver(&address).await.err().unwrap();
        assert_eq!(error.errno_name(), errno, "{error}");
    }
}
