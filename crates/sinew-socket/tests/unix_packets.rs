//! Packets and datagrams: boundaries, lengths, ends, addresses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsFd;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use sinew_core::{ErrorKind, TryRecvError, TrySendError};
use sinew_socket::unix::{Message, datagram, seqpacket, stream};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

#[tokio::test]
async fn an_empty_packet_is_not_the_end() {
    for credentials in [false, true] {
        let options = seqpacket::Options::new().credentials(credentials);
        let (mut left, mut right) = options.pair().unwrap();
        for payload in ["", "x", "", ""] {
            left.send(payload).await.unwrap();
        }
        // With the hang-up already there.
        drop(left);
        for payload in ["", "x", "", ""] {
            let message = right.recv().await.unwrap().unwrap();
            assert_eq!(message.payload(), payload);
            assert_eq!(message.credentials().is_some(), credentials);
        }
        assert!(right.recv().await.unwrap().is_none());
        assert!(right.recv().await.unwrap().is_none());
        assert!(right.try_recv().unwrap_err().is_closed());
    }
}

/// A peer that knows nothing of us, whose packets were queued before we asked for anything.
#[tokio::test]
async fn an_empty_packet_of_a_foreign_peer() {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let flags = rustix::net::SendFlags::empty();
    rustix::net::send(&theirs, b"", flags).unwrap();
    rustix::net::send(&theirs, b"full", flags).unwrap();
    rustix::net::send(&theirs, b"", flags).unwrap();
    drop(theirs);
    let mut connection = seqpacket::Options::new().connection_on(ours).unwrap();
    for payload in ["", "full", ""] {
        assert_eq!(connection.recv().await.unwrap().unwrap().payload(), payload);
    }
    assert!(connection.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_message_above_the_limit_is_reported_with_its_length() {
    let (mut left, mut right) = seqpacket::Options::new().max_message(8).pair().unwrap();
    left.send("12345678").await.unwrap();
    left.send("123456789").await.unwrap();
    left.send("after").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "12345678");
    let error = right.recv().await.unwrap_err();
    assert!(error.is_recoverable());
    assert_eq!(error.lost(), Some(1));
    assert!(
        error.to_string().contains("9 bytes") && error.to_string().contains("is 8"),
        "{error}"
    );
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "after");

    let (mut left, mut right) = datagram::Options::new().max_message(8).pair().unwrap();
    left.send([1; 100]).await.unwrap();
    left.send("after").await.unwrap();
    assert!(right.next().await.unwrap().unwrap_err().is_recoverable());
    assert_eq!(right.next().await.unwrap().unwrap().payload(), "after");
}

#[tokio::test]
async fn a_message_above_the_send_buffer_names_the_sysctl() {
    let (mut left, mut right) = seqpacket::Options::new().send_buffer(8192).pair().unwrap();
    let error = left.send(vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EMSGSIZE"));
    assert!(
        error.remedy().unwrap().contains("net.core.wmem_max"),
        "{error}"
    );
    assert_eq!(error.detail(), Some("1048576 bytes"));
    let refused = left.try_send(vec![0; 1 << 20]).unwrap_err();
    assert!(refused.is_rejected(), "{refused:?}");
    left.send("small").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "small");
}

