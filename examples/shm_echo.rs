//! Two processes meet at a path and talk through shared memory.
//!
//! One listens at a path, whose permissions say who may connect. The other connects, sends, and receives
//! what comes back. Look at the end: a channel that is closed is `None` for the other side, after
//! everything that was sent.
//!
//! Run it with `cargo run --example shm_echo`; it starts the second process itself.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use sinew::shm::{self, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        None => listener().await,
        Some(path) => client(&path).await,
    }
}

async fn listener() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("sinew-echo-{}.sock", std::process::id()));
    let mut listener = Options::new().mode(0o600).bind(&path).await?;
    println!("listener: at {}", path.display());

    let mut second = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    let mut channel = listener.accept().await?;
    println!("listener: process {} has connected", channel.peer().pid);
    while let Some(message) = channel.recv().await? {
        channel.send(message).await?;
    }
    println!("listener: it has closed");

    if !second.wait()?.success() {
        return Err("the second process failed".into());
    }
    Ok(())
}

async fn client(path: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = shm::connect(path).await?;
    for word in ["hello", "shared", "memory"] {
        channel.send(word).await?;
        let answer = channel.recv().await?.ok_or("the listener has closed")?;
        println!("client: sent {word}, received {}", answer.escape_ascii());
    }
    channel.close().await?;
    Ok(())
}
