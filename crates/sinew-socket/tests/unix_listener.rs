//! Listeners at paths and names: permissions, policies, dead owners, inherited sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use sinew_core::ErrorKind;
use sinew_socket::unix::{datagram, seqpacket, stream};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_mode_is_exact() {
    let directory = tempfile::tempdir().unwrap();
    for wanted in [0o600, 0o660, 0o777, 0o622] {
        let path = directory.path().join(format!("s{wanted:o}"));
        let _stream = stream::Options::new()
            .mode(wanted)
            .bind(&path)
            .await
            .unwrap();
        assert_eq!(mode(&path), wanted);
        let path = directory.path().join(format!("p{wanted:o}"));
        let _packet = seqpacket::Options::new()
            .mode(wanted)
            .bind(&path)
            .await
            .unwrap();
        assert_eq!(mode(&path), wanted);
        let path = directory.path().join(format!("d{wanted:o}"));
        let _datagram = datagram::Options::new()
            .mode(wanted)
            .bind(&path)
            .await
            .unwrap();
        assert_eq!(mode(&path), wanted);
    }
}

#[tokio::test]
async fn a_dead_owner_s_path_is_taken_and_a_live_one_s_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut listener = stream::Listener::bind(&path).await.unwrap();
    for error in [
        stream::Listener::bind(&path).await.unwrap_err(),
        seqpacket::Listener::bind(&path).await.unwrap_err(),
        datagram::Socket::bind(&path).await.unwrap_err(),
    ] {
        assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
        assert!(error.remedy().is_some(), "{error}");
    }
    // It has heard nothing of them.
    assert!(listener.accept().now_or_never().is_none());
    drop(listener);
    assert!(!path.exists());

    drop(UnixDatagram::bind(&path).unwrap());
    let socket = datagram::Socket::bind(&path).await.unwrap();
    assert!(datagram::Socket::bind(&path).await.is_err());
    assert_eq!(socket.local_endpoint().unwrap(), (&path).into());
    // The path goes with the second half.
    let (sender, receiver) = socket.split();
    drop(sender);
    assert!(path.exists());
    drop(receiver);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let error = datagram::Socket::bind(&path).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EEXIST"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    // Nothing is left beside it.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn of_two_starters_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..50 {
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let (one, other) = tokio::join!(
            stream::Listener::bind(&path),
            seqpacket::Listener::bind(&path)
        );
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn a_path_that_is_too_long() {
    let path = format!("/tmp/{}", "x".repeat(103));
    for error in [
        stream::Listener::bind(&path).await.unwrap_err(),
        stream::connect(&path).await.unwrap_err(),
        datagram::Socket::connect(&path).await.unwrap_err(),
    ] {
        assert_eq!(error.errno_name(), Some("ENAMETOOLONG"), "{error}");
        assert!(error.to_string().contains("107"), "{error}");
    }
}

#[tokio::test]
async fn peers_are_known_and_admitted_by_policy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let us = rustix::process::geteuid().as_raw();
    let mut listener = seqpacket::Options::new()
        .allow_uid(us + 1)
        .bind(&path)
        .await
        .unwrap();
    let mut turned_away = seqpacket::connect(&path).await.unwrap();
    let accepting = tokio::time::timeout(Duration::from_millis(50), listener.accept());
    assert!(accepting.await.is_err());
    assert_eq!(listener.rejected(), 1);
    // Packets cannot tell why.
    assert!(turned_away.recv().await.unwrap().is_none());
    drop(listener);

    let mut listener = stream::Options::new()
        .allow_uid(us)
        .authorize(|peer| peer.pid == std::process::id())
        .bind(&path)
        .await
        .unwrap();
    let mut client = stream::Options::new()
        .credentials(true)
        .connect(&path)
        .await
        .unwrap();
    let mut server = listener.next().await.unwrap().unwrap();
    for peer in [client.peer(), server.peer()] {
        assert_eq!((peer.pid, peer.uid), (std::process::id(), us));
    }
    server.send("who").await.unwrap();
    let message = client.recv().await.unwrap().unwrap();
    assert_eq!(message.credentials().unwrap().pid, std::process::id());
    match server.peer_pidfd() {
        Ok(pidfd) => {
            let info = format!(
                "/proc/self/fdinfo/{}",
                std::os::fd::AsRawFd::as_raw_fd(&pidfd)
            );
            let info = std::fs::read_to_string(info).unwrap();
            let line = format!("Pid:\t{}", std::process::id());
            assert!(info.lines().any(|found| found == line), "{info}");
        }
        Err(error) => assert_eq!(error.errno_name(), Some("ENOPROTOOPT"), "{error}"),
    }
}

#[tokio::test]
async fn sockets_that_listen_already() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let socket: OwnedFd = UnixListener::bind(&path).unwrap().into();
    let mut listener = stream::Options::new().listen_on(socket).unwrap();
    assert_eq!(listener.endpoint(), Some(&(&path).into()));
    let mut client = stream::connect(&path).await.unwrap();
    let mut server = listener.accept().await.unwrap();
    client.send("hello").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().payload(), "hello");
    // The path is its owner's.
    drop(listener);
    assert!(path.exists());
}

