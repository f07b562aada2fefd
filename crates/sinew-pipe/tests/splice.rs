//! Moving bytes without copying them.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::io::{Seek, Write};
use std::pin::pin;
use std::task::{Context, Waker};

use futures::FutureExt;
use sinew_core::ErrorKind;
use sinew_pipe::{Options, Pages, Reader, Splice, Tee, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Bytes that do not repeat soon, from this offset on.
fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8)
        .collect()
}

/// Writes so many bytes of the pattern, in pieces of changing length.
fn feed(mut writer: impl AsyncWriteExt + Unpin + Send + 'static, total: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut at = 0;
        while at < total {
            let len = (at % 70_001 + 1).min(total - at);
            writer.write_all(&pattern(at, len)).await.unwrap();
            at += len;
        }
        writer.shutdown().await.unwrap();
    })
}

/// Reads to the end, and checks every byte. Returns how many there were.
fn check(mut reader: impl AsyncReadExt + Unpin + Send + 'static) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut buffer = vec![0; 50_021];
        let mut at = 0;
        loop {
            let count = reader.read(&mut buffer).await.unwrap();
            if count == 0 {
                return at;
            }
            assert!(buffer[..count] == pattern(at, count), "at {at}");
            at += count;
        }
    })
}

fn pipe() -> (Writer, Reader) {
    Options::new().byte_pair().unwrap()
}

