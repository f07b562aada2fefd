//! SysV queues, within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_core::{Error, ErrorKind};
use sinew_mqueue::sysv::{self, Limits, Message, Options, Queue, Receiver, Select, Target};

const MOMENT: Duration = Duration::from_millis(50);

/// A queue that nobody else has, and that goes with the test.
fn private() -> Queue {
    let options = Options::new().remove_on_drop(true);
    options.open(Target::Private).unwrap()
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

fn drain(receiver: &mut Receiver) -> Vec<String> {
    std::iter::from_fn(|| receiver.try_recv().ok())
        .map(|message| String::from_utf8(message.payload().to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn messages_come_in_order_with_their_types() {
    let mut queue = private();
    for (text, kind) in [("a", 3), ("b", 1), ("c", i64::MAX)] {
        let message = Message::from(text).with_kind(kind);
        queue.send(message).await.unwrap();
    }
    queue.send("d").await.unwrap();
    for (text, kind) in [("a", 3), ("b", 1), ("c", i64::MAX), ("d", 1)] {
        let message = queue.recv().await.unwrap().unwrap();
        assert_eq!(message.payload(), text);
        assert_eq!(message.kind(), Some(kind));
    }
    assert!(queue.try_recv().unwrap_err().is_empty());
}

#[tokio::test]
async fn selections() {
    let queue = private();
    let mut sender = queue.clone_sender();
    let all = [("a", 5), ("b", 2), ("c", 7), ("d", 2), ("e", 1)];
    for (select, expected) in [
        (Select::Any, vec!["a", "b", "c", "d", "e"]),
        (Select::Equal(2), vec!["b", "d"]),
        // The lowest type first.
        (Select::UpTo(5), vec!["e", "b", "d", "a"]),
        (Select::Except(2), vec!["a", "c", "e"]),
    ] {
        for (text, kind) in all {
            let message = Message::from(text).with_kind(kind);
            sender.send(message).await.unwrap();
            assert_eq!(select.takes(kind), expected.contains(&text), "{select}");
        }
        let mut receiver = queue.select(select).unwrap();
        assert_eq!(drain(&mut receiver), expected, "{select}");
        drain(&mut queue.select(Select::Any).unwrap());
    }
}

#[tokio::test]
async fn a_waiting_receiver_gets_only_what_it_selects() {
    let queue = private();
    let mut sender = queue.clone_sender();
    for select in [Select::Equal(3), Select::UpTo(3), Select::Except(8)] {
        let mut receiver = queue.select(select).unwrap();
        let mut received = pin!(receiver.recv());
        // Long enough for the helper to be in the kernel.
        sleeps(&mut received).await;
        let other = Message::from("other").with_kind(8);
        sender.send(other).await.unwrap();
        sleeps(&mut received).await;
        let ours = Message::from("ours").with_kind(3);
        sender.send(ours).await.unwrap();
        let message = bounded(received).await.unwrap().unwrap();
        assert_eq!(message.payload(), "ours");
        assert_eq!(queue.attributes().unwrap().messages, 1);
        drain(&mut queue.select(Select::Any).unwrap());
    }
}

#[tokio::test]
async fn messages_without_payload() {
    let queue = private();
    let mut sender = queue.clone_sender();
    let mut receiver = queue.select(Select::Any).unwrap();
    for number in 1..=100 {
        let waits = tokio::spawn(async move {
            let message = receiver.recv().await.unwrap().unwrap();
            (receiver, message)
        });
        if number > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let empty = Message::from("").with_kind(number);
        sender.send(empty).await.unwrap();
        let message;
        (receiver, message) = bounded(waits).await.unwrap();
        assert_eq!(message, Message::from("").with_kind(number));
    }
}

#[tokio::test]
async fn a_message_without_payload_whose_receiver_left_goes_to_another() {
    let queue = private();
    let mut sender = queue.clone_sender();
    let mut first = queue.select(Select::Any).unwrap();
    {
        let mut received = pin!(first.recv());
        sleeps(&mut received).await;
        // The helper takes it, and the future that it was for is never polled again.
        let empty = Message::from("").with_kind(9);
        sender.send(empty).await.unwrap();
        std::thread::sleep(MOMENT);
        assert_eq!(queue.attributes().unwrap().messages, 0);
    }
    assert_eq!(queue.attributes().unwrap().messages, 1);
    let mut second = queue.select(Select::Equal(9)).unwrap();
    let message = bounded(second.recv()).await.unwrap().unwrap();
    assert_eq!(message.kind(), Some(9));
}

#[tokio::test]
async fn a_message_without_payload_that_cannot_go_back_waits_for_the_next_receiver() {
    let queue = private();
    let mut sender = queue.clone_sender();
    sender.send(vec![0; 4000]).await.unwrap();
    for helper_goes_first in [false, true] {
        let mut first = queue.select(Select::Equal(9)).unwrap();
        {
            let mut received = pin!(first.recv());
            sleeps(&mut received).await;
            sender.send(Message::from("").with_kind(9)).await.unwrap();
            std::thread::sleep(MOMENT);
            assert_eq!(queue.attributes().unwrap().messages, 1);
            // Below what is in it, so that it takes nothing more.
            queue.set_max_bytes(100).unwrap();
        }
        drop(first);
        if helper_goes_first {
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        let mut second = queue.select(Select::Equal(9)).unwrap();
        assert_eq!(second.try_recv().unwrap().kind(), Some(9));
        assert!(second.try_recv().unwrap_err().is_empty());
        queue.set_max_bytes(16_384).unwrap();
    }
}

#[tokio::test]
async fn removal_ends_the_stream() {
    let queue = private();
    let mut waiting = queue.select(Select::Any).unwrap();
    let mut sender = queue.clone_sender();
    let mut later = queue.select(Select::Any).unwrap();
    let waits = tokio::spawn(async move {
        let end = waiting.next().await;
        assert!(end.is_none(), "{end:?}");
        assert!(waiting.next().await.is_none());
        assert!(waiting.recv().await.unwrap().is_none());
        assert!(waiting.try_recv().unwrap_err().is_closed());
    });
    tokio::time::sleep(MOMENT).await;
    queue.remove().unwrap();
    bounded(waits).await.unwrap();
    assert!(later.recv().await.unwrap().is_none());
    let error = sender.send("late").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(error.to_string().contains("the queue was removed"));
    assert!(queue.remove().unwrap_err().is_closed());
}

#[tokio::test]
async fn removal_ends_a_send_that_waits() {
    let mut queue = private();
    while queue.try_send(vec![0; 1000]).is_ok() {}
    let mut sender = queue.clone_sender();
    let waits = tokio::spawn(async move { sender.send(vec![0; 1000]).await });
    tokio::time::sleep(MOMENT).await;
    queue.remove().unwrap();
    let error = bounded(waits).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
}

#[tokio::test]
async fn a_full_queue_waits_for_its_receiver() {
    const COUNT: u32 = 5000;
    let (mut sender, mut receiver) = private().split();
    let sends = tokio::spawn(async move {
        for number in 0..COUNT {
            let message = number.to_le_bytes().to_vec();
            sender.send(message).await.unwrap();
        }
    });
    for number in 0..COUNT {
        if number % 1000 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let message = bounded(receiver.recv()).await.unwrap().unwrap();
        assert_eq!(message.payload()[..], number.to_le_bytes());
    }
    bounded(sends).await.unwrap();
}

#[tokio::test]
async fn try_send_hands_the_message_back() {
    let mut queue = private();
    let refused = loop {
        match queue.try_send(vec![7; 3000]) {
            Ok(()) => {}
            Err(refused) => break refused,
        }
    };
    assert!(refused.is_full());
    assert_eq!(refused.into_inner().payload()[..], [7; 3000]);
    queue.recv().await.unwrap();
    queue.try_send(vec![7; 3000]).unwrap();
}

#[tokio::test]
async fn the_sink_keeps_one_message_that_has_no_room() {
    let (mut sender, mut receiver) = private().split();
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
    assert!(fed > 100, "{fed}");
    // What try_send has no room for does not overtake what the sink keeps.
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
    let error = bounded(sender.send("more")).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}

#[tokio::test]
async fn bad_types_are_clear_errors() {
    let mut queue = private();
    for kind in [0, -3] {
        let message = Message::from("x").with_kind(kind);
        let error = queue.send(message.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("must be positive"), "{error}");
        let refused = queue.try_send(message).unwrap_err();
        assert!(refused.is_rejected(), "{refused:?}");
        assert_eq!(refused.into_inner().payload(), "x");
    }
    let error = queue.select(Select::Equal(0)).unwrap_err();
    assert!(error.to_string().contains("positive"), "{error}");
    let error = Options::new().kind(0).open(Target::Private).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    queue.send("goes on").await.unwrap();
}

#[tokio::test]
async fn longest_messages() {
    let longest = usize::try_from(Limits::current().msgmax.unwrap()).unwrap();
    let mut queue = private();
    queue.send(vec![1; longest]).await.unwrap();
    let message = queue.recv().await.unwrap().unwrap();
    assert_eq!(message.payload().len(), longest);
    let error = queue.send(vec![1; longest + 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let reason = format!("kernel.msgmax is {longest}");
    assert!(error.to_string().contains(&reason), "{error}");

    queue.set_max_bytes(100).unwrap();
    let refused = queue.try_send(vec![1; 101]).unwrap_err();
    assert!(refused.is_rejected(), "{refused:?}");
    for error in [
        bounded(queue.send(vec![1; 101])).await.unwrap_err(),
        refused.error().unwrap().clone(),
    ] {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("holds 100 bytes"), "{error}");
    }
    queue.send(vec![1; 100]).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_long_stays() {
    let queue = private();
    let mut sender = queue.clone_sender();
    let options = Options::new().max_message(10);
    let mut receiver = options.open_receiver(Target::Id(queue.id())).unwrap();
    sender.send(vec![1; 11]).await.unwrap();
    sender.send("next").await.unwrap();
    for _ in 0..3 {
        let error = receiver.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("max_message=10"), "{error}");
        assert!(error.to_string().contains("stayed"), "{error}");
    }
    assert!(receiver.next().await.unwrap().is_err());
    assert!(receiver.next().await.is_none(), "no loop of errors");
    assert_eq!(receiver.attributes().unwrap().messages, 2);
    receiver.set_max_message(Some(11));
    let message = receiver.next().await.unwrap().unwrap();
    assert_eq!(message.payload().len(), 11);
    let message = receiver.next().await.unwrap().unwrap();
    assert_eq!(message.payload(), "next");
}

#[tokio::test]
async fn attributes_and_administration() {
    let mut queue = private();
    let fresh = queue.attributes().unwrap();
    assert_eq!((fresh.messages, fresh.bytes, fresh.mode), (0, 0, 0o600));
    assert_eq!((fresh.last_sender, fresh.last_sent), (None, None));
    assert!(fresh.changed.is_some());
    assert_eq!(Some(fresh.max_bytes), Limits::current().msgmnb);
    queue.send("12345").await.unwrap();
    let one = queue.attributes().unwrap();
    assert_eq!((one.messages, one.bytes), (1, 5));
    assert_eq!(one.last_sender, Some(std::process::id()));
    assert_eq!(one.last_receiver, None);
    assert!(one.last_sent.is_some());
    queue.recv().await.unwrap();
    let received = queue.attributes().unwrap();
    assert_eq!(received.last_receiver, Some(std::process::id()));
    queue.set_mode(0o640).unwrap();
    queue.set_max_bytes(1000).unwrap();
    queue.set_owner(one.uid, one.gid).unwrap();
    let set = queue.attributes().unwrap();
    assert_eq!((set.mode, set.max_bytes), (0o640, 1000));
    assert_eq!((set.uid, set.gid), (one.uid, one.gid));
    assert_eq!((set.creator_uid, set.creator_gid), (one.uid, one.gid));
    let error = queue.set_owner(u32::MAX, u32::MAX).unwrap_err();
    assert_eq!(error.errno_name(), Some("EINVAL"));
    assert!(!error.is_closed(), "{error}");
}

#[tokio::test]
async fn by_key_path_and_id() {
    let file = std::env::current_exe().unwrap();
    let project = u8::try_from(std::process::id() % 255 + 1).unwrap();
    let target = Target::path(&file, project);
    let error = Options::new().open(target.clone()).unwrap_err();
    assert!(error.to_string().contains("no such queue"), "{error}");
    let options = Options::new().create(true).mode(0o640).remove_on_drop(true);
    let mut made = options.open(target).unwrap();
    assert_eq!(made.attributes().unwrap().mode, 0o640);
    let key = sysv::ftok(&file, project).unwrap();
    // `create` opens what is there.
    let mut by_key = Options::new().create(true).open(key).unwrap();
    let by_id = Options::new().open(Target::Id(made.id())).unwrap();
    assert_eq!((by_key.id(), by_id.id()), (made.id(), made.id()));
    made.send("hello").await.unwrap();
    let message = by_key.recv().await.unwrap().unwrap();
    assert_eq!(message.payload(), "hello");
    let error = Options::new().exclusive(true).open(key).unwrap_err();
    assert!(error.to_string().contains("EEXIST"), "{error}");
    drop(made);
    assert!(by_key.recv().await.unwrap().is_none(), "removed on drop");
    let error = Options::new().open(Target::Id(by_id.id())).unwrap_err();
    assert!(error.to_string().contains("no queue has this id"));
    let nowhere = Target::path("/nonexistent", 1);
    let error = Options::new().open(nowhere).unwrap_err();
    assert!(error.to_string().contains("ftok"), "{error}");
    let error = Options::new().open(Target::path(&file, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn remove_on_drop_waits_for_the_last_half() {
    let (sender, mut receiver) = private().split();
    let mut clone = sender.clone();
    drop(sender);
    clone.send("hello").await.unwrap();
    let id = clone.id();
    drop(clone);
    assert_eq!(receiver.recv().await.unwrap().unwrap().payload(), "hello");
    drop(receiver);
    assert!(Options::new().open(Target::Id(id)).is_err());
}

/// A receiver that is dropped while it waits, at every stage of the helper, loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_receives_lose_nothing() {
    const COUNT: u64 = 3000;
    let queue = private();
    let mut sender = queue.clone_sender();
    let sends = tokio::spawn(async move {
        for number in 1..=COUNT {
            // Some without payload, which only their type tells apart.
            let payload = vec![1; usize::try_from(number % 3).unwrap()];
            let message = Message::from(payload).with_kind(number.cast_signed());
            sender.send(message).await.unwrap();
            if number % 5 == 0 {
                tokio::time::sleep(Duration::from_micros(number % 97)).await;
            }
        }
    });
    let mut seen = HashSet::new();
    let mut receiver = queue.select(Select::Any).unwrap();
    let mut cancelled = 0_u64;
    bounded(async {
        while (seen.len() as u64) < COUNT {
            let mut received = pin!(receiver.recv());
            let mut polled = poll(received.as_mut());
            for _ in 0..cancelled % 3 {
                if polled.is_pending() {
                    std::thread::sleep(Duration::from_micros(cancelled % 200));
                    polled = poll(received.as_mut());
                }
            }
            if let Poll::Ready(message) = polled {
                let message = message.unwrap().unwrap();
                let kind = message.kind().unwrap().cast_unsigned();
                assert_eq!(message.payload().len() as u64, kind % 3);
                assert!(seen.insert(kind), "{kind} came twice");
            } else {
                cancelled += 1;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    bounded(sends).await.unwrap();
    assert!(cancelled > 0);
    assert!(receiver.try_recv().is_err());
}

#[test]
fn several_runtimes_and_one_that_ends_in_the_middle() {
    let queue = private();
    let mut sender = queue.clone_sender();
    let waits = |select| {
        let mut receiver = queue.select(select).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let task = runtime.spawn(async move { receiver.recv().await });
        (runtime, task)
    };
    let (ends, _) = waits(Select::Any);
    let (first, one) = waits(Select::Equal(1));
    let (second, two) = waits(Select::Equal(2));
    std::thread::sleep(MOMENT);
    drop(ends);
    for kind in [2, 1] {
        let message = Message::from("x").with_kind(kind);
        futures::executor::block_on(sender.send(message)).unwrap();
    }
    for (task, kind) in [(one, 1), (two, 2)] {
        let done: Result<Option<Message>, Error> = futures::executor::block_on(task).unwrap();
        assert_eq!(done.unwrap().unwrap().kind(), Some(kind));
    }
    drop((first, second));
}

/// Whoever sends or receives without end lets other tasks of the same worker have their turn.
#[tokio::test]
async fn other_tasks_have_their_turn() {
    let (mut sender, mut receiver) = private().split();
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
    let common: sinew_core::Message = Message::from("x").with_kind(3).into();
    assert_eq!(common.kind(), Some(3));
    assert_eq!(Message::try_from(common).unwrap().kind(), Some(3));
    let priority = sinew_core::Message::from("x").with_priority(1);
    let error = Message::try_from(priority).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
