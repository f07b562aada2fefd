//! A POSIX message queue as a queue of jobs: the most urgent first.
//!
//! The queue is the kernel's: here the first process puts its jobs there and only then starts the second,
//! which finds them. Look at the order in which they come out. Since a queue never ends by itself, the two have
//! agreed that the job of the lowest priority is the last.
//!
//! Run it with `cargo run --example mq_jobs`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use sinew::mqueue::posix::{Message, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return worker(&name).await;
    }
    let name = format!("/sinew-example-jobs-{}", std::process::id());
    let options = Options::new()
        .exclusive(true)
        .max_messages(8)
        .message_size(64);
    let mut jobs = options.unlink_on_drop(true).open_sender(&name)?;
    for (job, priority) in [
        ("that was all", 0),
        ("sweep", 1),
        ("dust", 1),
        ("fire!", 9),
        ("polish", 1),
    ] {
        jobs.send(Message::from(job).with_priority(priority))
            .await?;
        println!("jobs: {job:?} with priority {priority}");
    }
    println!(
        "jobs: {} messages wait in {name}",
        jobs.attributes()?.messages
    );

    let program = std::env::current_exe()?;
    if !Command::new(program).arg(&name).status()?.success() {
        return Err("the worker failed".into());
    }
    Ok(())
}

async fn worker(name: &str) -> Result<(), Box<dyn Error>> {
    let mut jobs = Options::new().open_receiver(name)?;
    while let Some(job) = jobs.recv().await? {
        println!("worker: {}", job.payload().escape_ascii());
        if job.priority() == Some(0) {
            break;
        }
    }
    Ok(())
}