#[tokio::test]
async fn a_full_queue_is_back_pressure() {
    let (left, mut right) = seqpacket::pair().unwrap();
    let (mut left, _receiver) = left.split();
    let mut count = 0_u32;
    let Err(TrySendError::Full(back)) = (loop {
        match left.try_send(count.to_le_bytes().to_vec()) {
            Ok(()) => count += 1,
            refused => break refused,
        }
    }) else {
        panic!("it was not full");
    };
    assert_eq!(back, count.to_le_bytes());
    // The sink takes one more, and is not ready then.
    let message = |number: u32| Message::new(number.to_le_bytes().to_vec());
    left.start_send_unpin(message(count)).unwrap();
    assert!(
        futures::future::poll_fn(|cx| left.poll_ready_unpin(cx))
            .now_or_never()
            .is_none()
    );
    assert!(left.send("x").now_or_never().is_none());
    let reader = tokio::spawn(async move {
        let mut next = 0_u32;
        while let Some(message) = right.recv().await.unwrap() {
            assert_eq!(message.payload()[..], next.to_le_bytes());
            next += 1;
        }
        next
    });
    left.feed(message(count + 1)).await.unwrap();
    SinkExt::<Message>::close(&mut left).await.unwrap();
    assert_eq!(bounded(reader).await.unwrap(), count + 2);
    assert!(left.send("x").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_peer_that_left_our_message_unread() {
    let (mut left, mut right) = seqpacket::pair().unwrap();
    left.send("unread").await.unwrap();
    right.send("said before").await.unwrap();
    drop(right);
    // What it sent is there, whatever became of ours.
    assert_eq!(left.recv().await.unwrap().unwrap().payload(), "said before");
    let error = left.recv().await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    assert!(matches!(left.try_recv(), Err(TryRecvError::Failed(_))));
    assert!(left.send("gone").await.unwrap_err().is_closed());

    let (mut left, mut right) = stream::pair().unwrap();
    left.send("unread").await.unwrap();
    right.send("said before").await.unwrap();
    drop(right);
    assert_eq!(left.recv().await.unwrap().unwrap().payload(), "said before");
    assert!(left.recv().await.unwrap_err().is_peer_crashed());
}

#[tokio::test]
async fn halves_end_one_by_one() {
    let (left, mut right) = seqpacket::pair().unwrap();
    let (sender, mut receiver) = left.split();
    drop(sender);
    assert!(right.recv().await.unwrap().is_none());
    right.send("still").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap().payload(), "still");
    drop(receiver);
    assert!(right.send("gone").await.unwrap_err().is_closed());

    let (left, mut right) = seqpacket::pair().unwrap();
    let mut receiver = left.into_receiver();
    right.send("one way").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap().payload(), "one way");
    assert!(right.try_recv().unwrap_err().is_empty());
    drop(receiver);
    assert!(right.try_recv().unwrap_err().is_closed());
}

