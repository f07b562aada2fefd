//! A channel as a stream of bytes, its halves, and the way back.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use sinew_shm::{ByteStream, Channel, Options, pair};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A test that takes longer hangs.
const HANG: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(HANG, future).await else {
        panic!("hangs");
    };
    done
}

fn streams() -> (ByteStream, ByteStream) {
    let (left, right) = Options::new().capacity(4096).pair().unwrap();
    (left.into_byte_stream(), right.into_byte_stream())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_in_tasks_of_their_own() {
    let (left, right) = streams();
    let (mut reader, mut writer) = left.into_split();
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = right.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap()
    });
    let sent: Vec<u8> = (0..250u8).cycle().take(300_000).collect();
    let write = tokio::spawn({
        let sent = sent.clone();
        async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        }
    });
    let mut received = Vec::new();
    within(reader.read_to_end(&mut received)).await.unwrap();
    assert!(received == sent);
    assert_eq!(within(echo).await.unwrap(), 300_000);
    let writer = within(write).await.unwrap();
    assert_eq!(writer.stats().bytes, 300_000);
    assert_eq!(reader.stats().bytes, 300_000);
}

#[tokio::test]
async fn borrowed_halves_read_and_write_at_once() {
    let (mut left, right) = streams();
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = right.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap()
    });
    // More than both rings hold: neither direction ends before the other goes on.
    let sent = vec![3; 100_000];
    let mut received = Vec::new();
    let (reader, writer) = left.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = reader.read_to_end(&mut received);
    within(futures::future::join(write, read)).await.1.unwrap();
    assert!(received == sent);
    within(echo).await.unwrap();
}

