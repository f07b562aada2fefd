//! TCP within one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sinew_core::{ErrorKind, Framing, TrySendError};
use sinew_socket::tcp::{Connection, Keepalive, Listener, Options, connect};
use socket2::SockRef;

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

async fn meet(options: &Options) -> (Connection, Connection) {
    let mut listener = options.bind("127.0.0.1:0").await.unwrap();
    let (client, server) = tokio::join!(options.connect(listener.local_addr()), listener.accept());
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn messages_of_all_sizes_both_ways() {
    for framing in [Framing::Length, Framing::Lines] {
        let (client, mut server) = meet(&Options::new().framing(framing)).await;
        let (mut sender, mut receiver) = client.split();
        let sizes = [0_usize, 1, 3, 4, 5, 1000, 4096, 65_536, 1 << 20];
        let sending = async {
            for size in sizes {
                sender.send(vec![7; size]).await.unwrap();
                sender.feed(Bytes::from(vec![8; size])).await.unwrap();
            }
            SinkExt::<Bytes>::close(&mut sender).await.unwrap();
        };
        let serving = async {
            while let Some(message) = server.recv().await.unwrap() {
                server.send(message).await.unwrap();
            }
            // Half-closed: the other direction went on to the last.
            server.close().await.unwrap();
        };
        let receiving = async {
            for size in sizes {
                for byte in [7, 8] {
                    let message = receiver.next().await.unwrap().unwrap();
                    assert!(message.len() == size && message.iter().all(|&b| b == byte));
                }
            }
            assert!(receiver.next().await.is_none());
        };
        bounded(async { tokio::join!(sending, serving, receiving) }).await;
    }
}

#[tokio::test]
async fn options_are_set() {
    let keepalive = Keepalive::after(Duration::from_secs(40)).probes(Duration::from_secs(7), 3);
    let options = Options::new()
        .nodelay(true)
        .keepalive(keepalive)
        .linger(Duration::from_secs(2));
    let (client, server) = meet(&options).await;
    for end in [&client, &server] {
        let socket = SockRef::from(end);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(40)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(7)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        // Waited for without blocking a thread.
        assert_eq!(socket.linger().unwrap(), None);
    }
    let (client, _server) = meet(&Options::new().linger(Duration::ZERO)).await;
    assert_eq!(
        SockRef::from(&client).linger().unwrap(),
        Some(Duration::ZERO)
    );
    let (client, _server) = meet(&Options::new()).await;
    let socket = SockRef::from(&client);
    assert!(!socket.tcp_nodelay().unwrap() && !socket.keepalive().unwrap());
    assert_eq!(socket.linger().unwrap(), None);
}

#[tokio::test]
async fn dual_stack() {
    let mut both = match Options::new().bind("[::]:0").await {
        Ok(listener) => listener,
        Err(error) if error.errno_name() == Some("EAFNOSUPPORT") => return,
        Err(error) => panic!("{error}"),
    };
    let port = both.local_addr().port();
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let client = connect(format!("{host}:{port}")).await.unwrap();
        let server = both.accept().await.unwrap();
        assert_eq!(client.local_addr().port(), server.peer_addr().port());
    }
    let only = Options::new().only_v6(true).bind("[::]:0").await.unwrap();
    let port = only.local_addr().port();
    let error = connect(format!("127.0.0.1:{port}")).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ECONNREFUSED"), "{error}");
}

#[tokio::test]
async fn a_reset_is_a_crash() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().unwrap();
    (&server).write_all(b"\0\0\0\x05hello\0\0\0\x05he").unwrap();
    SockRef::from(&server)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    assert_eq!(bounded(client.recv()).await.unwrap().unwrap(), "hello");
    drop(server);
    let error = bounded(client.recv()).await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    assert!(client.recv().await.unwrap_err().is_peer_crashed());
    let error = client.send("gone").await.unwrap_err();
    assert!(error.is_closed() || error.is_peer_crashed(), "{error}");
}

#[tokio::test]
async fn an_end_within_a_message_is_a_crash() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().unwrap();
    (&server).write_all(b"\0\0\0\x05he").unwrap();
    drop(server);
    let error = bounded(client.recv()).await.unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    assert!(error.address().is_some(), "{error}");
}

