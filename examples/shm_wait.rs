//! The ways of waiting, side by side.
//!
//! A wake-up costs microseconds, a look at memory a fraction of one. `Adaptive` looks for a while as long as
//! that pays, `Park` sleeps at once, `Spin` never sleeps. Look at the round trips, and at what `stats`
//! counted: how often the end slept, and how often looking paid off. It is different on a machine with a
//! single core, and build with `--release` for figures that mean something.
//!
//! Run it with `cargo run --release --example shm_wait`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use sinew::shm::{Options, Wait};
use tokio::process::Command;

const ROUND_TRIPS: usize = 5000;
const MODES: [(&str, Wait); 3] = [
    ("adaptive", Wait::Adaptive),
    ("park", Wait::Park),
    ("spin", Wait::Spin),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(mode) = std::env::args().nth(1) {
        return echo(&mode).await;
    }
    println!("mode      median     slowest    slept  looked: paid off / not");
    for (name, wait) in MODES {
        let mut program = Command::new(std::env::current_exe()?);
        program.arg(name);
        let (mut channel, mut child) = Options::new().wait(wait).spawn(program).await?;
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for number in 0..ROUND_TRIPS {
            let begun = Instant::now();
            channel.send(number.to_le_bytes()).await?;
            let answer = channel.recv().await?.ok_or("the child has closed")?;
            times.push(begun.elapsed());
            if answer != number.to_le_bytes()[..] {
                return Err("a message is wrong".into());
            }
        }
        times.sort_unstable();
        let last = times.last().copied().unwrap_or_default();
        let stats = channel.receiver().stats();
        println!(
            "{name:8} {:>8} {:>10} {:>8}  {} / {}",
            microseconds(times[ROUND_TRIPS / 2]),
            microseconds(last),
            stats.parks,
            stats.spins,
            stats.spin_misses,
        );
        channel.close().await?;
        if !child.wait().await?.success() {
            return Err("the child failed".into());
        }
    }
    Ok(())
}

fn microseconds(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

async fn echo(mode: &str) -> Result<(), Box<dyn Error>> {
    let found = MODES.iter().find(|(name, _)| *name == mode);
    let wait = found.map(|(_, wait)| *wait).ok_or("unknown mode")?;
    let mut channel = Options::new().wait(wait).inherited().await?;
    while let Some(message) = channel.recv().await? {
        channel.send(message).await?;
    }
    Ok(())
}
