//! A child process with its end of a channel already in hand.
//!
//! There is no path and no name, so nobody else can connect and nothing is left behind. Look at the
//! child: it takes its end with `shm::inherited()`, and knows nothing of how it came.
//!
//! Run it with `cargo run --example shm_child`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use sinew::shm::{self, Options};
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return child().await;
    }
    let program = Command::new(std::env::current_exe()?);
    let (mut channel, mut child) = Options::new().spawn(program).await?;
    println!("parent: started process {}", channel.peer().pid);
    for number in [2_u64, 3, 12] {
        channel.send(number.to_le_bytes()).await?;
        let answer = channel.recv().await?.ok_or("the child has closed")?;
        let square = u64::from_le_bytes(answer[..].try_into()?);
        println!("parent: {number} squared is {square}");
    }
    channel.close().await?;
    println!("parent: the child ended with {}", child.wait().await?);
    Ok(())
}

async fn child() -> Result<(), Box<dyn Error>> {
    let mut channel = shm::inherited().await?;
    println!("child: working for process {}", channel.peer().pid);
    while let Some(message) = channel.recv().await? {
        let number = u64::from_le_bytes(message[..].try_into()?);
        channel.send((number * number).to_le_bytes()).await?;
    }
    Ok(())
}
