//! A plain thread facing an async task.
//!
//! How an end waits is its own affair. Here one process is an ordinary program, which calls `blocking_recv`
//! and `blocking_send` on a thread that belongs to no runtime; the other is an async task beside others.
//! Look at `plain`: once the channel is made, there is no runtime in that process any more.
//!
//! Run it with `cargo run --example shm_blocking`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use sinew::shm::{self, Options};
use tokio::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        let channel = runtime.block_on(shm::inherited())?;
        drop(runtime);
        return plain(channel);
    }
    runtime.block_on(asynchronous())
}

fn plain(mut channel: shm::Channel) -> Result<(), Box<dyn Error>> {
    while let Some(message) = channel.blocking_recv()? {
        let text = message.to_ascii_uppercase();
        channel.blocking_send(text)?;
    }
    channel.blocking_close()?;
    let (sender, receiver) = (channel.sender().stats(), channel.receiver().stats());
    println!(
        "plain thread: answered {} messages, slept {} times",
        sender.messages, receiver.parks
    );
    Ok(())
}

async fn asynchronous() -> Result<(), Box<dyn Error>> {
    let program = Command::new(std::env::current_exe()?);
    let (mut channel, mut child) = Options::new().spawn(program).await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for word in ["one", "two", "three"] {
        ticks.tick().await;
        channel.send(word).await?;
        let answer = channel.recv().await?.ok_or("the child has closed")?;
        println!("task: {word} -> {}", answer.escape_ascii());
    }
    channel.close().await?;
    if !child.wait().await?.success() {
        return Err("the child failed".into());
    }
    Ok(())
}
