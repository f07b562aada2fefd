//! A channel in named memory, whose sender is killed and comes back.
//!
//! The two processes meet by a name. The child sends numbered messages, is killed somewhere in the middle, and
//! started again: `published()` tells it how many of its messages are in the channel, exactly, so that it goes on with the next.
//! The parent sees the crash as an error in the right place, and every message once.
//!
//! Run it with `cargo run --example named_channel`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use sinew::memory::PosixShm;
use sinew::shm::named::Options;
use tokio::process::Command;

const MESSAGES: u64 = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return child(&name).await;
    }
    let name = format!("/sinew-example-channel-{}", std::process::id());
    let place = PosixShm::new(&name).exclusive(true).unlink_on_drop(true);
    let mut receiver = Options::new()
        .capacity(64 << 10)
        .await_successor(true)
        .open_receiver(place)
        .await?;
    let start = || {
        let mut program = Command::new(std::env::current_exe()?);
        program.arg(&name).kill_on_drop(true).spawn()
    };

    let mut sender = start()?;
    let mut crashes = 0;
    while receiver.consumed() < MESSAGES {
        let number = receiver.consumed();
        match receiver.recv().await {
            Ok(Some(message)) if message == format!("message {number}") => {}
            Ok(other) => return Err(format!("{other:?} instead of message {number}").into()),
            Err(error) if error.is_peer_crashed() && error.is_recoverable() => {
                println!("after {number} messages: {error}");
                crashes += 1;
                sender = start()?;
            }
            Err(error) => return Err(error.into()),
        }
        if crashes == 0 && number == MESSAGES / 2 {
            sender.kill().await?;
        }
    }
    println!("received {MESSAGES} messages, each once, with {crashes} crash in between");
    if crashes != 1 || !sender.wait().await?.success() {
        return Err("it went otherwise than it should".into());
    }
    Ok(())
}

async fn child(name: &str) -> Result<(), Box<dyn Error>> {
    let mut sender = Options::new().open_sender(PosixShm::new(name)).await?;
    for number in sender.published()..MESSAGES {
        sender.send(format!("message {number}")).await?;
    }
    sender.close().await?;
    Ok(())
}