#[tokio::test]
async fn a_message_above_the_limit() {
    let (mut client, mut server) = meet(&Options::new().max_message(8)).await;
    let error = client.send("123456789").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert!(client.try_send("123456789").unwrap_err().is_rejected());
    client.send("12345678").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), "12345678");
}

#[tokio::test]
async fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = connect(free).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ECONNREFUSED"));
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.address(), Some(free.to_string().as_str()));
    let patient = Options::new().wait_for_listener(Duration::from_millis(30));
    let error = patient.connect(free).await.unwrap_err();
    assert!(error.to_string().contains("waited 30ms"), "{error}");
    let error = connect("no.such.host.invalid:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = connect("no port").await.unwrap_err();
    assert!(error.remedy().unwrap().contains("host:port"), "{error}");
}

/// A backlog that is full swallows what comes, as a firewall would.
#[tokio::test]
async fn nobody_answers() {
    let listener = Options::new().backlog(1).bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let options = Options::new().connect_timeout(Duration::from_millis(300));
    let mut held = Vec::new();
    let error = loop {
        match options.connect(address).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() < 50, "the backlog is never full");
    };
    assert!(error.is_timed_out(), "{error}");
    assert!(error.to_string().contains("300ms"), "{error}");
}

#[tokio::test]
async fn ports() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Listener::bind(address).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRINUSE"));
    assert!(error.remedy().unwrap().contains("reuse_port"), "{error}");
    let error = Listener::bind("192.0.2.1:0").await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRNOTAVAIL"), "{error}");
    let sharing = Options::new().reuse_port(true);
    let one = sharing.bind("127.0.0.1:0").await.unwrap();
    let _other = sharing.bind(one.local_addr()).await.unwrap();

    // A port on which the last server's connection is still waiting.
    let mut listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let (client, server) = tokio::join!(connect(address), listener.accept());
    drop(listener);
    drop(server);
    drop(client);
    Listener::bind(address).await.unwrap();
}

#[tokio::test]
async fn from_a_chosen_port() {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let client = Options::new()
        .local(local)
        .connect(listener.local_addr())
        .await
        .unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.peer_addr(), client.local_addr());
}

#[tokio::test]
async fn back_pressure() {
    let (client, mut server) = meet(&Options::new().send_buffer(8192).recv_buffer(8192)).await;
    let (mut sender, _receiver) = client.split();
    let mut count = 0_u32;
    loop {
        match sender.try_send(vec![1; 1000]) {
            Ok(()) => count += 1,
            Err(TrySendError::Full(back)) => break assert_eq!(back.len(), 1000),
            Err(error) => panic!("{error}"),
        }
        assert!(count < 100_000);
    }
    let reading = tokio::spawn(async move {
        let mut count = 0_u32;
        while let Some(message) = server.recv().await.unwrap() {
            assert_eq!(message, vec![1; 1000]);
            count += 1;
        }
        count
    });
    bounded(sender.close()).await.unwrap();
    assert_eq!(bounded(reading).await.unwrap(), count);
}

/// A sender alone does not have the connection reset because of answers that it did not read.
#[tokio::test]
async fn answers_that_nobody_wants() {
    let (client, mut server) = meet(&Options::new()).await;
    let mut sender = client.into_sender();
    let echo = tokio::spawn(async move {
        let mut count = 0;
        while let Ok(Some(message)) = server.recv().await {
            let _unwanted = server.send(message).await;
            count += 1;
        }
        count
    });
    bounded(async {
        for _ in 0..200 {
            sender.send(vec![7; 100_000]).await.unwrap();
        }
        sender.close().await.unwrap();
    })
    .await;
    // Closed, it is told by and by.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(sender);
    assert_eq!(bounded(echo).await.unwrap(), 200);
}