#[tokio::test]
async fn reunited_amid_a_message() {
    let (left, mut right) = streams();
    let (mut reader, writer) = left.into_split();
    right.write_all(b"abcdef").await.unwrap();
    assert_eq!(within(reader.read_u8()).await.unwrap(), b'a');
    let mut left = reader.reunite(writer).unwrap();
    assert_eq!(within(left.read_u8()).await.unwrap(), b'b');
    let (reader, writer) = left.into_split();
    let mut left = writer.reunite(reader).unwrap();
    let mut rest = [0; 4];
    within(left.read_exact(&mut rest)).await.unwrap();
    assert_eq!(&rest, b"cdef");
    left.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    within(right.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn halves_of_two_streams_are_handed_back() {
    let (left, right) = streams();
    let (left_reader, left_writer) = left.into_split();
    let (right_reader, right_writer) = right.into_split();
    let error = left_reader.reunite(right_writer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the halves are not of the same byte stream"
    );
    let (left_reader, right_writer) = (error.0, error.1);
    let error = left_writer.reunite(right_reader).unwrap_err();
    let (right_reader, left_writer) = (error.0, error.1);
    // Nothing was closed by the attempts.
    let mut left = left_reader.reunite(left_writer).unwrap();
    let mut right = right_reader.reunite(right_writer).unwrap();
    left.write_all(b"there").await.unwrap();
    right.write_all(b"back!").await.unwrap();
    for stream in [&mut left, &mut right] {
        let mut bytes = [0; 5];
        within(stream.read_exact(&mut bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_write_half_closes_its_direction_only() {
    let (left, mut right) = streams();
    let (mut reader, mut writer) = left.into_split();
    writer.write_all(b"last").await.unwrap();
    drop(writer);
    let mut received = Vec::new();
    within(right.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"last");
    right.write_all(b"answer").await.unwrap();
    drop(right);
    received.clear();
    within(reader.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"answer");
}

#[tokio::test]
async fn a_dropped_read_half_ends_the_peers_writes() {
    let (left, mut right) = streams();
    let (reader, mut writer) = left.into_split();
    drop(reader);
    let error = within(async {
        for _ in 0..100 {
            if let Err(error) = right.write_all(&[1; 1000]).await {
                return error;
            }
        }
        panic!("100,000 bytes went into a ring of 4096 that nobody reads");
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    writer.write_all(b"still open").await.unwrap();
    let mut received = [0; 10];
    within(right.read_exact(&mut received)).await.unwrap();
}

#[tokio::test]
async fn a_write_half_that_was_shut_down() {
    let (left, mut right) = streams();
    let (_reader, mut writer) = left.into_split();
    writer.shutdown().await.unwrap();
    let error = writer.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    let slices = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    let error = writer.write_vectored(&slices).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    let error = sinew_core::Error::from(error);
    assert_eq!(error.kind(), sinew_core::ErrorKind::Closed, "{error}");
    writer.flush().await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(within(right.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn vectored_writes_of_a_half_are_one_message() {
    let (left, right) = Options::new().threshold(100).pair().unwrap();
    let (_reader, mut writer) = left.into_byte_stream().into_split();
    let mut right = right;
    assert!(writer.is_write_vectored());
    let parts = [&b"one"[..], b"", b"two", &[b'x'; 500]].map(IoSlice::new);
    assert_eq!(within(writer.write_vectored(&parts)).await.unwrap(), 100);
    let message = within(right.recv()).await.unwrap().unwrap();
    assert_eq!(message, [&b"onetwo"[..], &[b'x'; 94]].concat());
    assert_eq!(writer.stats().messages, 1);
}

/// Reads three bytes of `message` and tries to go back to a channel before and after the rest.
async fn back_to_a_channel_with(message: &[u8]) {
    let (mut left, right) = pair().unwrap();
    left.send(message).await.unwrap();
    left.send("next").await.unwrap();
    let mut stream = right.into_byte_stream();
    let mut begin = [0; 3];
    within(stream.read_exact(&mut begin)).await.unwrap();
    let error = stream.into_channel().unwrap_err();
    assert!(error.to_string().contains("read in part"), "{error}");

    let mut stream = error.0;
    let mut rest = vec![0; message.len()];
    let count = within(stream.read(&mut rest)).await.unwrap();
    assert_eq!([&begin[..], &rest[..count]].concat(), message);
    let mut right: Channel = stream.into_channel().unwrap();
    let next = within(right.recv()).await.unwrap().unwrap();
    assert_eq!(next, "next");
    right.send("answer").await.unwrap();
    let answer = within(left.recv()).await.unwrap().unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn back_to_a_channel_only_between_messages() {
    back_to_a_channel_with(b"in the ring").await;
    back_to_a_channel_with(&vec![7; 300_000]).await;
}

#[tokio::test]
async fn back_to_a_channel_without_a_read() {
    let (mut left, right) = pair().unwrap();
    left.send("whole").await.unwrap();
    let mut right = right.into_byte_stream().into_channel().unwrap();
    assert_eq!(within(right.recv()).await.unwrap().unwrap(), "whole");
    // A channel again, it is a crash if it is dropped before it was closed.
    drop(right);
    assert!(within(left.recv()).await.unwrap_err().is_peer_crashed());
    // A stream of bytes is none, as a socket is not.
    let (mut left, right) = pair().unwrap();
    drop(right.into_byte_stream());
    assert_eq!(within(left.recv()).await.unwrap(), None);
}

/// A message that the channel's sink had taken, and nobody had flushed.
#[tokio::test]
async fn flush_publishes_what_the_channel_had_staged() {
    let (mut left, right) = pair().unwrap();
    left.feed(Bytes::from_static(b"staged")).await.unwrap();
    let mut left = left.into_byte_stream();
    let mut right = right.into_byte_stream();
    left.flush().await.unwrap();
    let mut received = [0; 6];
    within(right.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"staged");
}

#[tokio::test]
async fn what_a_stream_tells_of_itself() {
    let (left, mut right) = pair().unwrap();
    let fd = left.as_fd().as_raw_fd();
    let mut left = left.into_byte_stream();
    assert_eq!(left.as_fd().as_raw_fd(), fd);
    assert_eq!(left.peer_cred().pid, std::process::id());
    left.write_all(b"12345").await.unwrap();
    left.write_all(b"67").await.unwrap();
    right.send("abc").await.unwrap();
    let mut received = [0; 3];
    within(left.read_exact(&mut received)).await.unwrap();
    let (sent, received) = left.stats();
    assert_eq!((sent.messages, sent.bytes), (2, 7));
    assert_eq!((received.messages, received.bytes), (1, 3));

    let (reader, writer) = left.into_split();
    assert_eq!(reader.as_fd().as_raw_fd(), fd);
    assert_eq!(writer.as_fd().as_raw_fd(), fd);
    assert_eq!(reader.peer_cred().pid, std::process::id());
    assert_eq!(writer.peer_cred().pid, std::process::id());
    assert_eq!((writer.stats(), reader.stats()), (sent, received));
}
