//! Children of fork(2): what they drop stays their parent's, and they keep nothing of it alive.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sinew_core::ErrorKind;
use sinew_integration_tests::{Forked, Watchdog};
use sinew_memory::{Fate, MappedFile, PosixShm, Region, SysvShm, SysvTarget};
use sinew_shm::Listener;
use sinew_shm::named::Options;
use sinew_sync::{LockError, Mutex, RwLock, Semaphore, SemaphoreOptions};

/// Regions of all kinds, and another handle of each, opened on its own where that is possible.
fn regions(directory: &Path) -> Vec<(&'static str, Region, Region)> {
    let path = directory.join("file");
    let open = || MappedFile::new(&path).create(true).size(65536).open();
    let (memfd, fd) = Region::memfd(65536).unwrap();
    let same = Region::from_memfd(fd.as_fd()).unwrap();
    let anonymous = Region::anonymous(65536).unwrap();
    let sysv = SysvShm::new(SysvTarget::Private)
        .size(65536)
        .remove_on_drop(true)
        .open()
        .unwrap();
    vec![
        ("file", open().unwrap(), open().unwrap()),
        ("memfd", memfd, same),
        ("anonymous", anonymous.clone(), anonymous),
        ("sysv", sysv.clone(), sysv),
    ]
}

#[test]
fn locks_stay_the_parents() {
    let _watchdog = Watchdog::new("fork::locks_stay_the_parents");
    let directory = tempfile::tempdir().unwrap();
    for (name, region, other) in regions(directory.path()) {
        let mutex = Mutex::create(&region, 0, [1_u64, 2]).unwrap();
        let rwlock = RwLock::create(&region, 1024, [3_u64, 4]).unwrap();
        let slots = Semaphore::create(&region, 4096, 1).unwrap();
        let mut guard = mutex.try_lock().unwrap().unwrap();
        guard[0] = 9;
        let read = rwlock.try_read().unwrap().unwrap();
        let permit = slots.try_acquire().unwrap();
        let (mut guard, mut read, mut permit) = (Some(guard), Some(read), Some(permit));
        let child = Forked::new(|| {
            drop((guard.take(), read.take(), permit.take()));
            // It is another process: its parent has the lock.
            assert!(mutex.try_lock().unwrap().is_none());
        });
        child.join();
        let seen: u64 = other.load(64).unwrap();
        assert_eq!(seen, 1, "{name}: the child has written the data back");
        let mutex = Mutex::<[u64; 2]>::attach(&other, 0).unwrap();
        assert!(mutex.try_lock().unwrap().is_none(), "{name}: was freed");
        let rwlock = RwLock::<[u64; 2]>::attach(&other, 1024).unwrap();
        assert!(rwlock.try_write().unwrap().is_none(), "{name}: was freed");
        assert!(slots.try_acquire().is_none(), "{name}: was given back");
        drop((guard, read, permit));
        assert_eq!(mutex.try_lock().unwrap().unwrap()[0], 9);
        assert!(rwlock.try_write().unwrap().is_some());
        assert!(slots.try_acquire().is_some());
    }
}

