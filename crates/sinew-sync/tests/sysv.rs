//! SysV semaphores within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_core::{ErrorKind, Message, MessageSink, MessageStream};
use sinew_sync::Acquired;
use sinew_sync::sysv::{Limits, Op, Options, Semaphore, Set, Target, ftok};

const MOMENT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

async fn make(count: u16, value: u16) -> Set {
    let options = Options::new().count(count).value(value);
    options
        .remove_on_drop(true)
        .open(Target::Private)
        .await
        .unwrap()
}

/// A key that nobody else has.
fn key(number: u32) -> i32 {
    (0x6000_0000 | std::process::id() << 4 & 0x0fff_fff0 | number).cast_signed()
}

#[track_caller]
fn says(error: &sinew_core::Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.unwrap()
}

/// Fails if it is ready within a moment.
async fn waits<F: Future + Unpin>(future: &mut F) {
    assert!(tokio::time::timeout(MOMENT, future).await.is_err());
}

#[tokio::test]
async fn units_are_taken_and_given_back() {
    let set = make(2, 3).await;
    let one = set.semaphore(1).unwrap();
    let permit = one.acquire_many(2).await.unwrap();
    assert_eq!(permit.count(), 2);
    assert_eq!(set.values().unwrap(), [3, 1]);
    assert!(one.try_acquire_many(2).unwrap().is_none());
    permit.release().unwrap();
    one.try_acquire().unwrap().unwrap().forget();
    assert_eq!(one.value().unwrap(), 2);
    assert_eq!(one.last_process().unwrap(), Some(std::process::id()));
    drop(one.acquire().await.unwrap());
    assert_eq!(set.values().unwrap(), [3, 2]);
    one.set_value(7).unwrap();
    set.semaphore(0).unwrap().post_many(10).unwrap();
    assert_eq!(set.values().unwrap(), [13, 7]);
    let attributes = set.attributes().unwrap();
    assert_eq!((attributes.count, attributes.mode), (2, 0o600));
    assert!(attributes.operated.is_some() && attributes.changed.is_some());
    set.set_mode(0o640).unwrap();
    assert_eq!(set.attributes().unwrap().mode, 0o640);
}

