//! Messages that are written in place, and large ones that nobody copies.
//!
//! `reserve` lends space where the message will lie: in the ring, or, above the threshold, in memory of
//! its own that the receiver maps. `commit` says how much of it is the message. Memory that is frozen can
//! be sent to several peers, at the same price whatever its size: look at how long `send_frozen` takes.
//!
//! Run it with `cargo run --release --example shm_loan`; it starts two more processes.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use sinew::shm::{self, Channel, Draft, Options};
use tokio::process::Command;

const LARGE: usize = 16 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return child().await;
    }
    let program = || std::env::current_exe().map(Command::new);
    let (mut one, mut first) = Options::new().spawn(program()?).await?;
    let (mut two, mut second) = Options::new().spawn(program()?).await?;

    // In the ring: more is reserved than is needed.
    let mut loan = one.sender().reserve(100).await?;
    let mut space = &mut loan[..];
    write!(space, "written in place")?;
    let written = 100 - space.len();
    loan.commit(written).await?;
    println!(
        "a loan of 100 bytes, {written} of them sent: {}",
        answer(&mut one).await?
    );

    // Above the threshold, in memory of its own.
    let mut loan = one.sender().reserve(LARGE).await?;
    loan.fill(1);
    loan.commit(LARGE).await?;
    println!("a loan of 16 MiB: {}", answer(&mut one).await?);

    // The same memory to both.
    let mut draft = Draft::new(LARGE)?;
    draft.fill(2);
    let memory = draft.freeze(LARGE)?;
    for channel in [&mut one, &mut two] {
        let begun = Instant::now();
        channel.sender().send_frozen(&memory).await?;
        let took = begun.elapsed();
        let pid = channel.peer().pid;
        println!(
            "16 MiB sent to process {pid} in {took:?}: {}",
            answer(channel).await?
        );
    }

    one.close().await?;
    two.close().await?;
    for child in [&mut first, &mut second] {
        if !child.wait().await?.success() {
            return Err("a child failed".into());
        }
    }
    Ok(())
}

async fn answer(channel: &mut Channel) -> Result<String, Box<dyn Error>> {
    let answer = channel.recv().await?.ok_or("the child has closed")?;
    Ok(String::from_utf8(answer.to_vec())?)
}

/// Looks at every byte, and says what it saw.
async fn child() -> Result<(), Box<dyn Error>> {
    let mut channel = shm::inherited().await?;
    while let Some(message) = channel.recv().await? {
        let sum: u64 = message.iter().copied().map(u64::from).sum();
        let answer = format!("{} bytes, whose sum is {sum}", message.len());
        channel.send(answer).await?;
    }
    let memories = channel.receiver().stats().memories;
    println!(
        "process {}: {memories} of the messages were mapped",
        std::process::id()
    );
    Ok(())
}
