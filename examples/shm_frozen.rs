//! What it costs to pass immutable memory on: the same for 64 KiB as for 64 MiB.
//!
//! Each memory is written and frozen once, then sent many times. The receiver maps it, looks at its first
//! and last byte, and answers. Look at the two columns: writing grows with the size, passing on does not.
//!
//! Run it with `cargo run --release --example shm_frozen`; it starts a second process.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use sinew::shm::{self, Draft, Options};
use tokio::process::Command;

const ROUNDS: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return child().await;
    }
    let program = Command::new(std::env::current_exe()?);
    let (mut channel, mut child) = Options::new().spawn(program).await?;

    println!(
        "{:>12}  {:>12}  {:>24}",
        "size", "written in", "passed on and answered"
    );
    for size in [64 << 10, 1 << 20, 16 << 20, 64 << 20] {
        let begun = Instant::now();
        let mut draft = Draft::new(size)?;
        draft.fill(1);
        let memory = draft.freeze(size)?;
        let written = begun.elapsed();

        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            channel.sender().send_frozen(&memory).await?;
            let answer = channel.recv().await?.ok_or("the child has closed")?;
            times.push(begun.elapsed());
            if *answer != [1, 1] {
                return Err(format!("the child saw {answer:?}").into());
            }
        }
        println!(
            "{:>8} KiB  {written:>12.1?}  {:>24.1?}",
            size >> 10,
            median(&mut times)
        );
    }

    channel.close().await?;
    if !child.wait().await?.success() {
        return Err("the child failed".into());
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn child() -> Result<(), Box<dyn Error>> {
    let mut channel = shm::inherited().await?;
    while let Some(message) = channel.recv().await? {
        let (first, last) = (message.first(), message.last());
        let answer = [first, last].map(|byte| byte.copied().unwrap_or_default());
        channel.send(answer).await?;
    }
    Ok(())
}