#[tokio::test]
async fn waits_share_a_helper_that_takes_nothing() {
    let set = make(1, 0).await;
    let semaphore = set.semaphore(0).unwrap();
    let mut tasks: futures::stream::FuturesUnordered<_> = (0..100)
        .map(|_| {
            let semaphore = semaphore.clone();
            tokio::spawn(async move { semaphore.acquire().await.unwrap().forget() })
        })
        .collect();
    tokio::time::sleep(MOMENT).await;
    // One waits in the kernel for all of them.
    assert_eq!(semaphore.waiting().unwrap(), 1);
    semaphore.post_many(99).unwrap();
    for _ in 0..99 {
        soon(tasks.next()).await.unwrap().unwrap();
    }
    assert_eq!(semaphore.value().unwrap(), 0);
    waits(&mut tasks.next()).await;
    semaphore.post().unwrap();
    soon(tasks.next()).await.unwrap().unwrap();
    assert_eq!(semaphore.value().unwrap(), 0);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(semaphore.waiting().unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_taken_while_it_waits() {
    let set = make(2, 0).await;
    set.set_values(&[0, 1]).unwrap();
    let ops = [Op::new(1, -1), Op::new(0, -2), Op::new(1, 3)];
    let mut apply = pin!(set.apply(&ops));
    waits(&mut apply).await;
    assert_eq!(set.values().unwrap(), [0, 1]);
    set.semaphore(0).unwrap().post().unwrap();
    waits(&mut apply).await;
    assert_eq!(set.values().unwrap(), [1, 1]);
    set.semaphore(0).unwrap().post().unwrap();
    soon(apply).await.unwrap();
    assert_eq!(set.values().unwrap(), [0, 3]);
    assert!(!set.try_apply(&[Op::new(1, -1), Op::new(0, -1)]).unwrap());
    assert_eq!(set.values().unwrap(), [0, 3]);
}

#[tokio::test]
async fn zero_is_waited_for() {
    let set = make(1, 2).await;
    let semaphore = set.semaphore(0).unwrap();
    let mut zero = pin!(semaphore.wait_zero());
    waits(&mut zero).await;
    assert_eq!(semaphore.waiting_for_zero().unwrap(), 1);
    let one = semaphore.acquire().await.unwrap();
    waits(&mut zero).await;
    let two = semaphore.acquire().await.unwrap();
    soon(zero).await.unwrap();
    semaphore.wait_zero().await.unwrap();
    drop((one, two));
    let error = semaphore.wait_zero_timeout(MOMENT).await.unwrap_err();
    says(&error, ErrorKind::TimedOut, &["within 30ms"]);
    let error = semaphore.blocking_wait_zero(Some(MOMENT)).unwrap_err();
    says(&error, ErrorKind::TimedOut, &["within 30ms"]);
}

#[tokio::test]
async fn what_is_not_to_wait() {
    const PARTS: &[&str] = &["EAGAIN", "IPC_NOWAIT"];
    let set = make(2, 0).await;
    let error = set.apply(&[Op::new(0, -1).nowait(true)]).await.unwrap_err();
    says(&error, ErrorKind::System, PARTS);
    // The first waits; once it need not, the second would have to.
    let ops = [Op::new(0, -1), Op::new(1, -1).nowait(true)];
    let mut apply = pin!(set.apply(&ops));
    waits(&mut apply).await;
    set.semaphore(0).unwrap().post().unwrap();
    says(&soon(apply).await.unwrap_err(), ErrorKind::System, PARTS);
    assert_eq!(set.values().unwrap(), [1, 0]);
    let error = set.blocking_apply(&ops, Some(LONG)).unwrap_err();
    says(&error, ErrorKind::System, PARTS);
}

#[tokio::test]
async fn timeouts() {
    let set = make(1, 0).await;
    let semaphore = set.semaphore(0).unwrap();
    let error = semaphore.acquire_timeout(MOMENT).await.unwrap_err();
    says(&error, ErrorKind::TimedOut, &["within 30ms"]);
    let ops = [Op::new(0, -1)];
    let error = set.apply_timeout(&ops, MOMENT).await.unwrap_err();
    says(&error, ErrorKind::TimedOut, &["within 30ms"]);
    let error = semaphore.blocking_acquire(Some(MOMENT)).unwrap_err();
    says(&error, ErrorKind::TimedOut, &["within 30ms"]);
    let thread = std::thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.blocking_acquire(None).map(drop)
    });
    semaphore.post().unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[tokio::test]
async fn removal_wakes() {
    let set = make(1, 0).await;
    let semaphore = set.semaphore(0).unwrap();
    let acquire = tokio::spawn({
        let semaphore = semaphore.clone();
        async move { semaphore.acquire().await }
    });
    let mut stream = semaphore.clone().into_stream();
    waits(&mut stream.next()).await;
    set.remove().unwrap();
    let error = soon(acquire).await.unwrap().unwrap_err();
    says(&error, ErrorKind::Closed, &["was removed", "open it anew"]);
    assert!(soon(stream.next()).await.is_none());
    assert_eq!(stream.recv().await.unwrap(), None);
    assert!(stream.try_recv().unwrap_err().is_closed());
    for error in [
        semaphore.post().unwrap_err(),
        semaphore.value().unwrap_err(),
        set.values().unwrap_err(),
        set.remove().unwrap_err(),
    ] {
        says(&error, ErrorKind::Closed, &["set was removed"]);
    }
}

#[tokio::test]
async fn units_as_items() {
    let set = make(1, 0).await;
    let semaphore = set.semaphore(0).unwrap();
    let mut sink = MessageSink::into_messages(semaphore.clone().into_sink());
    let mut stream = MessageStream::into_messages(semaphore.clone().into_stream());
    sink.send(Message::from("any")).await.unwrap();
    sink.send(Message::from("")).await.unwrap();
    assert_eq!(semaphore.value().unwrap(), 2);
    assert_eq!(stream.next().await.unwrap().unwrap().payload(), "");
    let mut stream = stream.into_inner();
    assert_eq!(stream.try_recv().unwrap(), Acquired);
    assert!(stream.try_recv().unwrap_err().is_empty());
    let message = Message::from("x").with_priority(1);
    let error = sink.send(message).await.unwrap_err();
    says(&error, ErrorKind::Unsupported, &["priority"]);
    let mut sink = sink.into_inner();
    semaphore.set_value(Semaphore::MAX).unwrap();
    assert!(sink.try_send(Acquired).unwrap_err().is_full());
    let error = sink.send(Acquired).await.unwrap_err();
    says(
        &error,
        ErrorKind::LimitExceeded,
        &["ERANGE", "SEMVMX, 32767"],
    );
}

#[tokio::test]
async fn opened_by_all_its_names() {
    let key = key(1);
    let options = Options::new().value(1).remove_on_drop(true);
    let set = options.clone().exclusive(true).open(key).await.unwrap();
    let again = Options::new().open(key).await.unwrap();
    assert_eq!(again.id(), set.id());
    let by_id = Options::new().open(Target::Id(set.id())).await.unwrap();
    by_id.semaphore(0).unwrap().post().unwrap();
    assert_eq!(set.values().unwrap(), [2]);
    let create = Options::new().create(true).value(9);
    assert_eq!(create.open(key).await.unwrap().values().unwrap(), [2]);
    let error = Options::new().exclusive(true).open(key).await.unwrap_err();
    says(&error, ErrorKind::AlreadyExists, &["EEXIST", "ipcrm"]);
    let error = create.count(2).open(key).await.unwrap_err();
    says(&error, ErrorKind::InvalidInput, &["count=2", "has 1"]);
    drop(set);
    let error = Options::new().open(key).await.unwrap_err();
    says(&error, ErrorKind::NotFound, &["ENOENT", "create"]);
    let gone = Target::Id(by_id.id());
    let error = Options::new().open(gone).await.unwrap_err();
    says(
        &error,
        ErrorKind::NotFound,
        &["no set has this id", "ipcs -s"],
    );

    let directory = tempfile::tempdir().unwrap();
    let target = Target::path(directory.path(), 201);
    let set = options.exclusive(true).open(target).await.unwrap();
    let key = ftok(directory.path(), 201).unwrap();
    assert_eq!(Options::new().open(key).await.unwrap().id(), set.id());
}

#[tokio::test]
async fn arguments_that_cannot_be() {
    let set = make(2, 0).await;
    let semaphore = set.semaphore(1).unwrap();
    let none = Options::new().count(0).open(key(3)).await;
    let large = Options::new().create(true).value(40_000).open(key(3)).await;
    for (error, parts) in [
        (set.semaphore(2).unwrap_err(), ["semaphore 2", "has 2"]),
        (
            set.apply(&[]).await.unwrap_err(),
            ["no operations", "one at least"],
        ),
        (
            set.apply(&[Op::new(7, 1)]).await.unwrap_err(),
            ["semaphore 7", "has 2"],
        ),
        (set.set_values(&[1]).unwrap_err(), ["1 values", "has 2"]),
        (
            set.set_values(&[1, 40_000]).unwrap_err(),
            ["value=40000", "SEMVMX"],
        ),
        (
            semaphore.set_value(32_768).unwrap_err(),
            ["value=32768", "SEMVMX"],
        ),
        (
            semaphore.post_many(0).unwrap_err(),
            ["0 units", "from 1 to"],
        ),
        (
            semaphore.acquire_many(40_000).await.unwrap_err(),
            ["40000 units", "from 1 to"],
        ),
        (none.unwrap_err(), ["count=0", "one semaphore"]),
        (large.unwrap_err(), ["value=40000", "SEMVMX"]),
    ] {
        says(&error, ErrorKind::InvalidInput, &parts);
    }
    let limits = Limits::current().unwrap();
    let ops = vec![Op::new(0, 1); usize::try_from(limits.semopm).unwrap() + 1];
    let error = set.apply(&ops).await.unwrap_err();
    says(
        &error,
        ErrorKind::LimitExceeded,
        &["E2BIG", "SEMOPM", "kernel.sem"],
    );
    if let Ok(count @ ..=65_534) = u16::try_from(limits.semmsl) {
        let options = Options::new().count(count + 1);
        let error = options.open(Target::Private).await.unwrap_err();
        says(
            &error,
            ErrorKind::LimitExceeded,
            &["EINVAL", "SEMMSL", "kernel.sem"],
        );
    }
}

/// More operations than the kernel takes together with their opposites, and more different ones than there
/// may be threads: they are looked at again and again.
#[tokio::test]
async fn what_no_thread_waits_for() {
    let set = make(200, 0).await;
    let limits = Limits::current().unwrap();
    let many = vec![Op::new(0, -1); usize::try_from(limits.semopm).unwrap()];
    {
        let mut apply = pin!(set.apply(&many));
        waits(&mut apply).await;
        let count = i16::try_from(many.len()).unwrap();
        set.apply(&[Op::new(0, count)]).await.unwrap();
        soon(apply).await.unwrap();
    }
    assert_eq!(set.semaphore(0).unwrap().value().unwrap(), 0);

    let tasks: Vec<_> = (0..200)
        .map(|index| {
            let semaphore = set.semaphore(index).unwrap();
            tokio::spawn(async move { semaphore.acquire().await.unwrap().forget() })
        })
        .collect();
    tokio::time::sleep(MOMENT).await;
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 150, "{threads} threads");
    let all: Vec<_> = (0..200).map(|index| Op::new(index, 1)).collect();
    set.apply(&all).await.unwrap();
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert_eq!(set.values().unwrap(), vec![0; 200]);

    // One of them would have to wait that is not to.
    let tasks: Vec<_> = (0..100)
        .map(|index| {
            let set = set.clone();
            let ops = [Op::new(index, -1), Op::new(199, -1).nowait(true)];
            tokio::spawn(async move { set.apply(&ops).await })
        })
        .collect();
    tokio::time::sleep(MOMENT).await;
    set.apply(&all[..100]).await.unwrap();
    for task in tasks {
        let error = soon(task).await.unwrap().unwrap_err();
        says(&error, ErrorKind::System, &["EAGAIN"]);
    }
}

struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One that was woken and is not polled does not keep the others waiting for ever.
#[tokio::test]
async fn one_that_does_not_come() {
    let set = make(1, 0).await;
    let semaphore = set.semaphore(0).unwrap();
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut asleep = pin!(semaphore.acquire());
    assert!(asleep.as_mut().poll(&mut cx).is_pending());
    let other = tokio::spawn({
        let semaphore = semaphore.clone();
        async move { semaphore.acquire().await.map(drop) }
    });
    tokio::time::sleep(MOMENT).await;
    semaphore.post().unwrap();
    soon(other).await.unwrap().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(asleep.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    assert_eq!(semaphore.value().unwrap(), 1);
}

/// A thread that ends does not take back what it has done with undo.
#[tokio::test]
async fn undo_is_of_the_process() {
    let set = make(1, 5).await;
    let semaphore = set.semaphore(0).unwrap().undo(true);
    let taken = std::thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.blocking_acquire(None)
    });
    let permit = taken.join().unwrap().unwrap();
    assert_eq!(semaphore.value().unwrap(), 4);
    drop(permit);
    assert_eq!(semaphore.value().unwrap(), 5);
}
