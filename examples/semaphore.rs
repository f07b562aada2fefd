//! Two slots that three processes share, one of which is killed with a slot in its hands.
//!
//! The slots are a SysV semaphore, used with undo: the kernel gives back what a process has taken when it
//! ends, in whatever way. Look at the third worker: it waits until the first is killed, and goes on
//! at once. (A POSIX semaphore would have lost that slot.)
//!
//! Run it with `cargo run --example semaphore`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Stdio;
use std::time::Duration;

use sinew::sync::sysv::{Options, Target};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(id) = std::env::args().nth(1) {
        return worker(id.parse()?).await;
    }
    let options = Options::new().value(2).remove_on_drop(true);
    let set = options.open(Target::Private).await?;
    let slots = set.semaphore(0)?;

    let (mut first, _) = start(set.id()).await?;
    let (mut second, _) = start(set.id()).await?;
    println!("two workers are at it, {} slots are free", slots.value()?);
    if slots
        .acquire_timeout(Duration::from_millis(100))
        .await
        .is_ok()
    {
        return Err("there was a third slot".into());
    }

    // The third has to wait. Somebody who cannot tell anybody leaves.
    let third = start(set.id());
    let kill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.kill().await
    };
    let (third, killed) = tokio::join!(third, kill);
    killed?;
    let (mut third, said) = third?;
    println!("the first was killed, and the third says {said:?}");

    for worker in [&mut second, &mut third] {
        worker.kill().await?;
    }
    // Both slots at once, or none.
    let both = slots.acquire_many(2).await?;
    println!("all are gone, and all {} slots are back", both.count());
    Ok(())
}

/// Starts a worker, and waits until it has a slot.
async fn start(id: i32) -> Result<(Child, String), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(id.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let said = lines.next_line().await?.ok_or("the worker ended")?;
    Ok((child, said))
}

async fn worker(id: i32) -> Result<(), Box<dyn Error>> {
    let set = Options::new().open(Target::Id(id)).await?;
    let _slot = set.semaphore(0)?.undo(true).acquire().await?;
    println!("I have a slot");
    std::future::pending().await
}
