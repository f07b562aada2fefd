//! A lock in shared memory, with the data that it protects, of which one owner is killed.
//!
//! Two accounts must always have 100 between them. The child is killed in the middle of a transfer, with
//! the lock in its hands. Look at what its parent gets: not a lock that nobody will ever free, nor one that looks
//! as if nothing had happened, but the lock together with the news that its owner has died. It puts the data
//! in order, and goes on.
//!
//! Run it with `cargo run --example lock`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;

use sinew::sync::{LockError, Mutex, Region};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// What the lock protects.
type Accounts = [u64; 2];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return child(&path).await;
    }
    let path = format!("/dev/shm/sinew-example-lock-{}", std::process::id());
    let shown = parent(&path).await;
    std::fs::remove_file(&path)?;
    shown
}

async fn parent(path: &str) -> Result<(), Box<dyn Error>> {
    File::create_new(path)?.set_len(4096)?;
    let accounts = Mutex::<Accounts>::create(&map(path)?, 0, [100, 0])?;

    let mut child = Command::new(std::env::current_exe()?)
        .arg(path)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let said = BufReader::new(stdout).lines().next_line().await?;
    println!("the child says {:?}", said.ok_or("it ended")?);
    if accounts.try_lock().map_err(sinew::Error::from)?.is_some() {
        return Err("the child does not have the lock".into());
    }
    child.kill().await?;

    let mut accounts = match accounts.lock().await {
        Err(LockError::OwnerDied(died)) => {
            println!("it was killed; its parent gets the lock, and is told: owner died");
            died.recover()
        }
        Ok(_) => return Err("nobody has said that the owner died".into()),
        Err(error) => return Err(error.to_string().into()),
    };
    println!("the data as it left them: {:?}", *accounts);
    accounts[0] = 100 - accounts[1];
    println!("in order again: {:?}", *accounts);
    Ok(())
}

async fn child(path: &str) -> Result<(), Box<dyn Error>> {
    let accounts = Mutex::<Accounts>::attach(&map(path)?, 0)?;
    let mut accounts = match accounts.lock().await {
        Ok(accounts) => accounts,
        Err(error) => return Err(error.to_string().into()),
    };
    accounts[1] += 30;
    // Others see what is written when the lock is freed, or now.
    accounts.write_back()?;
    println!("I have given, and not yet taken");
    std::future::pending::<()>().await;
    accounts[0] -= 30;
    Ok(())
}

fn map(path: &str) -> Result<Region, Box<dyn Error>> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(Region::from_file(file.as_fd(), 4096, path)?)
}
