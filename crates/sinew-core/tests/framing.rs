//! Messages on a stream of bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use sinew_core::{
    Error, ErrorKind, FrameCodec, FrameReader, FrameWriter, Framing, TryRecvError, TrySendError,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

/// A writer that takes so many bytes at each call, and is not ready where there is a zero.
#[derive(Debug, Clone, Default)]
struct Dribble(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<u8>,
    steps: VecDeque<usize>,
    /// The length of each write, and where its last piece lay.
    writes: Vec<(usize, usize)>,
    vectored: bool,
    shut: bool,
}

impl Dribble {
    fn new(steps: impl IntoIterator<Item = usize>) -> Self {
        let dribble = Self::default();
        dribble.0.lock().unwrap().steps.extend(steps);
        dribble
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = self.0.lock().unwrap();
        let room = taken.steps.pop_front().unwrap_or(usize::MAX);
        if room == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = taken.bytes.len();
        for slice in slices {
            let left = room - (taken.bytes.len() - before);
            taken
                .bytes
                .extend_from_slice(&slice[..slice.len().min(left)]);
        }
        let count = taken.bytes.len() - before;
        let last = slices.iter().rfind(|slice| !slice.is_empty()).unwrap();
        taken.writes.push((count, last.as_ptr() as usize));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().unwrap().vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// A reader that gives these pieces, one at each call, and is not ready where one is empty.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.pop_front() {
            Some(piece) if piece.is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(mut piece) => {
                let rest = piece.split_off(piece.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

async fn all(framing: Framing, wire: &[u8]) -> Vec<Result<Bytes, Error>> {
    FrameReader::new(wire, framing).collect().await
}

fn whole(messages: Vec<Result<Bytes, Error>>) -> Vec<Bytes> {
    messages.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn lines() {
    let of = |wire: &'static [u8]| all(Framing::Lines, wire);
    assert_eq!(whole(of(b"a\nb\n").await), ["a", "b"]);
    assert_eq!(whole(of(b"a\nb").await), ["a", "b"]);
    assert_eq!(whole(of(b"\n\na\r\n").await), ["", "", "a\r"]);
    assert!(of(b"").await.is_empty());
}

#[tokio::test]
async fn lengths() {
    let wire = b"\0\0\0\x01a\0\0\0\0\0\0\0\x02\n\n";
    assert_eq!(whole(all(Framing::Length, wire).await), ["a", "", "\n\n"]);
}

#[tokio::test]
async fn bytes_as_they_are() {
    let framing: Framing = "none".parse().unwrap();
    let mut writer = FrameWriter::new(Vec::new(), FrameCodec::new(framing).with_max_message(4));
    writer.send("one\ntwo").await.unwrap();
    writer.feed(Bytes::from(vec![b'x'; 20_000])).await.unwrap();
    writer.send(&b"\0"[..]).await.unwrap();
    let error = writer.send("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    writer.close().await.unwrap();
    let wire = writer.into_inner();
    assert_eq!(wire.len(), 7 + 20_000 + 1);
    assert_eq!(&wire[..8], b"one\ntwox");

    assert_eq!(whole(all(framing, &wire).await).concat(), wire);
    let codec = FrameCodec::new(framing).with_max_message(3);
    let pieces = FrameReader::new(&b"one\ntwo"[..], codec).collect().await;
    assert_eq!(whole(pieces), ["one", "\ntw", "o"]);
    assert!(all(framing, b"").await.is_empty());
}

#[tokio::test]
async fn the_end_within_a_message_is_a_crash() {
    for (wire, said) in [
        (&b"\0\0\0\x01a\0\0\0\x05bcd"[..], "3 of 5 bytes"),
        (b"\0\0\0\x01a\0\0\0\x05", "0 of 5 bytes"),
        (b"\0\0\0\x01a\0", "1 of 4 bytes"),
    ] {
        let mut messages = all(Framing::Length, wire).await;
        let error = messages.pop().unwrap().unwrap_err();
        assert!(error.is_peer_crashed(), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(whole(messages), ["a"]);
    }
}

#[tokio::test]
async fn an_error_is_repeated_and_ends_the_stream() {
    let mut reader = FrameReader::new(&b"\0\0"[..], Framing::Length).with_address("there");
    let error = reader.recv().await.unwrap_err();
    assert_eq!(error.address(), Some("there"));
    assert!(reader.recv().await.unwrap_err().is_peer_crashed());
    assert!(matches!(reader.try_recv(), Err(TryRecvError::Failed(_))));
    assert!(reader.next().await.unwrap().is_err());
    assert!(reader.next().await.is_none());
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    for (framing, wire) in [
        (Framing::Length, &b"\0\0\0\x05abcde"[..]),
        (Framing::Lines, b"abcde\n"),
        (Framing::Lines, b"abcdef"),
    ] {
        let codec = FrameCodec::new(framing).with_max_message(4);
        let error = FrameReader::new(wire, codec.clone())
            .recv()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(error.remedy().unwrap().contains("max-message"), "{error}");

        let mut writer = FrameWriter::new(Vec::new(), codec);
        let error = writer.send("abcde").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        writer.send("abcd").await.unwrap();
        assert!(writer.into_inner().len() <= 8);
    }
    // As long as the limit is right.
    let codec = FrameCodec::new(Framing::Lines).with_max_message(4);
    let lines = FrameReader::new(&b"abcd\nabcd"[..], codec).collect().await;
    assert_eq!(whole(lines), ["abcd", "abcd"]);
}

#[test]
fn an_announced_length_is_not_allocated() {
    let mut codec = FrameCodec::new(Framing::Length).with_max_message(usize::MAX);
    let mut buffer = BytesMut::from(&b"\xff\xff\xff\xffabc"[..]);
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(buffer.capacity() < 1 << 20, "{}", buffer.capacity());
}

#[tokio::test]
async fn a_newline_cannot_be_in_a_line() {
    let mut writer = FrameWriter::new(Vec::new(), Framing::Lines);
    let error = writer.send("a\nb").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.remedy().unwrap().contains("framing=length"),
        "{error}"
    );
    let error = writer.feed(Bytes::from("a\nb")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(writer.accepted(), 0);
    writer.send("a").await.unwrap();
    assert_eq!(writer.into_inner(), b"a\n");
}

#[tokio::test]
async fn codecs_of_tokio_util() {
    // The wire is the one of `LengthDelimitedCodec`, in both directions.
    let mut wire = BytesMut::new();
    let mut theirs = LengthDelimitedCodec::new();
    theirs.encode(Bytes::from("one"), &mut wire).unwrap();
    theirs.encode(Bytes::new(), &mut wire).unwrap();
    assert_eq!(whole(all(Framing::Length, &wire).await), ["one", ""]);
    let mut writer = FrameWriter::new(Vec::new(), Framing::Length);
    writer.send("one").await.unwrap();
    writer.send(Vec::new()).await.unwrap();
    assert_eq!(writer.into_inner(), wire);

    // Any other codec, with its own messages.
    let mut writer = FrameWriter::with_codec(Vec::new(), LinesCodec::new());
    writer.send("one".to_owned()).await.unwrap();
    writer.feed("two").await.unwrap();
    writer.flush().await.unwrap();
    let wire = writer.into_inner();
    let mut reader = FrameReader::with_decoder(&wire[..], LinesCodec::new_with_max_length(3));
    assert_eq!(reader.recv().await.unwrap(), Some("one".to_owned()));
    assert_eq!(reader.recv().await.unwrap(), Some("two".to_owned()));
    assert_eq!(reader.recv().await.unwrap(), None);
    let mut reader = FrameReader::with_decoder(&b"long\n"[..], LinesCodec::new_with_max_length(3));
    let error = reader.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_flush_writes_all_at_once() {
    let io = Dribble::default();
    let mut writer = FrameWriter::new(io.clone(), Framing::Length);
    for number in 0_u32..100 {
        writer.feed(Bytes::from(number.to_string())).await.unwrap();
    }
    assert!(io.bytes().is_empty());
    writer.flush().await.unwrap();
    assert_eq!(io.0.lock().unwrap().writes.len(), 1);
    assert_eq!(all(Framing::Length, &io.bytes()).await.len(), 100);
    assert_eq!(writer.accepted(), 100);
}

#[tokio::test]
async fn a_large_payload_is_not_copied() {
    for framing in [Framing::Length, Framing::Lines] {
        let io = Dribble::default();
        io.0.lock().unwrap().vectored = true;
        let mut writer = FrameWriter::new(io.clone(), framing);
        let payload = Bytes::from(vec![7; 1 << 20]);
        writer.send(payload.clone()).await.unwrap();
        let writes = io.0.lock().unwrap().writes.clone();
        assert_eq!(writes.len(), 1, "header and payload in one");
        if framing == Framing::Length {
            assert_eq!(writes[0].1, payload.as_ptr() as usize);
        }
        assert_eq!(whole(all(framing, &io.bytes()).await), [payload]);
    }
}

#[tokio::test]
async fn the_sink_waits_at_its_bound() {
    let io = Dribble::new([0; 3]);
    let mut writer = FrameWriter::new(io.clone(), Framing::Lines).with_bound(10);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        let ready = SinkExt::<Bytes>::poll_ready_unpin(&mut writer, &mut cx);
        assert!(ready.is_ready());
        writer.start_send_unpin(Bytes::from("abcd")).unwrap();
    }
    for _ in 0..3 {
        let ready = SinkExt::<Bytes>::poll_ready_unpin(&mut writer, &mut cx);
        assert!(ready.is_pending());
    }
    assert!(SinkExt::<Bytes>::poll_ready_unpin(&mut writer, &mut cx).is_ready());
    assert_eq!(io.bytes(), b"abcd\nabcd\n");
}

#[tokio::test]
async fn try_send_hands_back_and_never_cuts() {
    let io = Dribble::new([0, 2, 0, 0, 1]);
    let mut writer = FrameWriter::new(io.clone(), Framing::Lines);
    match writer.try_send("abcd") {
        Err(TrySendError::Full("abcd")) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(writer.accepted(), 0);
    writer.try_send("abcd").unwrap();
    assert_eq!((writer.accepted(), writer.pending()), (1, 3));
    assert!(writer.try_send("efgh").unwrap_err().is_full());
    writer.try_send("efgh").unwrap();
    writer.close().await.unwrap();
    assert_eq!(io.bytes(), b"abcd\nefgh\n");
    assert!(io.0.lock().unwrap().shut);
    assert!(writer.send("more").await.unwrap_err().is_closed());
    let refused = writer.try_send("more").unwrap_err();
    assert!(!refused.is_rejected(), "{refused:?}");
    assert!(refused.error().unwrap().is_closed());
    writer.close().await.unwrap();
}

#[tokio::test]
async fn try_recv() {
    let (left, right) = tokio::io::duplex(16);
    let mut reader = FrameReader::new(right, Framing::Length);
    assert!(reader.try_recv().unwrap_err().is_empty());
    let mut writer = FrameWriter::new(left, Framing::Length);
    writer.send("one").await.unwrap();
    assert_eq!(reader.try_recv().unwrap(), "one");
    assert!(reader.try_recv().unwrap_err().is_empty());
    writer.close().await.unwrap();
    drop(writer);
    assert!(reader.try_recv().unwrap_err().is_closed());
}

#[tokio::test]
async fn a_writer_whose_reader_has_gone_says_so_again_and_again() {
    let (left, right) = tokio::io::duplex(16);
    let mut writer = FrameWriter::new(left, Framing::Length).with_address("there");
    drop(right);
    for _ in 0..2 {
        let error = writer.send("one").await.unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert_eq!(error.address(), Some("there"));
    }
    assert!(writer.flush().await.is_err());
    assert!(writer.close().await.is_err());
}

/// Fails once, and writes nothing then.
struct Hiccup(Vec<u8>, bool);

impl tokio::io::AsyncWrite for Hiccup {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if std::mem::take(&mut self.1) {
            return Poll::Ready(Err(std::io::ErrorKind::Other.into()));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_writer_begins_anew() {
    let mut writer = FrameWriter::new(Hiccup(Vec::new(), true), Framing::Lines);
    writer.send("lost").await.unwrap_err();
    writer.send("refused").await.unwrap_err();
    writer.restart();
    writer.send("written").await.unwrap();
    assert_eq!(writer.get_ref().0, b"written\n");
}

#[tokio::test]
async fn what_was_read_ahead_can_be_taken() {
    let mut reader = FrameReader::new(&b"one\ntwo\nrest"[..], Framing::Lines);
    assert_eq!(reader.recv().await.unwrap().unwrap(), "one");
    assert_eq!(reader.take_buffered(), "two\nrest");
    assert_eq!(reader.recv().await.unwrap(), None);
}

/// Where a line's newline is looked for depends on what was seen of it before.
#[tokio::test]
async fn lines_after_a_half_one_was_taken_away() {
    for begun_anew in [false, true] {
        let (mut left, right) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(right, Framing::Lines);
        left.write_all(b"abcd").await.unwrap();
        assert!(reader.try_recv().unwrap_err().is_empty());
        if begun_anew {
            reader.restart();
        } else {
            assert_eq!(reader.take_buffered(), "abcd");
        }
        left.write_all(b"x\nyyy\n").await.unwrap();
        assert_eq!(reader.recv().await.unwrap().unwrap(), "x");
        assert_eq!(reader.recv().await.unwrap().unwrap(), "yyy");
    }
    let mut codec = FrameCodec::new(Framing::Lines).with_max_message(3);
    codec.decode(&mut "abcdef".into()).unwrap_err();
    let mut buffer = "x\nyyy\nz".into();
    assert_eq!(codec.decode(&mut buffer).unwrap().unwrap(), "x");
    assert_eq!(codec.decode(&mut buffer).unwrap().unwrap(), "yyy");
}

#[test]
fn a_payload_is_checked_beforehand() {
    let lines = FrameCodec::new(Framing::Lines).with_max_message(4);
    assert!(lines.check(b"four").is_ok());
    assert_eq!(
        lines.check(b"fives").unwrap_err().kind(),
        ErrorKind::LimitExceeded
    );
    assert_eq!(
        lines.check(b"a\nb").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert!(FrameCodec::new(Framing::Length).check(b"a\nb").is_ok());
}

#[tokio::test]
async fn a_reader_begins_anew() {
    let (left, right) = tokio::io::duplex(64);
    let mut reader = FrameReader::new(right, Framing::Length);
    tokio::io::AsyncWriteExt::write_all(&mut { left }, b"\0\0\0\x05a")
        .await
        .unwrap();
    assert!(reader.recv().await.unwrap_err().is_peer_crashed());
    let (left, right) = tokio::io::duplex(64);
    *reader.get_mut() = right;
    reader.restart();
    let mut writer = FrameWriter::new(left, Framing::Length);
    writer.send("whole").await.unwrap();
    assert_eq!(reader.recv().await.unwrap().unwrap(), "whole");
}

/// Sends `messages`, giving each `send` up after some polls; those not accepted are sent again.
fn send_with_drops(writer: &mut FrameWriter<Dribble>, messages: &[Bytes], polls: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut polls = polls.iter().cycle();
    for message in messages {
        loop {
            let before = writer.accepted();
            let done = {
                let mut send = pin!(writer.send(message.clone()));
                (0..*polls.next().unwrap()).any(|_| match send.as_mut().poll(&mut cx) {
                    Poll::Ready(sent) => {
                        sent.unwrap();
                        true
                    }
                    Poll::Pending => false,
                })
            };
            match writer.accepted() - before {
                0 => assert!(!done),
                1 => break,
                more => panic!("accepted {more} times"),
            }
        }
    }
}

proptest! {
    #[test]
    fn a_dropped_send_cuts_and_doubles_nothing(
        lens in prop::collection::vec(0_usize..6000, 1..20),
        steps in prop::collection::vec(0_usize..9000, 0..200),
        polls in prop::collection::vec(1_u8..4, 1..20),
        vectored: bool,
    ) {
        let messages: Vec<Bytes> = lens
            .iter()
            .enumerate()
            .map(|(index, len)| vec![u8::try_from(index).unwrap(); *len].into())
            .collect();
        let steps = steps.into_iter().map(|step| if step % 3 == 0 { 0 } else { step });
        let io = Dribble::new(steps);
        io.0.lock().unwrap().vectored = vectored;
        let mut writer = FrameWriter::new(io.clone(), Framing::Length);
        send_with_drops(&mut writer, &messages, &polls);
        let mut cx = Context::from_waker(Waker::noop());
        while pin!(writer.close()).poll(&mut cx).is_pending() {}
        let received = all(Framing::Length, &io.bytes()).now_or_never().unwrap();
        prop_assert_eq!(whole(received), messages);
    }

    #[test]
    fn a_dropped_recv_loses_nothing(
        framing in prop_oneof![Just(Framing::Lines), Just(Framing::Length)],
        lens in prop::collection::vec(0_usize..300, 0..20),
        cuts in prop::collection::vec(0_usize..40, 1..50),
    ) {
        let messages: Vec<Bytes> = lens.iter().map(|len| vec![b'x'; *len].into()).collect();
        let mut wire = BytesMut::new();
        for message in &messages {
            FrameCodec::new(framing).encode(message.clone(), &mut wire).unwrap();
        }
        let mut pieces = VecDeque::new();
        let mut cuts = cuts.iter().cycle();
        while !wire.is_empty() {
            // An empty piece is a poll that is not ready, after which the future is dropped.
            pieces.push_back(Vec::new());
            pieces.push_back(wire.split_to((cuts.next().unwrap() + 1).min(wire.len())).to_vec());
        }
        let mut reader = FrameReader::new(Pieces(pieces), framing);
        let mut received = Vec::new();
        loop {
            match reader.recv().now_or_never() {
                None => {}
                Some(Ok(Some(message))) => received.push(message),
                Some(Ok(None)) => break,
                Some(Err(error)) => panic!("{error}"),
            }
        }
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn nothing_that_a_peer_sends_panics(
        wire: Vec<u8>,
        framing in prop_oneof![
            Just(Framing::Lines),
            Just(Framing::Length),
            Just(Framing::Unframed),
        ],
    ) {
        let count = all(framing, &wire).now_or_never().unwrap().len();
        prop_assert!(count <= wire.len());
    }
}