/// A sender that lingers is done when the peer's host has everything, or says that it has not.
#[tokio::test]
async fn what_was_collected_goes_out_with_the_sender() {
    let (mut client, mut server) = meet(&Options::new()).await;
    client.feed("collected".into()).await.unwrap();
    let receiver = client.into_receiver();
    assert_eq!(bounded(server.recv()).await.unwrap().unwrap(), "collected");
    drop(receiver);
    assert_eq!(bounded(server.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn lingering() {
    let options = Options::new()
        .linger(Duration::from_millis(300))
        .send_buffer(200_000)
        .recv_buffer(4096);
    let (mut client, mut server) = meet(&options).await;
    bounded(client.send(vec![1; 100_000])).await.unwrap();
    let error = bounded(client.close()).await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    let reading = tokio::spawn(async move {
        assert_eq!(server.recv().await.unwrap().unwrap().len(), 100_000);
        assert!(server.recv().await.unwrap().is_none());
        server
    });
    let _server = bounded(reading).await.unwrap();
    bounded(client.close()).await.unwrap();
}

#[tokio::test]
async fn bytes_instead_of_messages() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, server) = meet(&Options::new().framing(Framing::Lines)).await;
    client.send("a header").await.unwrap();
    client
        .send("a body, of which some came with it")
        .await
        .unwrap();
    let mut server = server;
    assert_eq!(server.recv().await.unwrap().unwrap(), "a header");
    let mut bytes = server.into_byte_stream().await.unwrap();
    client.close().await.unwrap();
    let mut text = String::new();
    bytes.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "a body, of which some came with it\n");
    bytes.write_all(b"an answer").await.unwrap();
    bytes.shutdown().await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap(), "an answer");
}

#[tokio::test]
async fn a_listener_that_was_inherited() {
    let raw = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = raw.local_addr().unwrap();
    let mut listener = Options::new().listen_on(raw).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.peer_addr(), stream.local_addr().unwrap());
    let again = Options::new()
        .connection_on(server.as_fd().try_clone_to_owned().unwrap())
        .unwrap();
    assert_eq!(again.peer_addr(), server.peer_addr());
}

/// Ends that are dropped outside of any runtime, with something still to be written.
#[test]
fn dropped_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ends = runtime.block_on(async {
        let (mut client, server) = meet(&Options::new().send_buffer(8192).recv_buffer(8192)).await;
        while client.try_send(vec![1; 10_000]).is_ok() {}
        let (mut left, right) = sinew_socket::unix::seqpacket::pair().unwrap();
        while left.try_send(vec![1; 10_000]).is_ok() {}
        left.start_send_unpin("kept".into()).unwrap();
        let (mut one, other) = sinew_socket::unix::datagram::pair().unwrap();
        while one.try_send(vec![1; 10_000]).is_ok() {}
        one.start_send_unpin("kept".into()).unwrap();
        (client, server, left, right, one, other)
    });
    drop(ends);
}

#[tokio::test]
async fn a_zone_is_the_name_of_an_interface() {
    let mut listener = match Listener::bind("[::1%lo]:0").await {
        Ok(listener) => listener,
        Err(error) if error.errno_name() == Some("EADDRNOTAVAIL") => {
            println!("skipped: there is no IPv6 here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let port = listener.local_addr().port();
    let (client, server) = tokio::join!(
        sinew_socket::tcp::connect(format!("[::1%lo]:{port}")),
        listener.accept()
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send("hello").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), "hello");
    let error = Listener::bind("[fe80::1]:0").await.unwrap_err();
    assert!(error.to_string().contains("needs the interface"), "{error}");
}

/// A receiver alone answers the end of the peer's direction; another peer may go on with its own,
/// and is waited for in vain for a while.
#[tokio::test]
async fn a_sender_alone_waits_for_the_end_of_its_peer() {
    let patience = Duration::from_millis(300);
    let options = Options::new().linger(patience);
    let (client, server) = meet(&options).await;
    let (mut sender, mut receiver) = (client.into_sender(), server.into_receiver());
    sender.send("all").await.unwrap();
    let receiving = async {
        assert_eq!(receiver.recv().await.unwrap().as_deref(), Some(&b"all"[..]));
        assert_eq!(receiver.recv().await.unwrap(), None);
    };
    // The receiver is still there when the sender has closed.
    let (closed, ()) = bounded(async { tokio::join!(sender.close(), receiving) }).await;
    closed.unwrap();
    drop(receiver);

    let (client, mut server) = meet(&options).await;
    let mut sender = client.into_sender();
    sender.send("all").await.unwrap();
    let begun = std::time::Instant::now();
    bounded(sender.close()).await.unwrap();
    assert!(begun.elapsed() >= patience, "{:?}", begun.elapsed());
    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"all"[..]));
}
