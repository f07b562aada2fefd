//! Messages, and the streams and sinks of them.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt, stream};
use sinew_core::{
    Attributes, BoxSink, BoxStream, Credentials, Error, ErrorKind, Message, MessageSink,
    MessageStream, Messages,
};

fn descriptor() -> std::os::fd::OwnedFd {
    std::io::pipe().unwrap().0.into()
}

#[test]
fn payloads() {
    let expected = Bytes::from_static(b"job");
    for message in [
        Message::new(b"job".as_slice()),
        Message::from(expected.clone()),
        Message::from(BytesMut::from(b"job".as_slice())),
        Message::from(b"job".to_vec()),
        Message::from(b"job".to_vec().into_boxed_slice()),
        Message::from(String::from("job")),
        Message::from("job"),
        Message::from(b"job".as_slice()),
    ] {
        assert_eq!(message.payload(), &expected);
        assert!(message.attributes().is_empty());
        assert_eq!(Bytes::try_from(message).unwrap(), expected);
    }
}

#[test]
fn attributes() {
    let credentials = Credentials::new(1, 2, 3);
    let mut message = Message::from("job")
        .with_priority(4)
        .with_kind(-5)
        .with_credentials(credentials)
        .with_fds([descriptor(), descriptor()]);
    assert_eq!(message.priority(), Some(4));
    assert_eq!(message.kind(), Some(-5));
    assert_eq!(message.credentials(), Some(credentials));
    assert_eq!(message.fds().len(), 2);
    assert_eq!(message.attributes(), Attributes::ALL);
    assert_eq!(
        message.attributes().to_string(),
        "priority, kind, credentials, file descriptors"
    );

    assert_eq!(message.take_fds().len(), 2);
    assert!(message.fds().is_empty());
    assert_eq!(
        message.dropped_attributes(Attributes::PRIORITY | Attributes::FDS),
        Attributes::KIND | Attributes::CREDENTIALS
    );
}

#[test]
fn what_cannot_cross_is_named() {
    let message = Message::from("job")
        .with_priority(1)
        .with_fds([descriptor()]);
    assert!(message.require_support("send", Attributes::ALL).is_ok());
    let error = message
        .require_support("send", Attributes::PRIORITY)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .starts_with("send: the message's file descriptors cannot cross;")
    );
}

struct Native(Bytes);

impl From<Native> for Message {
    fn from(native: Native) -> Self {
        Self::new(native.0).with_kind(7)
    }
}

impl TryFrom<Message> for Native {
    type Error = Error;

    fn try_from(message: Message) -> Result<Self, Error> {
        message.require_support("send", Attributes::KIND)?;
        Ok(Self(message.into_payload()))
    }
}

/// Gives back what was sent into it.
#[derive(Default)]
struct Loopback(std::collections::VecDeque<Native>);

impl Stream for Loopback {
    type Item = Result<Native, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

impl Sink<Native> for Loopback {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, native: Native) -> Result<(), Error> {
        self.0.push_back(native);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl MessageSink for Loopback {
    type Native = Native;
}

#[tokio::test]
async fn both_directions_of_one_value() {
    let mut messages = Messages::new(Loopback::default());
    messages
        .send(Message::from("one").with_kind(7))
        .await
        .unwrap();
    let error = messages
        .send(Message::from("two").with_fds([descriptor()]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // The refusal left the sink as it was.
    messages.send(Message::from("three")).await.unwrap();

    for expected in ["one", "three"] {
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!(message.payload(), expected);
        assert_eq!(message.kind(), Some(7));
    }
    assert!(messages.next().await.is_none());
    assert!(messages.into_inner().0.is_empty());
}

#[tokio::test]
async fn boxed_halves() {
    let failing = stream::iter([
        Ok(Native(Bytes::from_static(b"one"))),
        Err(Error::new(ErrorKind::Lost, "recv").with_lost(2)),
        Ok(Native(Bytes::from_static(b"two"))),
    ]);
    let mut stream: BoxStream = failing.into_box_stream();
    assert_eq!(stream.next().await.unwrap().unwrap().payload(), "one");
    assert_eq!(stream.next().await.unwrap().unwrap_err().lost(), Some(2));
    assert_eq!(stream.next().await.unwrap().unwrap().payload(), "two");
    assert!(stream.next().await.is_none());

    let mut sink: BoxSink = Loopback::default().into_box_sink();
    sink.send(Message::from("one")).await.unwrap();
    assert!(
        sink.send(Message::from("two").with_priority(1))
            .await
            .is_err()
    );
    // What is boxed can be boxed and borrowed again.
    let mut again = sink.into_box_sink();
    (&mut again)
        .into_messages()
        .send(Message::from("three"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_sender_behind_a_reference_or_a_box() {
    let mut sender = Loopback::default();
    MessageSink::into_messages(&mut sender)
        .send("one".into())
        .await
        .unwrap();
    MessageSink::into_messages(Box::new(sender))
        .send("two".into())
        .await
        .unwrap();
}

#[test]
fn attributes_are_not_lost_on_the_way_to_bytes() {
    let error = Bytes::try_from(Message::from("job").with_kind(7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
