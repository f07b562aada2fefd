//! Descriptors in messages: on each kind of socket they come with the right one, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rustix::io::FdFlags;
use sinew_core::{Error, Framing, TrySendError};
use sinew_socket::unix::{Message, datagram, seqpacket, stream};

/// A file that says which it is.
fn numbered(number: u64) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&number.to_le_bytes()).unwrap();
    file.into()
}

fn number(fd: &OwnedFd) -> u64 {
    let mut file = File::from(fd.try_clone().unwrap());
    file.rewind().unwrap();
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn numbers(message: &Message) -> Vec<u64> {
    message.fds().iter().map(number).collect()
}

fn with(payload: impl Into<Bytes>, fds: impl IntoIterator<Item = u64>) -> Message {
    Message::new(payload).with_fds(fds.into_iter().map(numbered))
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

fn raw(connection: impl AsFd) -> std::os::unix::net::UnixStream {
    connection.as_fd().try_clone_to_owned().unwrap().into()
}

#[tokio::test]
async fn every_kind_carries_them_close_on_exec() {
    let (mut left, mut right) = stream::pair().unwrap();
    left.send(with("stream", [1, 2])).await.unwrap();
    let streamed = right.recv().await.unwrap().unwrap();
    let (mut left, mut right) = seqpacket::pair().unwrap();
    left.send(with("", [3])).await.unwrap();
    let packet = right.recv().await.unwrap().unwrap();
    let (mut left, mut right) = datagram::pair().unwrap();
    left.send(with("datagram", [4])).await.unwrap();
    let datagram = right.recv().await.unwrap();
    assert_eq!(numbers(&streamed), [1, 2]);
    assert_eq!(numbers(&packet), [3]);
    assert_eq!(numbers(&datagram), [4]);
    for message in [streamed, packet, datagram] {
        for fd in message.fds() {
            assert_eq!(rustix::io::fcntl_getfd(fd), Ok(FdFlags::CLOEXEC));
        }
    }
}

#[tokio::test]
async fn as_many_as_the_kernel_lets_through() {
    let all: Vec<u64> = (0..253).collect();
    let (mut left, mut right) = seqpacket::pair().unwrap();
    left.send(with("x", all.clone())).await.unwrap();
    assert_eq!(numbers(&right.recv().await.unwrap().unwrap()), all);
    let (mut left, mut right) = stream::pair().unwrap();
    left.send(with("x", all.clone())).await.unwrap();
    assert_eq!(numbers(&right.recv().await.unwrap().unwrap()), all);

    let Err(TrySendError::Rejected { value, error, .. }) = left.try_send(with("x", 0..254)) else {
        panic!("254 descriptors went");
    };
    assert_eq!(value.fds().len(), 254);
    assert!(error.to_string().contains("at most 253"), "{error}");
    left.send("still").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "still");
}

/// Small and large messages, with and without, sent one by one and collected, read in pieces of any size.
#[tokio::test]
async fn on_a_stream_they_stay_with_their_message() {
    for framing in [Framing::Length, Framing::Lines] {
        let options = stream::Options::new().framing(framing);
        let (left, mut right) = options.pair().unwrap();
        let (mut left, _keep) = left.split();
        let plan: Vec<(usize, Vec<u64>)> = (0..600_u64)
            .map(|index| {
                let len = [0, 1, 7, 100, 5000, 70_000, 400_000][(index * 7 % 11 % 7) as usize];
                let fds = match index % 5 {
                    0 | 3 => vec![],
                    2 => vec![index],
                    _ => vec![index, index + 1000],
                };
                (len, fds)
            })
            .collect();
        let sent = plan.clone();
        let sender = async move {
            for (index, (len, fds)) in sent.into_iter().enumerate() {
                let message = with(vec![b'x'; len], fds);
                if index % 3 == 0 {
                    left.send(message).await.unwrap();
                } else {
                    left.feed(message).await.unwrap();
                }
            }
            SinkExt::<Message>::close(&mut left).await.unwrap();
        };
        let receiver = async {
            for (index, (len, fds)) in plan.iter().enumerate() {
                let message = right.recv().await.unwrap().unwrap();
                assert_eq!(message.payload().len(), *len, "message {index}");
                assert_eq!(numbers(&message), *fds, "message {index}");
            }
            assert!(right.recv().await.unwrap().is_none());
        };
        bounded(async { tokio::join!(sender, receiver) }).await;
    }
}

/// The kernel merges what comes before descriptors with what they came with, and never what comes after.
#[tokio::test]
async fn reads_that_merge_messages() {
    let options = stream::Options::new().framing(Framing::Lines);
    let (left, mut right) = options.pair().unwrap();
    let raw = raw(&left);
    raw.set_nonblocking(false).unwrap();
    (&raw).write_all(b"one\ntwo\nthr").unwrap();
    let send = |bytes: &[u8], fd: u64| {
        let fds = [numbered(fd)];
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let slices = [std::io::IoSlice::new(bytes)];
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&raw, &slices, &mut control, flags).unwrap();
    };
    // In the middle of a message, twice in one, at its end, and right after it.
    send(b"ee", 3);
    (&raw).write_all(b"\nfo").unwrap();
    send(b"u", 4);
    send(b"r\n", 44);
    send(b"five\n", 5);
    (&raw).write_all(b"six\n").unwrap();
    let expected: [(&str, &[u64]); 6] = [
        ("one", &[]),
        ("two", &[]),
        ("three", &[3]),
        ("four", &[4, 44]),
        ("five", &[5]),
        ("six", &[]),
    ];
    for (payload, fds) in expected {
        let message = bounded(right.recv()).await.unwrap().unwrap();
        assert_eq!(message.payload(), payload);
        assert_eq!(numbers(&message), fds, "{payload}");
    }
}

