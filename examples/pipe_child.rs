//! A program as a stream: lines go to its standard input, and come back from its standard output.
//!
//! Both ends are used at once, since a program that nobody reads from stops reading. At the end its exit
//! status counts: a program that failed is an error and not the end.
//!
//! Run it with `cargo run --example pipe_child`.
#![allow(clippy::print_stdout)]

use std::process::Command;

use futures::{SinkExt, TryStreamExt};
use sinew::Error;
use sinew::pipe::Options;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (mut sender, receiver) = Options::new().spawn(Command::new("sort").arg("-u"))?;
    println!("started `sort -u` as process {}", sender.id());
    let words = ["tendon", "sinew", "muscle", "sinew", "bone"];
    let sending = async {
        for word in words {
            sender.feed(word.into()).await?;
        }
        sender.close().await
    };
    let ((), sorted) = tokio::try_join!(sending, receiver.try_collect::<Vec<_>>())?;
    for word in sorted {
        println!("{}", String::from_utf8_lossy(&word));
    }

    let mut failing = Options::new().spawn_receiver(Command::new("sh").args(["-c", "exit 3"]))?;
    match failing.recv().await {
        Err(error) if error.is_peer_crashed() => println!("{error}"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
