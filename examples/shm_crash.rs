//! A peer that is killed: nothing of what it had sent is lost, and its end is not taken for a clean one.
//!
//! The child sends, and is then killed with SIGKILL, before its parent has looked at a single message.
//! What was published lies in memory that outlives it. Look at the order: first every message, then an
//! error that says `is_peer_crashed()`. A peer that closes is `None` instead.
//!
//! Run it with `cargo run --example shm_crash`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Stdio;

use sinew::shm::{self, Options};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const MESSAGES: u32 = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return child().await;
    }
    let mut program = Command::new(std::env::current_exe()?);
    program.stdout(Stdio::piped()).kill_on_drop(true);
    let (mut channel, mut child) = Options::new().spawn(program).await?;

    // It says a byte when it has sent everything.
    let mut said = [0];
    let stdout = child.stdout.as_mut().ok_or("no stdout")?;
    stdout.read_exact(&mut said).await?;
    child.kill().await?;
    println!("the child was killed; none of its messages was received yet");

    let mut count = 0;
    let error = loop {
        match channel.recv().await {
            Ok(Some(message)) if message == format!("message {count}") => count += 1,
            Ok(_) => return Err("a message is wrong, or the end looks clean".into()),
            Err(error) => break error,
        }
    };
    println!("received {count} of {MESSAGES} messages, and then:");
    println!("{error}");
    println!("is_peer_crashed(): {}", error.is_peer_crashed());
    if count != MESSAGES || !error.is_peer_crashed() {
        return Err("something was lost".into());
    }
    Ok(())
}

async fn child() -> Result<(), Box<dyn Error>> {
    let mut channel = shm::inherited().await?;
    for number in 0..MESSAGES {
        channel.send(format!("message {number}")).await?;
    }
    println!("!");
    std::future::pending().await
}
