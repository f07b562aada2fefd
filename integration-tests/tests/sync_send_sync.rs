//! What can cross threads.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sinew_memory::Region;
use sinew_sync::{
    Acquired, Backend, Barrier, BarrierWaitResult, Condvar, Driver, DriverStats, Event, Guard,
    LockError, Mutex, OwnerDied, Permit, ReadGuard, RwLock, Semaphore, SemaphoreOptions,
    SemaphoreSink, SemaphoreStream, Wait, Word, WordOptions, WordSink, WordStream, WordValue, sysv,
};

fn all<T: Send + Sync + Unpin + 'static>() {}
fn sendable<T: Send>(_: &T) {}

#[test]
fn types() {
    all::<Acquired>();
    all::<Backend>();
    all::<Barrier>();
    all::<BarrierWaitResult>();
    all::<Condvar>();
    all::<Driver>();
    all::<DriverStats>();
    all::<Event>();
    all::<Guard<u64>>();
    all::<LockError<u64>>();
    all::<Mutex<u64>>();
    all::<OwnerDied<u64>>();
    all::<Permit>();
    all::<ReadGuard<u64>>();
    all::<RwLock<u64>>();
    all::<Semaphore>();
    all::<SemaphoreOptions>();
    all::<SemaphoreSink>();
    all::<SemaphoreStream>();
    all::<Wait>();
    all::<Word>();
    all::<WordOptions>();
    all::<WordSink>();
    all::<WordStream>();
    all::<WordValue>();
    all::<sysv::Attributes>();
    all::<sysv::Limits>();
    all::<sysv::Op>();
    all::<sysv::Options>();
    all::<sysv::Permit>();
    all::<sysv::Semaphore>();
    all::<sysv::SemaphoreSink>();
    all::<sysv::SemaphoreStream>();
    all::<sysv::Set>();
    all::<sysv::Target>();
}

#[tokio::test]
async fn futures() {
    let moment = Duration::from_millis(1);
    let region = Region::anonymous(8192).unwrap();
    let semaphore = Semaphore::create(&region, 0, 0).unwrap();
    sendable(&semaphore.acquire());
    sendable(&semaphore.acquire_timeout(moment));
    sendable(&semaphore.into_stream().recv());

    let mutex = Mutex::create(&region, 64, 0_u64).unwrap();
    sendable(&mutex.lock());
    sendable(&mutex.lock_timeout(moment));
    sendable(&mutex.reset(1));
    let rwlock = RwLock::create(&region, 1024, 0_u64).unwrap();
    sendable(&rwlock.read());
    sendable(&rwlock.write());
    let condvar = Condvar::create(&region, 4096).unwrap();
    let guard = mutex.lock().await.unwrap();
    sendable(&condvar.wait(guard));
    let event = Event::create(&region, 4160).unwrap();
    sendable(&event.wait());
    let barrier = Barrier::create(&region, 4224, 2).unwrap();
    sendable(&barrier.wait());

    let word = region.view::<AtomicU32>(8000).unwrap();
    sendable(&Driver::current().unwrap().wait(&word, 0));
    sendable(&WordStream::new(word.clone()).recv());
    sendable(&WordSink::new(word).send(1_u32));

    let options = sysv::Options::new().remove_on_drop(true);
    sendable(&options.open(sysv::Target::Private));
    let set = options.open(sysv::Target::Private).await.unwrap();
    let ops = [sysv::Op::new(0, -1)];
    sendable(&set.apply(&ops));
    sendable(&set.apply_timeout(&ops, moment));
    let semaphore = set.semaphore(0).unwrap();
    sendable(&semaphore.acquire());
    sendable(&semaphore.acquire_many(2));
    sendable(&semaphore.acquire_timeout(moment));
    sendable(&semaphore.wait_zero());
    sendable(&semaphore.wait_zero_timeout(moment));
    sendable(&semaphore.clone().into_stream().recv());
    sendable(&semaphore.into_sink().send(Acquired));
}
