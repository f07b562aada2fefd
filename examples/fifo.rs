//! A FIFO as a mailbox for shell scripts: whoever writes a line into it sends a message.
//!
//! The receiver waits for the first writer without blocking the runtime, and for the next whenever the last
//! one has left.
//!
//! Run it with `cargo run --example fifo`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use sinew::pipe::fifo::{Eof, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("sinew-example-{}", std::process::id()));
    // Only we may write; the mode is exact, whatever the umask. It is removed with the receiver.
    let options = Options::new().create(true).mode(0o600).unlink(true);
    sinew::pipe::fifo::create(&path, 0o600)?;
    let shell = |script: &str| {
        Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&path)
            .spawn()
    };

    let mut first = shell("echo 'one from the first' > \"$1\"")?;
    let mut jobs = options.eof(Eof::Reopen).receiver(&path).await?;
    println!("somebody has opened it");
    let mut received = 0;
    let mut second = None;
    while let Some(line) = jobs.recv().await? {
        println!("received {:?}", String::from_utf8_lossy(&line));
        received += 1;
        if received == 1 {
            first.wait()?;
            second = Some(shell("printf 'two from\\nthe second\\n' > \"$1\"")?);
        }
        if received == 3 {
            break;
        }
    }
    if let Some(mut second) = second {
        second.wait()?;
    }
    drop(jobs);
    println!("it is removed: {}", !path.exists());
    Ok(())
}
