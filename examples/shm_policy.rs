//! Who may connect: a policy on what the kernel vouches for.
//!
//! The listener admits one process by its number and turns everybody else away. The credentials are the
//! kernel's word, not the peer's. Look at the one that is turned away: it gets an error that says so, and
//! the listener's `accept` never hears of it.
//!
//! Run it with `cargo run --example shm_policy`; it starts two more processes.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sinew::shm::{self, Options};
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return peer(&path).await;
    }
    let path = std::env::temp_dir().join(format!("sinew-policy-{}.sock", std::process::id()));
    let welcome = Arc::new(AtomicU32::new(0));
    let mut listener = Options::new()
        .authorize({
            let welcome = welcome.clone();
            move |peer| peer.pid == welcome.load(Ordering::Relaxed)
        })
        .bind(&path)
        .await?;

    let mut program = Command::new(std::env::current_exe()?);
    program.arg(&path).stdin(Stdio::piped());

    let mut stranger = program.spawn()?;
    drop(stranger.stdin.take());
    tokio::select! {
        _ = listener.accept() => return Err("a stranger was admitted".into()),
        status = stranger.wait() => {
            status?;
        }
    }
    println!("listener: turned away so far: {}", listener.rejected());

    let mut friend = program.spawn()?;
    welcome.store(friend.id().unwrap_or(0), Ordering::Relaxed);
    drop(friend.stdin.take());
    let mut channel = listener.accept().await?;
    let peer = channel.peer();
    println!(
        "listener: admitted process {} of user {}",
        peer.pid, peer.uid
    );
    channel.send("welcome").await?;
    channel.close().await?;
    if !friend.wait().await?.success() {
        return Err("the friend failed".into());
    }
    Ok(())
}

async fn peer(path: &str) -> Result<(), Box<dyn Error>> {
    // Its end says that our parent knows our number, without which we are not welcome.
    std::io::read_to_string(std::io::stdin())?;
    match shm::connect(path).await {
        Ok(mut channel) => {
            let message = channel.recv().await?.ok_or("closed")?;
            println!("process {}: {}", std::process::id(), message.escape_ascii());
        }
        Err(error) => println!("process {}: {error}", std::process::id()),
    }
    Ok(())
}
