//! Pipes of packets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use sinew_core::{ErrorKind, TrySendError};
use sinew_pipe::{Options, PIPE_BUF};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn packets_keep_their_boundaries() {
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    let longest = vec![5; PIPE_BUF];
    for packet in [&b"one"[..], b"two", &longest, b"\n"] {
        sender.send(packet).await.unwrap();
    }
    for packet in [&b"one"[..], b"two", &longest, b"\n"] {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), packet);
    }
    assert!(receiver.try_recv().unwrap_err().is_empty());
    sender.close().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap(), None);
    assert!(sender.send("more").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn what_is_no_packet_is_refused() {
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    let error = sender.send(vec![0; PIPE_BUF + 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.remedy().unwrap().contains("framing=length"));
    let error = sender.send("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(
        sender
            .try_send(vec![0; PIPE_BUF + 1])
            .unwrap_err()
            .is_rejected()
    );
    assert!(sender.try_send("").unwrap_err().is_rejected());
    assert!(sender.feed(Bytes::new()).await.is_err());
    sender.send("fine").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "fine");

    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("file")).unwrap();
    let writer = sinew_pipe::Writer::from_fd(file).unwrap();
    let error = Options::new().packet_sender_of(writer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_packet_that_is_too_long_is_lost_and_said() {
    let options = Options::new();
    let (mut sender, theirs) = options.packet_sender().unwrap();
    let reader = sinew_pipe::Reader::from_fd(theirs).unwrap();
    let mut receiver = options.max_message(4).packet_receiver_of(reader).unwrap();
    sender.send("short").await.unwrap();
    sender.send("four").await.unwrap();
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(error.is_recoverable(), "{error}");
    assert_eq!(receiver.next().await.unwrap().unwrap(), "four");
}

#[tokio::test]
async fn back_pressure_is_the_kernels() {
    let (mut sender, mut receiver) = Options::new().size(16 << 12).packet_pair().unwrap();
    let mut sent = 0;
    while sender.try_send("small").is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 16, "each has a page");
    assert!(matches!(
        sender.try_send("small"),
        Err(TrySendError::Full("small"))
    ));
    // The sink takes one, and is not ready for another.
    sender.start_send_unpin(Bytes::from("last")).unwrap();
    assert!(sender.send("not yet").now_or_never().is_none());
    for _ in 0..16 {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "small");
    }
    sender.flush().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "last");
}

/// What the other test shows to work.
#[tokio::test]
async fn tokios_own_async_read_hangs() {
    let (mut sender, theirs) = Options::new().packet_sender().unwrap();
    let mut receiver = tokio::net::unix::pipe::Receiver::from_owned_fd(theirs).unwrap();
    // All of them are there before the runtime hears of the first.
    for _ in 0..4 {
        sender.try_send("packet").unwrap();
    }
    let mut buffer = [0; PIPE_BUF];
    assert_eq!(receiver.read(&mut buffer).await.unwrap(), 6);
    let second = receiver.read(&mut buffer);
    let second = tokio::time::timeout(Duration::from_millis(200), second).await;
    assert!(
        second.is_err(),
        "this Tokio is repaired: say so in the documentation"
    );
    drop(sender);
}

#[tokio::test]
async fn packets_that_wait_are_received() {
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    for _ in 0..4 {
        sender.try_send("packet").unwrap();
    }
    for _ in 0..4 {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "packet");
    }
    // And under load, with a receiver that is now and then slower.
    let sending = tokio::spawn(async move {
        for number in 0_u32..5000 {
            sender.send(number.to_le_bytes()).await.unwrap();
            if number.is_multiple_of(7) {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut expected = 0_u32;
    while let Some(packet) = receiver.recv().await.unwrap() {
        assert_eq!(packet[..], expected.to_le_bytes());
        expected += 1;
        if expected.is_multiple_of(11) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(expected, 5000);
    sending.await.unwrap();
}

#[tokio::test]
async fn dropped_futures_lose_and_double_nothing() {
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    let sending = tokio::spawn(async move {
        for number in 0_u32..2000 {
            // Given up whenever it is not ready at once.
            while sender.send(number.to_le_bytes()).now_or_never().is_none() {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut expected = 0_u32;
    loop {
        match receiver.recv().now_or_never() {
            Some(Ok(Some(packet))) => {
                assert_eq!(packet[..], expected.to_le_bytes());
                expected += 1;
            }
            Some(Ok(None)) => break,
            Some(Err(error)) => panic!("{error}"),
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(expected, 2000);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_sink_that_holds_a_packet_refuses_another() {
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    use futures::Sink;
    let mut sink = std::pin::Pin::new(&mut sender);
    sink.as_mut().start_send("one".into()).unwrap();
    let error = sink.as_mut().start_send("two".into()).unwrap_err();
    assert!(error.to_string().contains("poll_ready"), "{error}");
    sink.flush().await.unwrap();
    sink.send("three".into()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "three");
}