fn lost(error: &Error, says: &str) {
    assert!(error.is_recoverable(), "{error}");
    assert_eq!(error.lost(), Some(1), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn more_than_the_receiver_takes_are_closed_and_reported() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for most in [0, 1, 2, 3] {
        let says = format!("max_fds, which is {most}");
        let before = open();

        let (mut left, mut right) = stream::Options::new().max_fds(most).pair().unwrap();
        left.send(with("right", 0..most as u64)).await.unwrap();
        left.send(with("many", 0..most as u64 + 1)).await.unwrap();
        left.send(with("very many", 0..200)).await.unwrap();
        left.send("none").await.unwrap();
        assert_eq!(right.recv().await.unwrap().unwrap().fds().len(), most);
        lost(&right.recv().await.unwrap_err(), &says);
        lost(&right.next().await.unwrap().unwrap_err(), &says);
        assert_eq!(right.next().await.unwrap().unwrap().payload(), "none");
        drop((left, right));

        let (mut left, mut right) = seqpacket::Options::new().max_fds(most).pair().unwrap();
        left.send(with("right", 0..most as u64)).await.unwrap();
        left.send(with("many", 0..most as u64 + 1)).await.unwrap();
        left.send(with("very many", 0..200)).await.unwrap();
        left.send("none").await.unwrap();
        assert_eq!(right.recv().await.unwrap().unwrap().fds().len(), most);
        lost(&right.recv().await.unwrap_err(), &says);
        lost(&right.next().await.unwrap().unwrap_err(), &says);
        assert_eq!(right.next().await.unwrap().unwrap().payload(), "none");
        drop((left, right));

        let (mut left, mut right) = datagram::Options::new().max_fds(most).pair().unwrap();
        left.send(with("many", 0..most as u64 + 1)).await.unwrap();
        left.send("none").await.unwrap();
        lost(&right.next().await.unwrap().unwrap_err(), &says);
        assert_eq!(right.next().await.unwrap().unwrap().payload(), "none");
        drop((left, right));

        // Other tests of this process open some, too, but close them again.
        let mut after = open();
        for _ in 0..1000 {
            if after < before + 150 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            after = open();
        }
        assert!(after < before + 150, "{before} descriptors, then {after}");
    }
}

/// Descriptors that come piece by piece for a message that is never whole.
#[tokio::test]
async fn what_is_kept_for_one_message_is_bounded() {
    let options = stream::Options::new().framing(Framing::Lines).max_fds(4);
    let (left, mut right) = options.pair().unwrap();
    let mut left = left.into_byte_stream().await.unwrap();
    use tokio::io::AsyncWriteExt;
    for piece in 0..20 {
        left.send_fds([numbered(piece)]).unwrap();
        left.write_all(b"x").await.unwrap();
    }
    left.write_all(b"\nnext\n").await.unwrap();
    lost(
        &bounded(right.recv()).await.unwrap_err(),
        "max_fds, which is 4",
    );
    let next = right.recv().await.unwrap().unwrap();
    assert_eq!(next.payload(), "next");
    assert!(next.fds().is_empty());
}

#[tokio::test]
async fn byte_streams_have_them_on_the_side() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (left, right) = stream::pair().unwrap();
    let mut left = left.into_byte_stream().await.unwrap();
    let mut right = right.into_byte_stream().await.unwrap();
    left.send_fds([numbered(7), numbered(8)]).unwrap();
    left.write_all(b"bytes").await.unwrap();
    let mut bytes = [0; 5];
    right.read_exact(&mut bytes).await.unwrap();
    let fds = right.take_fds().unwrap();
    assert_eq!(fds.iter().map(number).collect::<Vec<_>>(), [7, 8]);
    assert!(right.take_fds().unwrap().is_empty());
}

/// A sender that is given up before the kernel took anything takes its descriptors with it.
#[tokio::test]
async fn a_send_that_is_dropped_leaves_none_behind() {
    let (mut left, mut right) = stream::pair().unwrap();
    while left.try_send([0; 4096]).is_ok() {}
    for _ in 0..3 {
        let send = left.send(with("given up", [1]));
        assert!(
            tokio::time::timeout(Duration::from_millis(2), send)
                .await
                .is_err()
        );
    }
    let Err(TrySendError::Full(message)) = left.try_send(with("full", [2])) else {
        panic!("there was room");
    };
    assert_eq!(numbers(&message), [2]);
    let receiver = tokio::spawn(async move {
        loop {
            let message = right.recv().await.unwrap().unwrap();
            if message.payload() == "last" {
                return message;
            }
            assert!(message.fds().is_empty());
            assert_eq!(message.payload().len(), 4096);
        }
    });
    left.send(with("last", [3])).await.unwrap();
    assert_eq!(numbers(&bounded(receiver).await.unwrap()), [3]);
}
