//! What can cross threads.

use std::io;
use std::os::fd::OwnedFd;

use sinew_core::{
    Address, AddressError, AsyncIo, Attributes, BoxSink, BoxStream, Credentials, Error, ErrorKind,
    FrameCodec, FrameReader, FrameWriter, Framing, Message, Messages, Scheme, Stage, TokioCodec,
    TryRecvError, TrySendError,
};

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn unpin<T: Unpin>() {}
fn all<T: Send + Sync + Unpin + 'static>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<Address>();
    all::<AddressError>();
    all::<AsyncIo<OwnedFd>>();
    all::<Attributes>();
    all::<Credentials>();
    all::<Error>();
    all::<ErrorKind>();
    all::<FrameCodec>();
    all::<FrameReader<OwnedFd>>();
    all::<FrameWriter<OwnedFd>>();
    all::<Framing>();
    all::<Message>();
    all::<Messages<OwnedFd>>();
    all::<Scheme>();
    all::<Stage>();
    all::<TokioCodec<OwnedFd>>();
    all::<TryRecvError>();
    all::<TrySendError<Message>>();
    send::<BoxStream>();
    unpin::<BoxStream>();
    send::<BoxSink>();
    unpin::<BoxSink>();
    sync::<&'static Address>();
}

#[tokio::test]
async fn futures() {
    let (reader, _writer) = io::pipe().unwrap();
    let reader = AsyncIo::new(reader).unwrap();
    sendable(&reader.read_with(|_| Ok(())));
    sendable(&reader.write_with(|_| Ok(())));
    sendable(&reader.error_with(|_| Ok(())));

    let mut reader = FrameReader::new(&b""[..], Framing::Lines);
    sendable(&reader.recv());
    let mut writer = FrameWriter::new(Vec::new(), Framing::Lines);
    sendable(&writer.send("text"));
    sendable(&writer.flush());
    sendable(&writer.close());
}
