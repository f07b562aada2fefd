//! Opening by address: the mechanism is a matter of configuration.
//!
//! `jobs` and `worker` know nothing but an address and the common `Message`. Here it is a shared-memory
//! channel; another address makes it another mechanism, and both functions stay as they are.
//!
//! Look at what is absent: no type of the channel's appears below.
//!
//! Run it with `cargo run --example open_by_address`, or give it an address of your own:
//! `cargo run --example open_by_address -- 'shm:@jobs?wait=park'`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use futures::{SinkExt, StreamExt};
use sinew::{Address, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        // The second process.
        (Some(role), Some(address)) if role == "--jobs" => jobs(&address.parse()?).await,
        (address, _) => {
            let id = std::process::id();
            let address: Address = address
                .unwrap_or_else(|| format!("shm:@sinew-example-{id}?timeout=20s"))
                .parse()?;
            let mut second = Command::new(std::env::current_exe()?)
                .args(["--jobs", &address.to_string()])
                .spawn()?;
            worker(&address).await?;
            if !second.wait()?.success() {
                return Err("the second process failed".into());
            }
            Ok(())
        }
    }
}

async fn jobs(address: &Address) -> Result<(), Box<dyn Error>> {
    let mut sink = sinew::open_sender(address).await?;
    for job in ["sweep", "dust", "polish"] {
        sink.feed(Message::from(job)).await?;
    }
    // It tells the worker that this was all. A process that ends without it is one that died.
    sink.close().await?;
    Ok(())
}

async fn worker(address: &Address) -> Result<(), Box<dyn Error>> {
    println!("receiving at {address}");
    let mut stream = sinew::open_receiver(address).await?;
    let mut count = 0;
    while let Some(job) = stream.next().await.transpose()? {
        println!("job: {}", job.payload().escape_ascii());
        count += 1;
    }
    println!("that was all: {count} jobs");
    Ok(())
}