/// A peer that answers to everything does not stop one that only sends.
#[tokio::test]
async fn what_the_sink_has_goes_out_with_the_sender() {
    let (mut left, mut right) = seqpacket::Options::new().pair().unwrap();
    let mut count = 0;
    while left.try_send(vec![0; 1000]).is_ok() {
        count += 1;
    }
    assert!(left.feed(Message::new("kept")).now_or_never().is_some());
    for _ in 0..count {
        right.recv().await.unwrap().unwrap();
    }
    let receiver = left.into_receiver();
    let kept = bounded(right.recv()).await.unwrap().unwrap();
    assert_eq!(kept.payload(), "kept");
    drop(receiver);
    assert!(bounded(right.recv()).await.unwrap().is_none());

    let (mut left, mut right) = stream::Options::new().pair().unwrap();
    left.feed(Message::new("collected")).await.unwrap();
    let receiver = left.into_receiver();
    let collected = bounded(right.recv()).await.unwrap().unwrap();
    assert_eq!(collected.payload(), "collected");
    drop(receiver);
    assert!(bounded(right.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn answers_that_nobody_wants() {
    let (left, mut right) = seqpacket::pair().unwrap();
    let mut left = left.into_sender();
    let echo = tokio::spawn(async move {
        let mut count = 0;
        // In the end it is told that nobody reads the rest.
        while let Ok(Some(message)) = right.recv().await {
            let _unwanted = right.send(message).await;
            count += 1;
        }
        count
    });
    bounded(async {
        for _ in 0..5000 {
            left.send([7; 100]).await.unwrap();
        }
        left.close().await.unwrap();
        drop(left);
    })
    .await;
    assert_eq!(bounded(echo).await.unwrap(), 5000);
}

#[tokio::test]
async fn datagrams_to_a_full_socket_that_is_not_connected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut receiver = datagram::Socket::bind(&path).await.unwrap();
    let mut other = datagram::Socket::connect(&path).await.unwrap();
    while other.try_send("other").is_ok() {}
    // All of the queue is somebody else's, so that nothing of ours wakes us.
    let mut sender = datagram::Options::new().unbound().unwrap();
    let ours = move || Message::new("ours").with_address(&path);
    assert!(matches!(
        sender.try_send(ours()),
        Err(TrySendError::Full(_))
    ));
    let sending = tokio::spawn(async move {
        sender.send(ours()).await.unwrap();
        sender.feed(ours()).await.unwrap();
        SinkExt::<Message>::flush(&mut sender).await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut ours = 0;
    bounded(async {
        while ours < 2 {
            if receiver.recv().await.unwrap().payload() == "ours" {
                ours += 1;
            }
        }
    })
    .await;
    bounded(sending).await.unwrap();
}

#[tokio::test]
async fn a_connected_datagram_sender_is_woken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut receiver = datagram::Socket::bind(&path).await.unwrap();
    let mut sender = datagram::Socket::connect(&path).await.unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..2000_u32 {
            sender.send(number.to_le_bytes()).await.unwrap();
        }
        sender
    });
    bounded(async {
        for number in 0..2000_u32 {
            let message = receiver.recv().await.unwrap();
            assert_eq!(message.payload()[..], number.to_le_bytes());
            assert_eq!(message.address(), None);
        }
    })
    .await;
    let mut sender = bounded(sending).await.unwrap();
    drop(receiver);
    assert!(!path.exists());
    let error = sender.send("gone").await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ECONNREFUSED"));
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_datagram_without_an_address() {
    let mut socket = datagram::Options::new().unbound().unwrap();
    let error = socket.send("where to").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.remedy().unwrap().contains("address"), "{error}");
    let (mut left, _right) = stream::pair().unwrap();
    let error = left
        .send(Message::new("x").with_address("/tmp/x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn abstract_datagram_names_and_answers() {
    let id = std::process::id();
    let (one, other) = (
        format!("@sinew-test-{id}-one"),
        format!("@sinew-test-{id}-other"),
    );
    let mut server = datagram::Socket::bind(&one).await.unwrap();
    let mut client = datagram::Options::new()
        .local(&other)
        .connect(&one)
        .await
        .unwrap();
    client.send("ping").await.unwrap();
    let message = server.recv().await.unwrap();
    let from = message.address().unwrap().clone();
    assert_eq!(from.to_string(), other);
    server
        .send(Message::new("pong").with_address(from))
        .await
        .unwrap();
    assert_eq!(client.recv().await.unwrap().payload(), "pong");
    assert_eq!(server.local_endpoint().unwrap().to_string(), one);
    let error = datagram::Socket::bind(&one).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
    // One that hears another peer alone.
    let mut stranger = datagram::Options::new().unbound().unwrap();
    let error = stranger
        .send(Message::new("x").with_address(&other))
        .await
        .unwrap_err();
    assert_eq!(error.errno_name(), Some("EPERM"), "{error}");
}

#[tokio::test]
async fn descriptors_of_the_wrong_kind_are_refused() {
    let (left, right) = stream::pair().unwrap();
    let wrong = || left.as_fd().try_clone_to_owned().unwrap();
    assert!(seqpacket::Options::new().connection_on(wrong()).is_err());
    assert!(seqpacket::Options::new().listen_on(wrong()).is_err());
    assert!(stream::Options::new().listen_on(wrong()).is_err());
    assert!(datagram::Options::new().socket_on(wrong()).is_err());
    assert!(
        sinew_socket::tcp::Options::new()
            .listen_on(wrong())
            .is_err()
    );
    assert!(
        sinew_socket::udp::Options::new()
            .socket_on(wrong())
            .is_err()
    );
    let mut again = stream::Options::new().connection_on(wrong()).unwrap();
    let mut right = right;
    again.send("through").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "through");
}
