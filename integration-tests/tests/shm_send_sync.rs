//! What can cross threads.

use sinew_core::Error;
use sinew_memory::Frozen;
use sinew_shm::{
    Batch, Borrowed, ByteStream, Channel, Doorbell, Draft, Endpoint, IntoChannelError, Iter,
    Listener, Loan, Options, OwnedReadHalf, OwnedWriteHalf, Receiver, ReceiverStats, ReuniteError,
    Sender, SenderStats, TrustedReceiver, Wait, pair,
};

fn all<T: Send + Sync + Unpin + 'static>() {}
fn lent<T: Send + Sync + Unpin>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<Batch>();
    all::<ByteStream>();
    all::<Channel>();
    all::<Doorbell>();
    all::<Draft>();
    all::<Endpoint>();
    all::<Error>();
    all::<Frozen>();
    all::<IntoChannelError>();
    all::<Options>();
    all::<OwnedReadHalf>();
    all::<OwnedWriteHalf>();
    all::<Receiver>();
    all::<ReceiverStats>();
    all::<ReuniteError>();
    all::<Sender>();
    all::<SenderStats>();
    all::<TrustedReceiver>();
    all::<Wait>();
    lent::<Borrowed<'_>>();
    lent::<Iter<'_>>();
    lent::<Loan<'_>>();
}

#[test]
fn a_listener_is_send() {
    fn send<T: Send + Unpin + 'static>() {}
    send::<Listener>();
}

#[tokio::test]
async fn futures() {
    let (mut left, right) = pair().unwrap();
    sendable(&left.send("by reference"));
    sendable(&left.send(vec![1]));
    sendable(&left.recv());
    sendable(&left.close());
    let (mut sender, mut receiver) = left.split();
    let frozen = Frozen::copy_from_slice(b"once").unwrap();
    sendable(&sender.send("text"));
    sendable(&sender.send_frozen(&frozen));
    sendable(&sender.send_batch(["text"]));
    sendable(&sender.reserve(1));
    sendable(&sender.close());
    let loan = sender.reserve(1).await.unwrap();
    sendable(&loan.commit(1));
    let mut batch = Batch::new();
    let mut buffer = Vec::new();
    sendable(&receiver.recv());
    sendable(&receiver.recv_into(&mut buffer));
    sendable(&receiver.recv_batch(&mut batch));
    drop(right);

    let directory = tempfile::tempdir().unwrap();
    let options = Options::new();
    let path = directory.path().join("shm");
    sendable(&options.bind(&path));
    sendable(&options.connect(&path));
    sendable(&options.inherited());
    sendable(&options.spawn(tokio::process::Command::new("true")));
    sendable(&sinew_shm::connect(&path));
    sendable(&sinew_shm::inherited());
    let mut listener = options.bind(&path).await.unwrap();
    sendable(&listener.accept());
}
