//! Pipes of messages and of bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use sinew_core::{ErrorKind, Framing, TrySendError};
use sinew_pipe::{Options, Reader, Receiver, Sender, Writer, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{BytesCodec, LinesCodec};

#[tokio::test]
async fn messages_of_any_bytes_and_size() {
    let (mut sender, receiver) = pair().unwrap();
    let sizes = [0, 1, 4092, 4093, 65_536, 1 << 20];
    let sending = async {
        for (index, size) in sizes.iter().enumerate() {
            let payload = vec![u8::try_from(index).unwrap() + 9; *size];
            sender.send(Bytes::from(payload)).await.unwrap();
        }
        sender.close().await.unwrap();
    };
    let (received, ()) = tokio::join!(receiver.collect::<Vec<_>>(), sending);
    for (index, (message, size)) in received.into_iter().zip(sizes).enumerate() {
        let message = message.unwrap();
        assert_eq!(message.len(), size);
        assert!(message.iter().all(|byte| usize::from(*byte) == index + 9));
    }
}

#[tokio::test]
async fn back_pressure_is_the_kernels() {
    let (mut sender, mut receiver) = Options::new().size(4096).pair().unwrap();
    let payload = Bytes::from(vec![1; 1020]);
    let mut sent = 0;
    while sender.try_send(payload.clone()).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 4, "a page, with four bytes before each");
    assert!(matches!(
        sender.try_send("more"),
        Err(TrySendError::Full("more"))
    ));
    assert!(sender.send("more").now_or_never().is_none());
    assert_eq!(sender.accepted(), 4);
    for _ in 0..4 {
        assert_eq!(receiver.try_recv().unwrap(), payload);
    }
    assert!(receiver.try_recv().unwrap_err().is_empty());
    // The waiting sender is woken.
    for _ in 0..4 {
        sender.send(payload.clone()).await.unwrap();
    }
    let waiting = tokio::spawn(async move {
        sender.send(payload).await.unwrap();
        sender
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    for _ in 0..5 {
        receiver.recv().await.unwrap().unwrap();
    }
    drop(waiting.await.unwrap());
    assert_eq!(receiver.recv().await.unwrap(), None);
}

#[tokio::test]
async fn a_send_that_is_dropped_is_sent_once_or_not() {
    let (mut sender, mut receiver) = Options::new().size(4096).pair().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut expected = Vec::new();
    let mut received = Vec::new();
    for index in 0_u32..400 {
        let payload = Bytes::from(vec![
            index.to_le_bytes()[0];
            usize::try_from(index * 37).unwrap() % 9000
        ]);
        let before = sender.accepted();
        tokio::task::yield_now().await;
        for _ in 0..=index % 3 {
            let _given_up = pin!(sender.send(payload.clone())).poll(&mut cx);
            if sender.accepted() > before {
                break;
            }
        }
        match sender.accepted() - before {
            0 => {}
            1 => expected.push(payload),
            more => panic!("accepted {more} times"),
        }
        while let Ok(message) = receiver.try_recv() {
            received.push(message);
            let _more = sender.flush().now_or_never();
        }
    }
    let rest = tokio::spawn(receiver.map(Result::unwrap).collect::<Vec<_>>());
    sender.close().await.unwrap();
    received.extend(rest.await.unwrap());
    assert!(expected.len() > 100);
    assert_eq!(received, expected);
}

#[tokio::test]
async fn a_recv_that_is_dropped_loses_nothing() {
    let (mut sender, mut receiver) = Options::new().size(4096).pair().unwrap();
    let sending = tokio::spawn(async move {
        for number in 0_u32..2000 {
            sender.send(number.to_string()).await.unwrap();
        }
        sender.close().await.unwrap();
    });
    let mut received = 0_u32;
    loop {
        match receiver.recv().now_or_never() {
            Some(Ok(Some(message))) => {
                assert_eq!(message, received.to_string());
                received += 1;
            }
            Some(Ok(None)) => break,
            Some(Err(error)) => panic!("{error}"),
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(received, 2000);
    sending.await.unwrap();
}

#[tokio::test]
async fn nobody_reads() {
    let (mut sender, receiver) = pair().unwrap();
    drop(receiver);
    let error = sender.send("text").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(error.errno_name(), Some("EPIPE"));
    assert!(
        sender
            .try_send("text")
            .unwrap_err()
            .error()
            .unwrap()
            .is_closed()
    );
}

#[tokio::test]
async fn a_writer_that_ends_within_a_message() {
    let (mut writer, reader) = Options::new().byte_pair().unwrap();
    let mut receiver = Receiver::new(reader, Framing::Length);
    writer
        .write_all(b"\0\0\0\x02ok\0\0\0\x09cut")
        .await
        .unwrap();
    drop(writer);
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "ok");
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    assert!(error.to_string().contains("3 of 9 bytes"), "{error}");
    assert!(receiver.next().await.is_none());
}

#[tokio::test]
async fn codecs() {
    let (writer, reader) = Options::new().byte_pair().unwrap();
    let mut sender: Sender<_> = Sender::with_codec(writer, LinesCodec::new());
    let mut receiver = Receiver::with_decoder(reader, LinesCodec::new());
    sender.send("a line".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap(), Some("a line".to_owned()));

    let (writer, reader) = Options::new().byte_pair().unwrap();
    let mut sender = Sender::with_codec(writer, BytesCodec::new());
    SinkExt::<Bytes>::send(&mut sender, Bytes::from("bytes"))
        .await
        .unwrap();
    let mut receiver = Receiver::with_decoder(reader, BytesCodec::new());
    assert_eq!(&receiver.recv().await.unwrap().unwrap()[..], b"bytes");
}

#[tokio::test]
async fn bytes() {
    let (mut writer, mut reader) = Options::new().byte_pair().unwrap();
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut received = Vec::new();
    let writing = async {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
        assert!(writer.write(b"more").await.is_err());
    };
    let (read, ()) = tokio::join!(reader.read_to_end(&mut received), writing);
    assert_eq!(read.unwrap(), data.len());
    assert!(received == data);
}

#[tokio::test]
async fn sizes() {
    let (writer, reader) = Options::new().size(100_000).byte_pair().unwrap();
    assert_eq!(writer.size().unwrap(), 131_072);
    assert_eq!(reader.size().unwrap(), 131_072);
    let error = Options::new().size(1 << 40).pair().unwrap_err();
    assert!(error.remedy().is_some(), "{error}");
}

fn flags(fd: impl AsFd) -> OFlags {
    rustix::fs::fcntl_getfl(fd).unwrap()
}

#[tokio::test]
async fn a_shared_description_stays_as_it_is() {
    let (theirs, writer) = std::io::pipe().unwrap();
    let shared: OwnedFd = theirs.try_clone().unwrap().into();
    let mut receiver = Receiver::new(Reader::from_fd(shared).unwrap(), Framing::Lines);
    assert!(!flags(&theirs).contains(OFlags::NONBLOCK));
    let shared: OwnedFd = writer.try_clone().unwrap().into();
    let mut sender = Sender::new(Writer::from_fd(shared).unwrap(), Framing::Lines);
    assert!(!flags(&writer).contains(OFlags::NONBLOCK));
    assert!(receiver.try_recv().unwrap_err().is_empty());
    sender.send("a line").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "a line");
    drop((sender, writer));
    assert_eq!(receiver.recv().await.unwrap(), None);
}

/// An inherited end of which all writers have gone already, with data left and without.
#[tokio::test]
async fn an_end_that_was_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    sinew_pipe::fifo::create(&path, 0o600).unwrap();
    for text in ["", "a line\n"] {
        let (anonymous, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let both = std::fs::File::options().read(true).write(true).open(&path);
        let mut both = both.unwrap();
        let named = std::fs::File::open(&path).unwrap();
        both.write_all(text.as_bytes()).unwrap();
        drop(both);
        for fd in [OwnedFd::from(anonymous), OwnedFd::from(named)] {
            let receiver = Options::new().receiver_of(Reader::from_fd(fd).unwrap());
            let lines: Vec<_> = receiver.map(Result::unwrap).collect().await;
            assert_eq!(lines.len(), text.lines().count());
        }
    }
}

#[tokio::test]
async fn what_is_no_pipe() {
    // A file is read and written, from where it is.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "one\ntwo\nthree").unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    let mut skipped = [0; 4];
    file.read_exact(&mut skipped).unwrap();
    let lines = Options::new().receiver_of(Reader::from_fd(file).unwrap());
    let lines: Vec<_> = lines.map(Result::unwrap).collect().await;
    assert_eq!(lines, ["two", "three"]);
    let file = std::fs::File::create(&path).unwrap();
    let mut sender = Options::new().sender_of(Writer::from_fd(file).unwrap());
    sender.send("four").await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");

    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut receiver = Options::new().receiver_of(Reader::from_fd(left).unwrap());
    let kept = right.try_clone().unwrap();
    let mut sender = Options::new().sender_of(Writer::from_fd(right).unwrap());
    sender.send("a line").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "a line");
    assert!(!flags(&kept).contains(OFlags::NONBLOCK));

    let null = std::fs::File::open("/dev/null").unwrap();
    let mut receiver = Options::new().receiver_of(Reader::from_fd(null).unwrap());
    assert_eq!(receiver.recv().await.unwrap(), None);

    let error = Reader::from_fd(std::fs::File::open("/").unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("directory"), "{error}");
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(
        Writer::from_fd(reader).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        Reader::from_fd(writer).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn an_inherited_descriptor_is_taken_once() {
    let inherit = |pipe: PipeReader| {
        rustix::io::fcntl_setfd(&pipe, FdFlags::empty()).unwrap();
        let number = pipe.as_raw_fd();
        std::mem::forget(pipe);
        number
    };
    let (ours, mut writer) = std::io::pipe().unwrap();
    let error = Reader::inherited(ours.as_raw_fd()).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidInput,
        "it is closed on exec: {error}"
    );
    let number = inherit(ours);
    let mut receiver = Options::new().receiver_of(Reader::inherited(number).unwrap());
    writer.write_all(b"a line\n").unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "a line");
    drop(receiver);
    assert!(
        writer.write_all(b"more").is_err(),
        "the number is closed too"
    );
    let error = Reader::inherited(1_000_000).unwrap_err();
    assert_eq!(error.errno_name(), Some("EBADF"));
    assert_eq!(error.address(), Some("fd:1000000"));
}

#[tokio::test]
async fn writers_of_up_to_pipe_buf_are_not_mixed() {
    let (writer, reader) = Options::new().byte_pair().unwrap();
    let mut receiver = Receiver::new(reader, Framing::Length);
    let mut tasks = Vec::new();
    for id in 0_u8..8 {
        let mut sender = Sender::new(writer.try_clone().unwrap(), Framing::Length);
        tasks.push(tokio::spawn(async move {
            for _ in 0..300 {
                sender.send(Bytes::from(vec![id; 4092])).await.unwrap();
            }
        }));
    }
    drop(writer);
    let mut counts = [0; 8];
    while let Some(message) = receiver.recv().await.unwrap() {
        assert_eq!(message.len(), 4092);
        assert!(message.iter().all(|byte| *byte == message[0]));
        counts[usize::from(message[0])] += 1;
    }
    assert_eq!(counts, [300; 8]);
    for task in tasks {
        task.await.unwrap();
    }
}
