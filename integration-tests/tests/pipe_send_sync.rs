//! What can cross threads.

use std::process::Command;

use sinew_pipe::{
    ChildReceiver, ChildSender, Framing, Gift, Options, PacketReceiver, PacketSender, Pages,
    Reader, Receiver, Sender, Splice, Tee, Writer, fifo, pair,
};

fn all<T: Send + Sync + Unpin + 'static>() {}
fn lent<T: Send + Unpin>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<ChildReceiver>();
    all::<ChildSender>();
    all::<ChildReceiver<PacketReceiver>>();
    all::<ChildSender<PacketSender>>();
    all::<Framing>();
    all::<Gift>();
    all::<Options>();
    all::<PacketReceiver>();
    all::<PacketSender>();
    all::<Pages>();
    all::<Reader>();
    all::<Receiver>();
    all::<Sender>();
    all::<Writer>();
    all::<fifo::Eof>();
    all::<fifo::Options>();
    lent::<Splice<'_, Reader, Writer>>();
    lent::<Tee<'_, Writer>>();
}

#[tokio::test]
async fn futures() {
    let (mut sender, mut receiver) = pair().unwrap();
    sendable(&sender.send("text"));
    sendable(&sender.flush());
    sendable(&sender.close());
    sendable(&receiver.recv());
    let (mut sender, mut receiver) = Options::new().packet_pair().unwrap();
    sendable(&sender.send("text"));
    sendable(&sender.close());
    sendable(&receiver.recv());
    let (mut sender, mut receiver) = Options::new().spawn(&mut Command::new("true")).unwrap();
    sendable(&sender.send("text"));
    sendable(&sender.close());
    sendable(&receiver.recv());

    let (mut writer, mut reader) = Options::new().byte_pair().unwrap();
    let (mut copy, _log) = Options::new().byte_pair().unwrap();
    sendable(&Splice::new(&mut reader, &mut writer).run());
    sendable(&Tee::new(&mut reader, &mut writer, &mut copy).run());
    sendable(&Pages::new(1).unwrap().into_gift().send(&mut writer));

    let options = fifo::Options::new();
    sendable(&options.sender("/none"));
    sendable(&options.receiver("/none"));
    sendable(&options.packet_sender("/none"));
    sendable(&options.packet_receiver("/none"));
}
