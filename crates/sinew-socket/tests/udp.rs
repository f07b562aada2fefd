//! UDP within one process, over the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_core::ErrorKind;
use sinew_socket::udp::{Interface, Message, Options, Socket};
use socket2::SockRef;

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

#[tokio::test]
async fn datagrams_and_answers() {
    let mut server = Socket::bind("127.0.0.1:0").await.unwrap();
    let mut client = Socket::connect(server.local_addr()).await.unwrap();
    for payload in ["", "x", "a longer one"] {
        client.send(payload).await.unwrap();
        let message = bounded(server.recv()).await.unwrap();
        assert_eq!(message.payload(), payload);
        assert_eq!(message.address(), Some(client.local_addr()));
        server.send(message).await.unwrap();
        assert_eq!(bounded(client.recv()).await.unwrap().payload(), payload);
    }
    client.send(vec![5; 65_507]).await.unwrap();
    assert_eq!(
        bounded(server.recv()).await.unwrap().payload().len(),
        65_507
    );
    let error = client.send(vec![5; 65_508]).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EMSGSIZE"), "{error}");
    assert!(error.to_string().contains("65,507"), "{error}");
    client.feed(Message::from("still")).await.unwrap();
    SinkExt::<Message>::close(&mut client).await.unwrap();
    assert_eq!(
        bounded(server.next()).await.unwrap().unwrap().payload(),
        "still"
    );
    assert!(client.send("closed").await.unwrap_err().is_closed());
    let error = server.send("where to").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_datagram_above_the_limit_is_reported_with_its_length() {
    let mut server = Options::new()
        .max_message(16)
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let mut client = Socket::connect(server.local_addr()).await.unwrap();
    client.send([1; 17]).await.unwrap();
    client.send([1; 16]).await.unwrap();
    let error = bounded(server.next()).await.unwrap().unwrap_err();
    assert!(
        error.is_recoverable() && error.to_string().contains("17 bytes"),
        "{error}"
    );
    assert_eq!(
        bounded(server.next()).await.unwrap().unwrap().payload()[..],
        [1; 16]
    );
}

#[tokio::test]
async fn nobody_has_the_port() {
    let gone = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut client = Socket::connect(gone).await.unwrap();
    // Waiting when the answer comes, by error alone.
    for _ in 0..3 {
        client.send("anybody").await.unwrap();
        let error = bounded(client.next()).await.unwrap().unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(error.errno_name(), Some("ECONNREFUSED"));
        assert_eq!(error.lost(), Some(1));
    }
    client.send("anybody").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = client.send("again").await.unwrap_err();
    assert!(error.is_recoverable(), "{error}");
    // And it goes on.
    let mut server = Socket::bind(gone).await.unwrap();
    client.send("now").await.unwrap();
    assert_eq!(bounded(server.recv()).await.unwrap().payload(), "now");
    let answer = Message::new("yes").with_address(client.local_addr());
    server.send(answer).await.unwrap();
    assert_eq!(
        bounded(client.next()).await.unwrap().unwrap().payload(),
        "yes"
    );
}

#[tokio::test]
async fn dual_stack() {
    let mut both = match Socket::bind("[::]:0").await {
        Ok(socket) => socket,
        Err(error) if error.errno_name() == Some("EAFNOSUPPORT") => return,
        Err(error) => panic!("{error}"),
    };
    let port = both.local_addr().port();
    for host in ["127.0.0.1", "[::1]"] {
        let mut client = Socket::connect(format!("{host}:{port}")).await.unwrap();
        client.send(host).await.unwrap();
        let message = bounded(both.recv()).await.unwrap();
        assert_eq!(message.payload(), host);
        // An IPv4 sender is an IPv6 address in which IPv4 is mapped, and can be answered so.
        both.send(message).await.unwrap();
        assert_eq!(bounded(client.recv()).await.unwrap().payload(), host);
    }
    let _only = Options::new()
        .only_v6(true)
        .bind(format!("[::]:{port}"))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn multicast_over_the_loopback_interface() {
    let group = Ipv4Addr::new(239, 255, 71, 93);
    let lo = Interface::Address(Ipv4Addr::LOCALHOST);
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("{group}:{port}");
    let options = Options::new().interface(lo.clone());
    let mut one = options.bind_multicast(&address).await.unwrap();
    let mut other = options.bind_multicast(&address).await.unwrap();
    let mut sender = options.clone().ttl(0).connect(&address).await.unwrap();
    sender.send("to all").await.unwrap();
    for member in [&mut one, &mut other] {
        assert_eq!(bounded(member.recv()).await.unwrap().payload(), "to all");
    }

    // One leaves; both sockets are at the group's address, but membership is the socket's.
    other.leave(group.into(), &lo).unwrap();
    let error = other.leave(group.into(), &lo).unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRNOTAVAIL"), "{error}");
    other
        .join(group.into(), &Interface::Name("lo".into()))
        .unwrap();
    sender.send("again").await.unwrap();
    for member in [&mut one, &mut other] {
        assert_eq!(bounded(member.recv()).await.unwrap().payload(), "again");
    }

    let error = one.join(Ipv4Addr::LOCALHOST.into(), &lo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let nowhere = Interface::Name("nosuchif0".into());
    let error = one.join(group.into(), &nowhere).unwrap_err();
    assert!(error.remedy().unwrap().contains("ip link"), "{error}");
}

#[tokio::test]
async fn options_are_set() {
    let options = Options::new().broadcast(true).ttl(7).loopback(false);
    let socket = options.bind("127.0.0.1:0").await.unwrap();
    let raw = SockRef::from(&socket);
    assert!(raw.broadcast().unwrap());
    assert_eq!(raw.ttl_v4().unwrap(), 7);
    assert_eq!(raw.multicast_ttl_v4().unwrap(), 7);
    assert!(!raw.multicast_loop_v4().unwrap());
    let error = Socket::bind(socket.local_addr()).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
    let error = Socket::connect("255.255.255.255:9").await.unwrap_err();
    // Without a route to anywhere, there is none to everywhere.
    if error.errno_name() != Some("ENETUNREACH") {
        assert!(error.remedy().unwrap().contains("broadcast"), "{error}");
    }
    let sharing = Options::new().reuse_port(true);
    let one = sharing.bind("127.0.0.1:0").await.unwrap();
    sharing.bind(one.local_addr()).await.unwrap();
}

/// The name and a link-local address of an interface that has one.
fn link_local() -> Option<(String, Ipv6Addr)> {
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let found = addresses.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let bits = u128::from_str_radix(words[0], 16).ok()?;
        (words[3] == "20").then(|| (words[5].to_owned(), Ipv6Addr::from_bits(bits)))
    });
    if found.is_none() {
        println!("skipped: no interface has a link-local address");
    }
    found
}

#[tokio::test]
async fn a_zone_is_a_name_or_a_number() {
    let Some((name, ip)) = link_local() else {
        return;
    };
    let mut server = Socket::bind(format!("[{ip}%{name}]:0")).await.unwrap();
    let SocketAddr::V6(local) = server.local_addr() else {
        panic!("{server:?}");
    };
    let (port, index) = (local.port(), local.scope_id());
    assert_ne!(index, 0);
    for zone in [name, index.to_string()] {
        let mut client = Socket::connect(format!("[{ip}%{zone}]:{port}"))
            .await
            .unwrap();
        client.send(zone.as_str()).await.unwrap();
        assert_eq!(
            bounded(server.recv()).await.unwrap().payload(),
            zone.as_str()
        );
    }
    let error = Socket::connect(format!("[{ip}]:{port}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("%25eth0"), "{error}");
    let error = Socket::connect(format!("[{ip}%nowhere]:{port}"))
        .await
        .unwrap_err();
    assert_eq!(error.errno_name(), Some("ENODEV"), "{error}");
    assert!(
        error.to_string().contains("no such network interface"),
        "{error}"
    );
}

#[tokio::test]
async fn a_group_of_link_scope_is_on_an_interface() {
    const GROUP: &str = "ff02::5ec7";
    let Some((name, _)) = link_local() else {
        return;
    };
    let through = Options::new().interface(Interface::Name(name.clone()));
    let port = Socket::bind("[::]:0").await.unwrap().local_addr().port();
    let (plain, zoned) = (
        format!("[{GROUP}]:{port}"),
        format!("[{GROUP}%{name}]:{port}"),
    );
    for (options, group) in [
        (through.clone(), &plain),
        (Options::new(), &zoned),
        (through, &zoned),
    ] {
        let mut member = options.bind_multicast(group).await.unwrap();
        let mut sender = options.connect(group).await.unwrap();
        sender.send("to the link").await.unwrap();
        let message = bounded(member.recv()).await.unwrap();
        assert_eq!(message.payload(), "to the link");
    }
    for error in [
        Options::new().bind_multicast(&plain).await.unwrap_err(),
        Socket::connect(&plain).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.remedy().unwrap().contains("interface"), "{error}");
    }
    let other = Options::new().interface(Interface::Name("lo".to_owned()));
    let error = other.bind_multicast(&zoned).await.unwrap_err();
    assert!(error.to_string().contains("another interface"), "{error}");
}