/// Others share the open file description of a socket that was inherited.
#[tokio::test]
async fn connected_sockets_stay_in_blocking_mode() {
    use rustix::fs::{OFlags, fcntl_getfl};
    let is_blocking = |fd: &OwnedFd| !fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK);
    let both = |pair: (
        std::os::unix::net::UnixStream,
        std::os::unix::net::UnixStream,
    )| { (OwnedFd::from(pair.0), OwnedFd::from(pair.1)) };
    let (one, other) = both(std::os::unix::net::UnixStream::pair().unwrap());
    let shared = one.try_clone().unwrap();
    let mut left = stream::Options::new().connection_on(one).unwrap();
    let mut right = stream::Options::new().connection_on(other).unwrap();
    assert!(is_blocking(&shared));
    left.send("hello").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap().payload(), "hello");
    // Neither end waits in a system call, for messages or for room.
    assert!(right.recv().now_or_never().is_none());
    while left.try_send(vec![1; 10_000]).is_ok() {}
    assert!(is_blocking(&shared));

    let (one, other) = UnixDatagram::pair().unwrap();
    let shared = OwnedFd::from(one.try_clone().unwrap());
    let mut left = datagram::Options::new().socket_on(one).unwrap();
    let mut right = datagram::Options::new().socket_on(other).unwrap();
    left.send("hello").await.unwrap();
    assert_eq!(right.recv().await.unwrap().payload(), "hello");
    assert!(right.recv().now_or_never().is_none());
    while left.try_send(vec![1; 10_000]).is_ok() {}
    assert!(is_blocking(&shared));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    let shared = OwnedFd::from(one.try_clone().unwrap());
    let options = sinew_socket::tcp::Options::new();
    let mut left = options.connection_on(one).unwrap();
    let mut right = options.connection_on(other).unwrap();
    left.send("hello").await.unwrap();
    assert_eq!(right.recv().await.unwrap().unwrap(), "hello");
    assert!(right.recv().now_or_never().is_none());
    while left.try_send(vec![1; 10_000]).is_ok() {}
    assert!(is_blocking(&shared));

    let one = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let shared = OwnedFd::from(one.try_clone().unwrap());
    let mut socket = sinew_socket::udp::Options::new().socket_on(one).unwrap();
    assert!(socket.recv().now_or_never().is_none());
    assert!(is_blocking(&shared));
}

#[tokio::test]
async fn connecting_to_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let error = stream::connect(&path).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ENOENT"), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    let patient = stream::Options::new().wait_for_listener(Duration::from_millis(30));
    let error = patient.connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("waited 30ms"), "{error}");
    let _listener = seqpacket::Listener::bind(&path).await.unwrap();
    let error = stream::connect(&path).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EPROTOTYPE"), "{error}");

    let late = directory.path().join("late");
    let patient = seqpacket::Options::new().wait_for_listener(Duration::from_secs(20));
    let connecting = tokio::spawn({
        let late = late.clone();
        async move { patient.connect(&late).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut listener = seqpacket::Listener::bind(&late).await.unwrap();
    listener.accept().await.unwrap();
    connecting.await.unwrap().unwrap();
}

/// Whatever a peer does first that the policy does not admit, it is told so.
#[tokio::test]
async fn who_is_not_admitted_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let options = stream::Options::new().authorize(|_| false);
    let mut listener = options.bind(&path).await.unwrap();
    let refusing = tokio::spawn(async move { listener.accept().await });
    let work = async {
        let mut receives = stream::connect(&path).await.unwrap();
        let error = receives.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("policy"), "{error}");

        let mut closes = stream::connect(&path).await.unwrap().into_sender();
        let sent = closes.send("unread").await;
        let error = match sent {
            Ok(()) => closes.close().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");

        let mut sends = stream::connect(&path).await.unwrap().into_sender();
        let error = loop {
            if let Err(error) = sends.send("unread").await {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");

        // One that died instead is none that refuses.
        let raw = std::os::unix::net::UnixListener::bind(directory.path().join("t")).unwrap();
        let mut client = stream::connect(directory.path().join("t")).await.unwrap();
        client.send("unread").await.unwrap();
        drop(raw.accept().unwrap());
        let error = client.recv().await.unwrap_err();
        assert!(error.is_peer_crashed(), "{error}");

        // And a foreign client reads an end, or a reset, and no byte.
        let mut foreign = std::os::unix::net::UnixStream::connect(&path).unwrap();
        foreign
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let read =
            tokio::task::spawn_blocking(move || std::io::Read::read(&mut foreign, &mut [0; 16]));
        assert_eq!(read.await.unwrap().unwrap(), 0);
    };
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .unwrap();
    refusing.abort();
}