/// A child that uses an inherited handle is an owner of its own, whose death is told.
#[test]
fn a_child_owns_what_it_locks_itself() {
    let _watchdog = Watchdog::new("fork::a_child_owns_what_it_locks_itself");
    let directory = tempfile::tempdir().unwrap();
    for (name, region, _) in regions(directory.path()) {
        let mutex = Mutex::create(&region, 0, 0_u64).unwrap();
        let ours = mutex.try_lock().unwrap().unwrap();
        drop(ours);
        let child = Forked::new(|| {
            std::mem::forget(mutex.try_lock().unwrap().unwrap());
            assert!(region.presence().word().is_some());
        });
        child.join();
        match mutex.try_lock() {
            Err(LockError::OwnerDied(died)) => drop(died.recover()),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn ends_of_a_channel_stay_the_parents() {
    let _watchdog = Watchdog::new("fork::ends_of_a_channel_stay_the_parents");
    let directory = tempfile::tempdir().unwrap();
    for (name, region, other) in regions(directory.path()) {
        let options = Options::new();
        let mut sender = Some(options.blocking_open_sender(region).unwrap());
        let mut receiver = Some(options.blocking_open_receiver(other).unwrap());
        let child = Forked::new(|| {
            let sent = sender.as_mut().unwrap().try_send("not mine");
            let error = sent.unwrap_err().error().unwrap().clone();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains("forked"), "{error}");
            let error = receiver.as_mut().unwrap().blocking_recv().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            drop((sender.take(), receiver.take()));
        });
        child.join();
        let (mut sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
        assert!(receiver.try_recv().is_err(), "{name}");
        assert!(
            receiver.peer().is_some() && sender.peer().is_some(),
            "{name}"
        );
        sender.try_send("still here").unwrap();
        assert_eq!(receiver.try_recv().unwrap(), "still here", "{name}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn names_stay_the_parents() {
    let _watchdog = Watchdog::new("fork::names_stay_the_parents");
    let directory = tempfile::tempdir().unwrap();
    let unique = format!("/sinew-fork-{}", std::process::id());
    let (file, fifo, socket) = ["file", "fifo", "socket"]
        .map(|name| directory.path().join(name))
        .into();
    let shm = PosixShm::new(&unique).create(true).size(4096);
    let sem = SemaphoreOptions::new().create(true).unlink(true);
    let mq = sinew_mqueue::posix::Options::new()
        .create(true)
        .unlink_on_drop(true);
    let queue = sinew_mqueue::sysv::Options::new()
        .create(true)
        .remove_on_drop(true);
    let segment = SysvShm::new(SysvTarget::Private)
        .size(4096)
        .remove_on_drop(true);
    let segment = segment.open().unwrap();
    let id = SysvTarget::Id(segment.sysv_stat().unwrap().id);
    let key = 0x5e1f_0000 | i32::try_from(std::process::id() & 0xffff).unwrap();
    let pipe = sinew_pipe::fifo::Options::new().create(true).unlink(true);
    let ends = tokio::join!(pipe.receiver(&fifo), pipe.sender(&fifo));
    let ends = (ends.0.unwrap(), ends.1.unwrap());
    let mut things: Vec<Option<Box<dyn std::any::Any>>> = vec![
        Some(Box::new(shm.unlink_on_drop(true).open().unwrap())),
        Some(Box::new(
            MappedFile::new(&file)
                .create(true)
                .size(1)
                .remove_on_drop(true)
                .open()
                .unwrap(),
        )),
        Some(Box::new(segment)),
        Some(Box::new(sem.open(&unique).unwrap())),
        Some(Box::new(mq.open(&unique).unwrap())),
        Some(Box::new(queue.open(SysvTarget::Key(key)).unwrap())),
        Some(Box::new(ends)),
        Some(Box::new(Listener::bind(&socket).await.unwrap())),
    ];
    Forked::new(|| things.clear()).join();
    PosixShm::new(&unique).open().unwrap();
    SysvShm::new(id).open().unwrap();
    SemaphoreOptions::new().open(&unique).unwrap();
    sinew_mqueue::posix::Options::new().open(&unique).unwrap();
    sinew_mqueue::sysv::Options::new()
        .open(SysvTarget::Key(key))
        .unwrap();
    for path in [&file, &fifo, &socket] {
        assert!(path.exists(), "{}", path.display());
    }
    things.clear();
    assert!(PosixShm::new(&unique).open().is_err());
    for path in [&file, &fifo, &socket] {
        assert!(!path.exists(), "{}", path.display());
    }
}

/// Connections, and the registrations with epoll by which they are waited for.
#[tokio::test(flavor = "current_thread")]
async fn connections_stay_the_parents() {
    let _watchdog = Watchdog::new("fork::connections_stay_the_parents");
    let queue = format!("/sinew-fork-wait-{}", std::process::id());
    let mq = sinew_mqueue::posix::Options::new()
        .create(true)
        .unlink_on_drop(true);
    let shm = sinew_shm::Options::new().wait(sinew_shm::Wait::Park);
    let mut ends = Some((
        shm.pair().unwrap(),
        sinew_socket::unix::stream::pair().unwrap(),
        sinew_socket::unix::seqpacket::pair().unwrap(),
        mq.open(&queue).unwrap(),
    ));
    // So that all are registered.
    let early = Duration::from_millis(50);
    if let Some((shm, stream, packets, mq)) = &mut ends {
        assert!(tokio::time::timeout(early, shm.1.recv()).await.is_err());
        assert!(tokio::time::timeout(early, stream.1.recv()).await.is_err());
        assert!(tokio::time::timeout(early, packets.1.recv()).await.is_err());
        assert!(tokio::time::timeout(early, mq.recv()).await.is_err());
    }
    Forked::new(|| drop(ends.take())).join();
    let (mut shm, mut stream, mut packets, mq) = ends.unwrap();
    let (mut to, mut from) = mq.split();
    let late = async {
        tokio::time::sleep(early).await;
        shm.0.send("shm").await.unwrap();
        stream.0.send("stream").await.unwrap();
        packets.0.send("packets").await.unwrap();
        to.send("mq").await.unwrap();
    };
    let received = async {
        (
            shm.1.recv().await.unwrap().unwrap(),
            stream.1.recv().await.unwrap().unwrap().into_payload(),
            packets.1.recv().await.unwrap().unwrap().into_payload(),
            from.recv().await.unwrap().unwrap().payload().to_vec(),
        )
    };
    let both = async { tokio::join!(late, received) };
    let limit = Duration::from_secs(20);
    let ((), (shm, stream, packets, mq)) = tokio::time::timeout(limit, both).await.unwrap();
    assert_eq!(
        [&shm[..], &stream, &packets, &mq],
        [&b"shm"[..], b"stream", b"packets", b"mq"]
    );
}

/// A process that has locked, has forked a child that lives on, and is killed.
#[test]
fn a_child_does_not_keep_its_parents_lock() {
    let _watchdog = Watchdog::new("fork::a_child_does_not_keep_its_parents_lock");
    let directory = tempfile::tempdir().unwrap();
    for (name, region, _) in regions(directory.path()) {
        let mutex = Mutex::create(&region, 0, 0_u64).unwrap();
        let (mut from, mut to) = std::io::pipe().unwrap();
        let (mut end, of_test) = std::io::pipe().unwrap();
        let mut of_test = Some(of_test);
        let mut parent = Forked::new(|| {
            drop(of_test.take());
            let _guard = mutex.try_lock().unwrap().unwrap();
            let child = Forked::new(|| assert_eq!(end.read(&mut [0]).unwrap(), 0));
            to.write_all(b"x").unwrap();
            std::mem::forget(child);
            std::thread::sleep(Duration::from_secs(600));
        });
        drop(to);
        from.read_exact(&mut [0]).unwrap();
        assert!(mutex.try_lock().unwrap().is_none(), "{name}: it lives");
        parent.kill();
        let locked = mutex.blocking_lock(Some(Duration::from_secs(10)));
        assert!(
            matches!(locked, Err(LockError::OwnerDied(_))),
            "{name}: {locked:?}"
        );
        drop(of_test);
    }
}

/// A program that is executed has nothing of what its process held.
#[test]
fn a_program_that_is_executed_holds_nothing() {
    let _watchdog = Watchdog::new("fork::a_program_that_is_executed_holds_nothing");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let region = MappedFile::new(&path)
        .create(true)
        .size(65536)
        .open()
        .unwrap();
    let mutex = Mutex::create(&region, 8192, 0_u64).unwrap();
    let channel = MappedFile::new(directory.path().join("channel")).create(true);
    let (mut from, mut to) = std::io::pipe().unwrap();
    let mut child = Forked::new(|| {
        let _guard = mutex.try_lock().unwrap().unwrap();
        let _sender = Options::new()
            .blocking_open_sender(channel.clone())
            .unwrap();
        to.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        panic!("{}", Command::new("sleep").arg("15").exec());
    });
    drop(to);
    from.read_exact(&mut [0]).unwrap();
    assert!(mutex.try_lock().unwrap().is_none());
    let mut receiver = Options::new().blocking_open_receiver(channel).unwrap();
    assert!(receiver.peer().is_some());
    let begun = Instant::now();
    let locked = mutex.blocking_lock(Some(Duration::from_secs(10)));
    assert!(matches!(locked, Err(LockError::OwnerDied(_))), "{locked:?}");
    let error = receiver.blocking_recv().unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    // It was not the end of the program.
    assert!(begun.elapsed() < Duration::from_secs(9));
    child.kill();
}

/// What a lock says of its owner does not depend on what else the process does with the file.
#[test]
fn a_descriptor_that_is_closed_frees_no_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [0; 4096]).unwrap();
    let open = || {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        Region::from_file(file.as_fd(), 4096, "file").unwrap()
    };
    let region = open();
    let me = region.presence().enter().unwrap();
    let other = open();
    other.presence().enter().unwrap();
    drop(std::fs::read(&path).unwrap());
    assert_eq!(other.presence().judge(me), Fate::Lives);
    assert_eq!(region.presence().judge(me), Fate::Lives);
    drop(region);
    assert_eq!(other.presence().judge(me), Fate::Ended);
}

/// A program that was started, of which a child drops the sender.
#[tokio::test(flavor = "current_thread")]
async fn a_program_stays_the_parents() {
    let _watchdog = Watchdog::new("fork::a_program_stays_the_parents");
    let spawned = sinew_pipe::Options::new().spawn(&mut Command::new("cat"));
    let (sender, mut receiver) = spawned.unwrap();
    let mut sender = Some(sender);
    Forked::new(|| drop(sender.take())).join();
    let mut sender = sender.unwrap();
    sender.send("line").await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "line");
    assert_eq!(receiver.recv().await.unwrap(), None);
}
