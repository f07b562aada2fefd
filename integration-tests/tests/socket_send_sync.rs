//! What can move between threads, and be pinned anywhere.

use std::fmt::Debug;

use sinew_socket::unix::{Inherited, Message, datagram, seqpacket, stream};
use sinew_socket::{tcp, udp};

fn sendable<T: Send>(_: &T) {}

fn part<T: Send + Unpin + Debug>() {}

fn value<T: Send + Sync + Unpin + Debug>() {}

#[test]
fn types() {
    part::<stream::Connection>();
    part::<stream::Sender>();
    part::<stream::Receiver>();
    part::<stream::Listener>();
    part::<stream::ByteStream>();
    part::<seqpacket::Connection>();
    part::<seqpacket::Sender>();
    part::<seqpacket::Receiver>();
    part::<seqpacket::Listener>();
    part::<datagram::Socket>();
    part::<datagram::Sender>();
    part::<datagram::Receiver>();
    part::<tcp::Connection>();
    part::<tcp::Sender>();
    part::<tcp::Receiver>();
    part::<tcp::Listener>();
    part::<tcp::ByteStream>();
    part::<udp::Socket>();
    part::<udp::Sender>();
    part::<udp::Receiver>();
    value::<stream::Options>();
    value::<seqpacket::Options>();
    value::<datagram::Options>();
    value::<tcp::Options>();
    value::<tcp::Keepalive>();
    value::<udp::Options>();
    value::<udp::Interface>();
    value::<udp::Message>();
    value::<Message>();
    value::<Inherited>();
}

#[tokio::test]
async fn futures() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    sendable(&stream::Listener::bind(&path));
    sendable(&seqpacket::Listener::bind(&path));
    sendable(&datagram::Socket::bind(&path));
    sendable(&tcp::Listener::bind("127.0.0.1:0"));
    sendable(&udp::Socket::bind("127.0.0.1:0"));
    sendable(&stream::connect(&path));
    sendable(&seqpacket::connect(&path));
    sendable(&datagram::Socket::connect(&path));
    sendable(&tcp::connect("127.0.0.1:0"));
    sendable(&udp::Socket::connect("127.0.0.1:0"));
    sendable(&udp::Options::new().bind_multicast("239.1.1.1:0"));

    let mut listener = stream::Listener::bind(&path).await.unwrap();
    sendable(&listener.accept());
    let (mut left, mut right) = stream::pair().unwrap();
    sendable(&left.send("text"));
    sendable(&left.send(Message::new("text")));
    sendable(&right.recv());
    sendable(&left.close());
    sendable(&left.sender().flush());
    sendable(&left.into_byte_stream());
    let (mut left, mut right) = seqpacket::pair().unwrap();
    sendable(&left.send("text"));
    sendable(&right.recv());
    sendable(&left.close());
    let (mut left, mut right) = datagram::pair().unwrap();
    sendable(&left.send("text"));
    sendable(&right.recv());
    sendable(&left.close());
    let mut listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tcp::connect(listener.local_addr()).await.unwrap();
    sendable(&listener.accept());
    sendable(&client.send("text"));
    sendable(&client.recv());
    sendable(&client.close());
    sendable(&client.into_byte_stream());
    let mut socket = udp::Socket::bind("127.0.0.1:0").await.unwrap();
    sendable(&socket.send("text"));
    sendable(&socket.recv());
    sendable(&socket.close());
}
