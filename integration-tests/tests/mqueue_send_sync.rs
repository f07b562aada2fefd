//! What can cross threads.

use sinew_mqueue::{posix, sysv};

fn all<T: Send + Sync + Unpin + 'static>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<posix::Attributes>();
    all::<posix::Limits>();
    all::<posix::Message>();
    all::<posix::Options>();
    all::<posix::Queue>();
    all::<posix::Receiver>();
    all::<posix::Sender>();
    all::<sysv::Attributes>();
    all::<sysv::Limits>();
    all::<sysv::Message>();
    all::<sysv::Options>();
    all::<sysv::Queue>();
    all::<sysv::Receiver>();
    all::<sysv::Select>();
    all::<sysv::Sender>();
    all::<sysv::Target>();
}

#[tokio::test]
async fn futures() {
    let mut buffer = Vec::new();
    let name = format!("/sinew-send-sync-{}", std::process::id());
    let options = posix::Options::new().create(true).unlink_on_drop(true);
    let mut queue = options.open(&name).unwrap();
    sendable(&queue.send("x"));
    sendable(&queue.recv());
    sendable(&queue.close());
    let (mut sender, mut receiver) = queue.split();
    sendable(&sender.send("x"));
    sendable(&sender.send_slice(b"x", 1));
    sendable(&sender.writable());
    sendable(&sender.close());
    sendable(&receiver.recv());
    sendable(&receiver.recv_into(&mut buffer));
    sendable(&receiver.readable());

    let options = sysv::Options::new().remove_on_drop(true);
    let mut queue = options.open(sysv::Target::Private).unwrap();
    sendable(&queue.send("x"));
    sendable(&queue.recv());
    sendable(&queue.close());
    let (mut sender, mut receiver) = queue.split();
    sendable(&sender.send("x"));
    sendable(&sender.send_slice(b"x", 1));
    sendable(&sender.close());
    sendable(&receiver.recv());
    sendable(&receiver.recv_into(&mut buffer));
}