#[tokio::test]
async fn between_pipes() {
    const TOTAL: usize = 66 << 20;
    let ((first, mut from), (mut to, last)) = (pipe(), pipe());
    let (fed, checked) = (feed(first, TOTAL), check(last));
    let mut splice = Splice::new(&mut from, &mut to);
    assert_eq!(splice.run().await.unwrap(), TOTAL as u64);
    to.shutdown().await.unwrap();
    fed.await.unwrap();
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn tee_duplicates() {
    const TOTAL: usize = 66 << 20;
    let ((first, mut from), (mut to, last), (mut copy, log)) = (pipe(), pipe(), pipe());
    let (fed, checked, logged) = (feed(first, TOTAL), check(last), check(log));
    let mut tee = Tee::new(&mut from, &mut to, &mut copy);
    assert_eq!(tee.run().await.unwrap(), TOTAL as u64);
    drop((to, copy));
    fed.await.unwrap();
    assert_eq!(checked.await.unwrap(), TOTAL);
    assert_eq!(logged.await.unwrap(), TOTAL);
}

/// Sockets whose other owners want them to block: this runtime has one thread, which is not to wait in the kernel.
#[tokio::test]
async fn with_sockets_in_blocking_mode() {
    const TOTAL: usize = 5 << 20;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (back, answers) = std::os::unix::net::UnixStream::pair().unwrap();
    for socket in [&theirs, &answers] {
        socket.set_nonblocking(true).unwrap();
    }
    let (theirs, answers) = (
        tokio::net::UnixStream::from_std(theirs).unwrap(),
        tokio::net::UnixStream::from_std(answers).unwrap(),
    );
    // More at once than a socket holds.
    let (first, mut from) = Options::new().size(1 << 20).byte_pair().unwrap();
    let fed = feed(first, TOTAL);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut socket = Writer::from_fd(ours).unwrap();
    let mut splice = Splice::new(&mut from, &mut socket);
    // Nobody reads yet, so that it is full, and empty on the way back.
    let ticks = async {
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        moved = splice.run() => unreachable!("{moved:?} of them into a full socket"),
        () = ticks => {}
    }
    let (mut to, last) = pipe();
    let mut socket_back = Reader::from_fd(back).unwrap();
    let mut splice_back = Splice::new(&mut socket_back, &mut to);
    assert!(splice_back.run().now_or_never().is_none());

    // What is under way when the future is dropped is taken into account.
    let mirror = async {
        let (mut theirs, mut answers) = (theirs.take(TOTAL as u64), answers);
        tokio::io::copy(&mut theirs, &mut answers).await.unwrap();
        answers.shutdown().await.unwrap();
    };
    let checked = check(last);
    let (there, (), returned) = tokio::join!(splice.run(), mirror, splice_back.run());
    assert_eq!(
        (there.unwrap(), returned.unwrap()),
        (TOTAL as u64, TOTAL as u64)
    );
    to.shutdown().await.unwrap();
    fed.await.unwrap();
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn with_sockets() {
    const TOTAL: usize = 8 << 20;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (mut client, (mut server, _)) = (client.unwrap(), accepted.unwrap());

    let ((first, mut from), (mut to, last)) = (pipe(), pipe());
    let (fed, checked) = (feed(first, TOTAL), check(last));
    let into = async {
        let moved = Splice::new(&mut from, &mut client).run().await.unwrap();
        client.shutdown().await.unwrap();
        moved
    };
    let out = async { Splice::new(&mut server, &mut to).run().await.unwrap() };
    assert_eq!(tokio::join!(into, out), (TOTAL as u64, TOTAL as u64));
    drop(to);
    fed.await.unwrap();
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn with_files() {
    const TOTAL: usize = 8 << 20;
    let mut file = tempfile::tempfile().unwrap();
    let (first, mut from) = pipe();
    let fed = feed(first, TOTAL);
    let moved = Splice::new(&mut from, &mut file).run().await.unwrap();
    assert_eq!(moved, TOTAL as u64);
    fed.await.unwrap();

    file.rewind().unwrap();
    let (mut to, last) = pipe();
    let checked = check(last);
    let limit = TOTAL as u64 - 7;
    let moved = Splice::new(&mut file, &mut to).limit(limit).run().await;
    assert_eq!(moved.unwrap(), limit);
    assert_eq!(Splice::new(&mut file, &mut to).run().await.unwrap(), 7);
    drop(to);
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn a_run_that_is_dropped_goes_on() {
    const TOTAL: usize = 3 << 20;
    let ((first, mut from), (mut to, last)) = (pipe(), pipe());
    let (fed, checked) = (feed(first, TOTAL), check(last));
    let mut splice = Splice::new(&mut from, &mut to);
    let mut drops = 0;
    loop {
        let before = splice.moved();
        if let Some(done) = splice.run().now_or_never() {
            assert_eq!(done.unwrap(), TOTAL as u64);
            break;
        }
        assert!(splice.moved() >= before);
        drops += 1;
        tokio::task::yield_now().await;
    }
    assert!(drops > 10);
    drop(to);
    fed.await.unwrap();
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn a_dropped_run_on_a_file_goes_on() {
    const TOTAL: usize = 1 << 20;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(0, TOTAL)).unwrap();
    file.rewind().unwrap();
    let (mut to, last) = pipe();
    let checked = check(last);
    let mut splice = Splice::new(&mut file, &mut to);
    let mut cx = Context::from_waker(Waker::noop());
    while pin!(splice.run()).poll(&mut cx).is_pending() {
        tokio::task::yield_now().await;
    }
    assert_eq!(splice.moved(), TOTAL as u64);
    drop(to);
    assert_eq!(checked.await.unwrap(), TOTAL);
}

#[tokio::test]
async fn nobody_reads() {
    let ((mut first, mut from), (mut to, last)) = (pipe(), pipe());
    drop(last);
    first.write_all(b"text").await.unwrap();
    let error = Splice::new(&mut from, &mut to).run().await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    let mut left = [0; 4];
    from.read_exact(&mut left).await.unwrap();
    assert_eq!(&left, b"text", "nothing is taken that cannot be given");
}

#[tokio::test]
async fn one_must_be_a_pipe() {
    let mut from = tempfile::tempfile().unwrap();
    let mut to = tempfile::tempfile().unwrap();
    from.write_all(b"text").unwrap();
    from.rewind().unwrap();
    let error = Splice::new(&mut from, &mut to).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn pages_are_given() {
    const TOTAL: usize = 4 << 20;
    let (mut writer, reader) = pipe();
    let checked = check(reader);
    let half = TOTAL / 2;
    for part in 0..2 {
        let mut pages = Pages::new(half).unwrap();
        assert!(pages.iter().all(|byte| *byte == 0));
        pages.copy_from_slice(&pattern(part * half, half));
        let mut gift = pages.into_gift();
        // Given up whenever it is not ready at once.
        while gift.send(&mut writer).now_or_never().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(gift.sent(), half);
        // Dropped while the pipe still has some of the pages.
    }
    drop(writer);
    assert_eq!(checked.await.unwrap(), TOTAL);
    assert_eq!(Pages::new(0).unwrap_err().kind(), ErrorKind::InvalidInput);
}
