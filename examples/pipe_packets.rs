//! Packets: a pipe that keeps the boundaries of messages itself, also with several writers.
//!
//! Three processes write into one pipe, which is theirs as descriptor 3. Nothing frames the messages, and
//! none is mixed with another.
//!
//! Run it with `cargo run --example pipe_packets`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use sinew::pipe::{Options, Writer, pass_fd};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return write(&name).await;
    }
    let (mut receiver, theirs) = Options::new().packet_receiver()?;
    let mut children = Vec::new();
    for name in ["first", "second", "third"] {
        let mut command = Command::new(std::env::current_exe()?);
        pass_fd(command.arg(name), theirs.try_clone()?, 3)?;
        children.push(command.spawn()?);
    }
    // As long as this process could write, the receiver would not end.
    drop(theirs);
    while let Some(packet) = receiver.recv().await? {
        println!("{}", String::from_utf8_lossy(&packet));
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

async fn write(name: &str) -> Result<(), Box<dyn Error>> {
    let mut sender = Options::new().packet_sender_of(Writer::inherited(3)?)?;
    for number in 1..=3 {
        sender.send(format!("{name}: packet {number}")).await?;
    }
    sender.close().await?;
    Ok(())
}
