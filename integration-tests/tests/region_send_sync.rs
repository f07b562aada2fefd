//! What can cross threads.

use sinew_memory::{
    Attachments, MappedFile, PosixShm, Region, SysvShm, SysvStat, SysvTarget, View,
};
use sinew_shm::named::{Options, Place, Receiver, Sender};

fn all<T: Send + Sync + Unpin + 'static>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<Attachments>();
    all::<MappedFile>();
    all::<Options>();
    all::<Place>();
    all::<PosixShm>();
    all::<Receiver>();
    all::<Region>();
    all::<Sender>();
    all::<SysvShm>();
    all::<SysvStat>();
    all::<SysvTarget>();
    all::<View<std::sync::atomic::AtomicU64>>();
}

#[tokio::test]
async fn futures() {
    let region = Region::memfd(16 << 10).unwrap().0;
    let options = Options::new();
    sendable(&options.open_sender(region.clone()));
    sendable(&options.open_receiver(region.clone()));
    sendable(&options.open_server(region.clone()));
    sendable(&options.open_client(region.clone()));
    let mut sender = options.open_sender(region.clone()).await.unwrap();
    let mut receiver = options.open_receiver(region).await.unwrap();
    sendable(&sender.send("by reference"));
    sendable(&sender.flush());
    sendable(&sender.close());
    let mut buffer = Vec::new();
    sendable(&receiver.recv());
    sendable(&receiver.recv_into(&mut buffer));
    sendable(&receiver.peek());
}
