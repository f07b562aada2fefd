//! The second process of the tests of locks.
//!
//! `lock_peer hold FILE KIND` takes the lock, says so, changes half of the data, and holds it until it is
//! killed; `lock_peer count FILE KIND COUNT` increments both halves as often; `lock_peer ping FILE COUNT` answers
//! events.

use std::fs::OpenOptions;
use std::os::fd::AsFd;

use sinew_core::Error;
use sinew_memory::Region;
use sinew_sync::{Barrier, Event, Mutex, RwLock};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(arguments[1])
        .unwrap();
    let region = Region::from_file(file.as_fd(), 8192, arguments[1]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&region, &arguments)).unwrap();
}

/// What is held until the process is killed.
trait Held {}

impl<T> Held for T {}

async fn run(region: &Region, arguments: &[&str]) -> Result<(), Error> {
    let mutex = Mutex::<[u64; 2]>::attach(region, 0)?;
    let rwlock = RwLock::<[u64; 2]>::attach(region, 1024)?;
    match arguments {
        ["hold", _, kind] => {
            let _held: Box<dyn Held + '_> = match *kind {
                "mutex" => {
                    let mut guard = mutex.lock().await?;
                    guard[0] += 1;
                    guard.write_back()?;
                    Box::new(guard)
                }
                "write" => {
                    let mut guard = rwlock.write().await?;
                    guard[0] += 1;
                    guard.write_back()?;
                    Box::new(guard)
                }
                _ => Box::new(rwlock.read().await?),
            };
            println!("held");
            std::future::pending::<()>().await;
        }
        ["count", _, kind, count] => {
            Barrier::attach(region, 3072)?.wait().await?;
            for _ in 0..count.parse::<u64>().unwrap() {
                let mut guard = match *kind {
                    "mutex" => mutex.lock().await?,
                    _ => rwlock.write().await?,
                };
                guard[0] += 1;
                guard[1] += 1;
            }
        }
        ["ping", _, count] => {
            let (ping, pong) = (Event::attach(region, 4096)?, Event::attach(region, 4160)?);
            for _ in 0..count.parse::<u64>().unwrap() {
                ping.wait().await?;
                ping.clear();
                pong.set();
            }
        }
        other => panic!("what is {other:?}?"),
    }
    Ok(())
}
