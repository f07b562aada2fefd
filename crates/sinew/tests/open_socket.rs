//! `unix:`, `unix-dgram:`, `unix-seqpacket:`, `tcp:` and `udp:` addresses, within one process.
#![cfg(feature = "socket")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew::{Address, BoxSink, BoxStream, Error, ErrorKind, Message};
use tempfile::TempDir;

/// A meeting point that nobody else has.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn address(&self, scheme: &str, parameters: &str) -> Address {
        format!("{scheme}:{}/s{parameters}", self.dir.path().display())
            .parse()
            .unwrap()
    }
}

fn tcp(parameters: &str) -> Address {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    format!("tcp:{}{parameters}", free.unwrap())
        .parse()
        .unwrap()
}

fn udp(parameters: &str) -> Address {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr();
    format!("udp:{}{parameters}", free.unwrap())
        .parse()
        .unwrap()
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

async fn meet(receiver: &Address, sender: &Address) -> Result<(BoxStream, BoxSink), Error> {
    bounded(async { tokio::try_join!(sinew::open_receiver(receiver), sinew::open_sender(sender)) })
        .await
}

/// Messages cross, and so does the end, if there is one.
async fn passes(receiver: &Address, sender: &Address, largest: usize, ends: bool) {
    let (mut stream, mut sink) = meet(receiver, sender).await.unwrap();
    let receiving = async {
        assert_eq!(stream.next().await.unwrap().unwrap().payload(), "hello");
        let large = stream.next().await.unwrap().unwrap();
        assert_eq!(large.payload(), &vec![7; largest]);
        assert_eq!(stream.next().await.unwrap().unwrap().payload(), "");
        if ends {
            assert!(stream.next().await.is_none());
        }
    };
    let sending = async {
        sink.send(Message::from("hello")).await.unwrap();
        sink.send(Message::from(vec![7; largest])).await.unwrap();
        sink.send(Message::from("")).await.unwrap();
        sink.close().await.unwrap();
    };
    bounded(async { tokio::join!(receiving, sending) }).await;
}

fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn every_scheme_passes_messages() {
    let place = Place::new();
    for (scheme, largest, ends) in [
        ("unix", 300_000, true),
        ("unix-seqpacket", 100_000, true),
        ("unix-dgram", 100_000, false),
    ] {
        let address = place.address(scheme, "");
        passes(&address, &address, largest, ends).await;
        assert!(!address.path().unwrap().exists(), "{address}");
        let name: Address = format!("{scheme}:@sinew-open-{}", std::process::id())
            .parse()
            .unwrap();
        passes(&name, &name, largest, ends).await;
    }
    let address = tcp("");
    passes(&address, &address, 300_000, true).await;
    let address = udp("");
    passes(&address, &address, 60_000, false).await;
}

#[tokio::test]
async fn roles_can_be_swapped() {
    let place = Place::new();
    for scheme in ["unix", "unix-seqpacket"] {
        let (receiver, sender) = (
            place.address(scheme, "?connect"),
            place.address(scheme, "?listen"),
        );
        passes(&receiver, &sender, 1000, true).await;
    }
    let receiver = tcp("");
    let sender = receiver.clone().with_flag("listen").unwrap();
    let receiver = receiver.with_flag("connect").unwrap();
    passes(&receiver, &sender, 1000, true).await;
    for address in [place.address("unix-dgram", "?listen"), udp("?listen")] {
        let error = error(sinew::open_sender(&address).await);
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
    }
}

#[tokio::test]
async fn every_parameter_is_taken() {
    let place = Place::new();
    let all = place.address(
        "unix",
        "?credentials&framing=length&max-message=1M&mode=600&timeout=20s",
    );
    passes(&all, &all, 1000, true).await;
    let all = place.address(
        "unix-seqpacket",
        "?credentials&max-message=1K&mode=600&timeout=20s",
    );
    passes(&all, &all, 1000, true).await;
    let listen = place.address(
        "unix-dgram",
        "?credentials&max-message=1K&mode=600&timeout=20s&listen",
    );
    let bind = format!(
        "?bind={}/us&credentials&max-message=1K&timeout=20s&connect",
        place.dir.path().display()
    );
    passes(&listen, &place.address("unix-dgram", &bind), 1000, false).await;
    let all = tcp(
        "?backlog=5&framing=length&keepalive=10s&linger=5s&max-message=1M&nodelay&reuse-port&timeout=20s",
    );
    passes(&all, &all, 1000, true).await;
    let all = udp("?max-message=1K&reuse-port&ttl=3&broadcast");
    let sender = all.clone().with("bind", "127.0.0.1:0").unwrap();
    passes(&all, &sender, 1000, false).await;
}

#[tokio::test]
async fn the_mode_and_the_sender_s_credentials() {
    let place = Place::new();
    let address = place.address("unix", "?mode=620&credentials");
    let path = address.path().unwrap().to_owned();
    let receiving = tokio::spawn({
        let address = address.clone();
        async move { sinew::open_receiver(&address).await }
    });
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o620);
    let mut sink = sinew::open_sender(&address).await.unwrap();
    let mut stream = bounded(receiving).await.unwrap().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    sink.send(Message::from("with a file").with_fds([file.into()]))
        .await
        .unwrap();
    let message = bounded(stream.next()).await.unwrap().unwrap();
    assert_eq!(message.credentials().unwrap().pid, std::process::id());
    assert_eq!(message.fds().len(), 1);
    let error = sink
        .send(Message::from("x").with_priority(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn multicast() {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address: Address =
        format!("udp:239.255.71.94:{port}?multicast&interface=127.0.0.1&ttl=0&loopback=on")
            .parse()
            .unwrap();
    let mut one = sinew::open_receiver(&address).await.unwrap();
    let mut other = sinew::open_receiver(&address).await.unwrap();
    let mut sink = sinew::open_sender(&address).await.unwrap();
    sink.send(Message::from("to all")).await.unwrap();
    for stream in [&mut one, &mut other] {
        assert_eq!(
            bounded(stream.next()).await.unwrap().unwrap().payload(),
            "to all"
        );
    }
    for (wrong, remedy) in [
        ("udp:239.255.71.94:5?interface=lo", "add `multicast`"),
        ("udp:[ff02::1%25lo]:5", "add `multicast`"),
        ("udp:127.0.0.1:5?multicast", "leave out `multicast`"),
        ("udp:[::1]:5?bind=[fe80::1%25nowhere]:0&connect", "ip link"),
    ] {
        let error = error(sinew::open_receiver(&wrong.parse().unwrap()).await);
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[tokio::test]
async fn open_has_both_directions() {
    let place = Place::new();
    let bind = format!("?bind={}/us", place.dir.path().display());
    let any = udp("");
    for (here, there, ends) in [
        (
            place.address("unix", "?listen"),
            place.address("unix", ""),
            true,
        ),
        (
            place.address("unix-seqpacket", "?listen"),
            place.address("unix-seqpacket", ""),
            true,
        ),
        (
            place.address("unix-dgram", "?listen"),
            place.address("unix-dgram", &bind),
            false,
        ),
        (any.clone().with_flag("listen").unwrap(), any, false),
    ] {
        let listening = tokio::spawn(async move { sinew::open(&here).await });
        // A datagram to a port that nobody has yet would be lost.
        tokio::time::sleep(Duration::from_millis(50)).await;
        bounded(async {
            let (mut to, mut from) = sinew::open(&there).await.unwrap();
            to.send(Message::from("ping")).await.unwrap();
            let (mut sink, mut stream) = listening.await.unwrap().unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap().payload(), "ping");
            sink.send(Message::from("pong")).await.unwrap();
            assert_eq!(from.next().await.unwrap().unwrap().payload(), "pong");
            to.close().await.unwrap();
            if ends {
                assert!(stream.next().await.is_none());
                sink.send(Message::from("still")).await.unwrap();
                assert_eq!(from.next().await.unwrap().unwrap().payload(), "still");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn ends_that_do_not_come() {
    let place = Place::new();
    for address in [
        place.address("unix", "?timeout=50ms"),
        place.address("unix-seqpacket", "?timeout=50ms"),
        place.address("unix-dgram", "?timeout=50ms"),
        tcp("?timeout=50ms"),
    ] {
        let error = error(bounded(sinew::open_sender(&address)).await);
        assert!(error.to_string().contains("waited 50ms"), "{error}");
    }
    for address in [place.address("unix", "?timeout=50ms"), tcp("?timeout=50ms")] {
        let error = error(bounded(sinew::open_receiver(&address)).await);
        assert!(error.is_timed_out(), "{error}");
    }
}

#[tokio::test]
async fn wrong_parameters() {
    for (wrong, reason) in [
        ("unix:@name?mode=600", "no permissions"),
        ("unix:/tmp/x?mode=1777", "permission bits"),
        ("unix:/tmp/x?mode=600&connect", "the end that listens"),
        ("udp:127.0.0.1:5?bind=nowhere", "no address"),
    ] {
        let error = error(sinew::open(&wrong.parse().unwrap()).await);
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}
