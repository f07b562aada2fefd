//! POSIX queues, within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_core::ErrorKind;
use sinew_mqueue::posix::{self, Limits, MAX_PRIORITY, Message, Options, Queue};

const MOMENT: Duration = Duration::from_millis(50);

/// A name that nobody else has.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("/sinew-test-{}-{number}", std::process::id())
}

fn small() -> Options {
    Options::new()
        .exclusive(true)
        .max_messages(4)
        .message_size(64)
        .unlink_on_drop(true)
}

fn queue() -> Queue {
    small().open(name()).unwrap()
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

async fn sleeps<T>(work: impl Future<Output = T>) {
    assert!(tokio::time::timeout(MOMENT, work).await.is_err());
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn the_highest_priority_comes_first_then_the_oldest() {
    let mut queue = queue();
    for (text, priority) in [("a", 1), ("b", MAX_PRIORITY), ("c", 1), ("d", 0)] {
        let message = Message::from(text).with_priority(priority);
        queue.send(message).await.unwrap();
    }
    for (text, priority) in [("b", MAX_PRIORITY), ("a", 1), ("c", 1), ("d", 0)] {
        let message = bounded(queue.recv()).await.unwrap().unwrap();
        assert_eq!(message, Message::from(text).with_priority(priority));
    }
    assert!(queue.try_recv().unwrap_err().is_empty());
}

#[tokio::test]
async fn messages_of_every_length() {
    let mut queue = queue();
    for len in 0..=64 {
        queue.send(vec![7; len]).await.unwrap();
        let message = bounded(queue.recv()).await.unwrap().unwrap();
        assert_eq!(message.payload()[..], vec![7; len]);
    }
    let error = queue.send(vec![7; 65]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let text = error.to_string();
    assert!(
        text.contains("EMSGSIZE: msgsize of this queue is 64"),
        "{text}"
    );
    let refused = queue.try_send(vec![7; 65]).unwrap_err();
    assert!(refused.is_rejected(), "{refused:?}");
    assert_eq!(refused.into_inner().payload().len(), 65);
    let error = queue
        .send(Message::from("x").with_priority(MAX_PRIORITY + 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("32767"), "{error}");
    queue.send("goes on").await.unwrap();
}

#[tokio::test]
async fn into_a_buffer_of_the_callers() {
    let (mut sender, mut receiver) = queue().split();
    sender.send_slice(b"one", 5).await.unwrap();
    sender.send_slice(b"two", 4).await.unwrap();
    let mut buffer = Vec::new();
    assert_eq!(receiver.recv_into(&mut buffer).await.unwrap(), Some(5));
    assert_eq!(receiver.recv_into(&mut buffer).await.unwrap(), Some(4));
    assert_eq!(buffer, b"onetwo");
}

#[tokio::test]
async fn a_full_queue_waits_for_its_receiver() {
    const COUNT: u32 = 5000;
    let (mut sender, mut receiver) = queue().split();
    let sends = tokio::spawn(async move {
        for number in 0..COUNT {
            sender.send(number.to_le_bytes().to_vec()).await.unwrap();
        }
        sender
    });
    for number in 0..COUNT {
        if number % 1000 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let message = bounded(receiver.recv()).await.unwrap().unwrap();
        assert_eq!(message.payload()[..], number.to_le_bytes());
    }
    let mut sender = bounded(sends).await.unwrap();
    // It leaves epoll after a while, and comes back to it.
    for _ in 0..300 {
        sender.send("x").await.unwrap();
        receiver.try_recv().unwrap();
    }
    while sender.try_send("y").is_ok() {}
    let mut waits = pin!(sender.send("z"));
    sleeps(&mut waits).await;
    assert_eq!(receiver.try_recv().unwrap().payload(), "y");
    bounded(waits).await.unwrap();
}

#[tokio::test]
async fn the_sink_keeps_one_message_that_has_no_room() {
    let (mut sender, mut receiver) = queue().split();
    let mut fed = 0_u32;
    loop {
        let ready = futures::future::poll_fn(|cx| sender.poll_ready_unpin(cx));
        // Not for want of budget.
        let mut ready = pin!(tokio::task::unconstrained(ready));
        match poll(ready.as_mut()) {
            Poll::Ready(done) => done.unwrap(),
            Poll::Pending => break,
        }
        let message = Message::from(fed.to_le_bytes().to_vec());
        sender.start_send_unpin(message).unwrap();
        fed += 1;
    }
    assert_eq!(fed, 5);
    assert!(sender.try_send("later").unwrap_err().is_full());
    let (flushed, ()) = bounded(async {
        tokio::join!(SinkExt::<Message>::flush(&mut sender), async {
            for number in 0..fed {
                let message = receiver.next().await.unwrap().unwrap();
                assert_eq!(message.payload()[..], number.to_le_bytes());
            }
        })
    })
    .await;
    flushed.unwrap();
    assert!(receiver.try_recv().unwrap_err().is_empty());
    bounded(sender.close()).await.unwrap();
    assert!(sender.send("more").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn readiness_without_taking() {
    let (mut sender, receiver) = queue().split();
    sleeps(receiver.readable()).await;
    bounded(sender.writable()).await.unwrap();
    while sender.try_send("x").is_ok() {}
    bounded(receiver.readable()).await.unwrap();
    bounded(receiver.readable()).await.unwrap();
    assert_eq!(receiver.attributes().unwrap().messages, 4);
    sleeps(sender.writable()).await;
    let mut other = receiver.try_clone().unwrap();
    assert_eq!(other.try_recv().unwrap().payload(), "x");
    bounded(sender.writable()).await.unwrap();
}

/// Several receivers, each with an epoll of its own: an edge that one of them wastes is not the others' loss.
#[test]
fn no_wake_up_is_lost_between_receivers() {
    const COUNT: u32 = 4000;
    const RECEIVERS: u32 = 3;
    let name = name();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let first = runtime();
    let queue = first.block_on(async { small().open(&name).unwrap() });
    let receivers: Vec<_> = (0..RECEIVERS)
        .map(|_| {
            let runtime = runtime();
            let name = name.clone();
            let task = runtime.spawn(async move {
                let mut receiver = Options::new().open_receiver(&name).unwrap();
                let mut numbers = Vec::new();
                loop {
                    let message = bounded(receiver.recv()).await.unwrap().unwrap();
                    match message.payload()[..].try_into() {
                        Ok(number) => numbers.push(u32::from_le_bytes(number)),
                        Err(_) => return numbers,
                    }
                }
            });
            (runtime, task)
        })
        .collect();
    let (mut sender, _receiver) = queue.split();
    first.block_on(bounded(async {
        for number in 0..COUNT {
            sender.send(number.to_le_bytes().to_vec()).await.unwrap();
            if number % 7 == 0 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        for _ in 0..RECEIVERS {
            sender.send("").await.unwrap();
        }
    }));
    let mut all = Vec::new();
    for (runtime, task) in receivers {
        let numbers: Vec<u32> = runtime.block_on(task).unwrap();
        assert!(numbers.is_sorted());
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn cancelled_halves_lose_nothing() {
    const COUNT: u32 = 3000;
    let (mut sender, mut receiver) = queue().split();
    let sends = async {
        for number in 0..COUNT {
            loop {
                let mut sent = pin!(sender.send(number.to_le_bytes().to_vec()));
                if let Poll::Ready(done) = poll(sent.as_mut()) {
                    done.unwrap();
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    let receives = async {
        for number in 0..COUNT {
            let message = loop {
                let mut received = pin!(receiver.recv());
                if let Poll::Ready(done) = poll(received.as_mut()) {
                    break done.unwrap().unwrap();
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(message.payload()[..], number.to_le_bytes());
        }
    };
    bounded(async { tokio::join!(sends, receives) }).await;
    assert!(receiver.try_recv().unwrap_err().is_empty());
}

#[tokio::test]
async fn names_are_checked() {
    for (name, part) in [
        ("jobs", "write /jobs"),
        ("", "slash"),
        ("/", "not a name"),
        ("/..", "not a name"),
        ("/a/b", "second slash"),
        ("/a\0b", "NUL"),
    ] {
        let error = Options::new().create(true).open(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(posix::unlink(name).is_err());
    }
    let long = format!("/{}", "x".repeat(300));
    let error = Options::new().create(true).open(long).unwrap_err();
    assert_eq!(error.errno_name(), Some("ENAMETOOLONG"));
}

#[tokio::test]
async fn create_open_and_exclusive() {
    let name = name();
    let error = Options::new().open(&name).unwrap_err();
    assert_eq!(error.errno_name(), Some("ENOENT"), "{error}");
    assert!(error.to_string().contains("`create`"), "{error}");
    let mut made = small().open(&name).unwrap();
    let error = small().open(&name).unwrap_err();
    assert_eq!(error.errno_name(), Some("EEXIST"), "{error}");
    let mut again = Options::new().create(true).open(&name).unwrap();
    made.send("hello").await.unwrap();
    assert_eq!(
        bounded(again.recv()).await.unwrap().unwrap().payload(),
        "hello"
    );
    // Unlinked, it lives on with those who have it open.
    drop(made);
    assert!(Options::new().open(&name).is_err());
    again.send("still").await.unwrap();
    assert_eq!(
        bounded(again.recv()).await.unwrap().unwrap().payload(),
        "still"
    );
}

#[tokio::test]
async fn a_queue_of_other_sizes_is_not_what_was_asked_for() {
    let name = name();
    let _made = small().open(&name).unwrap();
    for (options, part) in [
        (
            Options::new().max_messages(5),
            "with maxmsg=5: the queue exists with maxmsg=4",
        ),
        (
            Options::new().message_size(65),
            "with msgsize=65: the queue exists with msgsize=64",
        ),
    ] {
        for options in [options.clone(), options.create(true).unlink_on_drop(true)] {
            let error = options.open(&name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    // And none of that has removed it.
    let same = Options::new().max_messages(4).message_size(64);
    drop(same.open(&name).unwrap());
}

#[tokio::test]
async fn the_mode_is_exact() {
    for mode in [0o600, 0o666, 0o622, 0o777] {
        let queue = small().mode(mode).open(name()).unwrap();
        let found = rustix::fs::fstat(queue.as_fd()).unwrap().st_mode & 0o7777;
        assert_eq!(found, mode);
    }
}

#[tokio::test]
async fn sizes_by_default_and_at_the_limits() {
    let limits = Limits::current();
    let options = Options::new().exclusive(true).unlink_on_drop(true);
    let queue = options.open(name()).unwrap();
    let found = queue.attributes().unwrap();
    assert_eq!(Some(found.max_messages as u64), limits.msg_default);
    assert_eq!(Some(found.message_size as u64), limits.msgsize_default);
    let one = options.clone().max_messages(1).open(name()).unwrap();
    let found = one.attributes().unwrap();
    assert_eq!((found.max_messages, found.messages), (1, 0));
    for (options, part) in [
        (options.clone().max_messages(0), "maxmsg=0"),
        (options.clone().message_size(0), "msgsize=0"),
        // Above what even root may have.
        (options.clone().max_messages(70_000), "maxmsg=70000"),
        (options.clone().message_size(1 << 25), "msgsize=33554432"),
    ] {
        let error = options.open(name()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.remedy().is_some(), "{error}");
    }
}

#[tokio::test]
async fn unlink_on_drop_waits_for_the_last_half() {
    let name = name();
    let (mut sender, receiver) = small().open(&name).unwrap().split();
    drop(receiver);
    sender.send("hello").await.unwrap();
    drop(Options::new().open(&name).unwrap());
    drop(sender);
    assert!(Options::new().open(&name).is_err());
}

#[tokio::test]
async fn the_list() {
    let name = name();
    let _queue = small().open(&name).unwrap();
    match posix::list() {
        Ok(names) => assert!(names.contains(&OsString::from(&name)), "{names:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("mount -t mqueue"), "{error}");
        }
    }
}

#[test]
fn outside_of_a_runtime() {
    let name = name();
    for options in [small(), small().unlink_on_drop(false)] {
        let error = options.open(&name).unwrap_err();
        assert!(error.to_string().contains("no Tokio runtime"), "{error}");
        assert!(options.open_receiver(&name).is_err());
        // The queue that was made on the way is gone.
        assert!(posix::unlink(&name).is_err());
    }
    // A sender needs none until the queue is full.
    let mut sender = small().open_sender(&name).unwrap();
    for _ in 0..4 {
        futures::executor::block_on(sender.send("x")).unwrap();
    }
    let error = futures::executor::block_on(sender.send("x")).unwrap_err();
    assert!(error.to_string().contains("no Tokio runtime"), "{error}");
}

/// Whoever sends or receives without end lets other tasks of the same worker have their turn.
#[tokio::test]
async fn other_tasks_have_their_turn() {
    let (mut sender, mut receiver) = queue().split();
    let flood = tokio::spawn(async move {
        loop {
            sender.feed(Message::from("x")).await.unwrap();
            receiver.next().await.unwrap().unwrap();
        }
    });
    for _ in 0..100 {
        bounded(tokio::task::yield_now()).await;
    }
    flood.abort();
}

#[test]
fn common_messages() {
    let common: sinew_core::Message = Message::from("x").with_priority(3).into();
    assert_eq!(common.priority(), Some(3));
    assert_eq!(Message::try_from(common).unwrap().priority(), Some(3));
    let kind = sinew_core::Message::from("x").with_kind(1);
    let error = Message::try_from(kind).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
