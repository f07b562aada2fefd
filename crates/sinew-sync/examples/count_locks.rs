//! Takes and gives back a free lock a number of times, for `ci/count-locks.sh` to count
//! instructions.
//!
//! `count_locks KIND PAIRS`, where KIND is one of [`KINDS`]. The kinds `raw-…` execute the two
//! atomic operations alone. Without arguments, each kind runs for a moment.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use sinew_sync::{Mutex, Region, Semaphore};

const KINDS: [&str; 6] = [
    "raw-mutex",
    "mutex",
    "blocking-mutex",
    "raw-semaphore",
    "semaphore",
    "blocking-semaphore",
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match &arguments[..] {
        [] => KINDS
            .iter()
            .try_for_each(|kind| runtime.block_on(run(kind, 1000))),
        [kind, pairs] => runtime.block_on(run(kind, pairs.parse()?)),
        _ => Err("usage: count_locks [KIND PAIRS]".into()),
    }
}

async fn run(kind: &str, pairs: u64) -> Result<(), Box<dyn Error>> {
    match kind {
        "raw-mutex" => raw_mutex(pairs),
        "mutex" => mutex(pairs).await,
        "blocking-mutex" => blocking_mutex(pairs),
        "raw-semaphore" => raw_semaphore(pairs),
        "semaphore" => semaphore(pairs).await,
        "blocking-semaphore" => blocking_semaphore(pairs),
        kind => Err(format!("no kind {kind}; there are {}", KINDS.join(", ")).into()),
    }
}

fn raw_mutex(pairs: u64) -> Result<(), Box<dyn Error>> {
    let word = Region::anonymous(4096)?.view::<AtomicU64>(0)?;
    for _ in 0..pairs {
        let taken = word.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() || word.swap(0, Ordering::SeqCst) != 1 {
            return Err("the word was changed".into());
        }
    }
    Ok(())
}

async fn mutex(pairs: u64) -> Result<(), Box<dyn Error>> {
    let mutex = Mutex::create(&Region::anonymous(4096)?, 0, 0_u64)?;
    for _ in 0..pairs {
        drop(mutex.lock().await.map_err(sinew_core::Error::from)?);
    }
    Ok(())
}

fn blocking_mutex(pairs: u64) -> Result<(), Box<dyn Error>> {
    let mutex = Mutex::create(&Region::anonymous(4096)?, 0, 0_u64)?;
    for _ in 0..pairs {
        let guard = mutex.blocking_lock(None);
        drop(guard.map_err(sinew_core::Error::from)?);
    }
    Ok(())
}

fn raw_semaphore(pairs: u64) -> Result<(), Box<dyn Error>> {
    let word = Region::anonymous(4096)?.view::<AtomicU64>(0)?;
    word.store(1, Ordering::SeqCst);
    for _ in 0..pairs {
        if word.fetch_sub(1, Ordering::Acquire) != 1 || word.fetch_add(1, Ordering::Release) != 0 {
            return Err("the word was changed".into());
        }
    }
    Ok(())
}

async fn semaphore(pairs: u64) -> Result<(), Box<dyn Error>> {
    let semaphore = Semaphore::create(&Region::anonymous(4096)?, 0, 1)?;
    for _ in 0..pairs {
        drop(semaphore.acquire().await?);
    }
    Ok(())
}

fn blocking_semaphore(pairs: u64) -> Result<(), Box<dyn Error>> {
    let semaphore = Semaphore::create(&Region::anonymous(4096)?, 0, 1)?;
    for _ in 0..pairs {
        drop(semaphore.blocking_acquire(None)?);
    }
    Ok(())
}
