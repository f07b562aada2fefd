//! Many small messages: one by one, and in batches.
//!
//! A batch is published as a whole, so the receiver is looked after once instead of a thousand times, and
//! it takes what has come with one copy. Look at the two rates, which are measured in this run; build with
//! `--release` for figures that mean something.
//!
//! Run it with `cargo run --release --example shm_batch`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use sinew::shm::{self, Batch, Channel, Options};
use tokio::process::Command;

const MESSAGES: u64 = 1_000_000;
const AT_A_TIME: u64 = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return receiver().await;
    }
    let program = Command::new(std::env::current_exe()?);
    let (mut channel, mut child) = Options::new().spawn(program).await?;

    let begun = Instant::now();
    for number in 0..MESSAGES {
        channel.send(number.to_le_bytes()).await?;
    }
    report("one by one", begun, &mut channel).await?;

    let begun = Instant::now();
    for batch in 0..MESSAGES / AT_A_TIME {
        let numbers = (batch * AT_A_TIME..(batch + 1) * AT_A_TIME).map(u64::to_le_bytes);
        channel.sender().send_batch(numbers).await?;
    }
    report("in batches", begun, &mut channel).await?;

    channel.close().await?;
    if !child.wait().await?.success() {
        return Err("the child failed".into());
    }
    Ok(())
}

async fn report(how: &str, begun: Instant, channel: &mut Channel) -> Result<(), Box<dyn Error>> {
    // The child answers once it has received and checked them all.
    channel.recv().await?.ok_or("the child has closed")?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{how}: {:.1} million messages/s",
        MESSAGES as f64 / seconds / 1e6
    );
    Ok(())
}

async fn receiver() -> Result<(), Box<dyn Error>> {
    let mut channel = shm::inherited().await?;
    for number in 0..MESSAGES {
        let message = channel.recv().await?.ok_or("closed too early")?;
        if message != number.to_le_bytes()[..] {
            return Err(format!("message {number} is wrong").into());
        }
    }
    channel.send("all").await?;

    let mut batch = Batch::new();
    let (mut count, mut batches) = (0_u64, 0);
    while count < MESSAGES {
        if channel.receiver().recv_batch(&mut batch).await? == 0 {
            return Err("closed too early".into());
        }
        for message in &batch {
            if message != count.to_le_bytes() {
                return Err(format!("message {count} is wrong").into());
            }
            count += 1;
        }
        batches += 1;
    }
    println!("received {count} messages in {batches} batches");
    channel.send("all").await?;
    Ok(())
}
