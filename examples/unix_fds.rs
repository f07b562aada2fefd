//! Passing a file descriptor to another process, which needs no permission of its own to read the file.
//!
//! The second process gets an open file over a Unix socket, as an attribute of a message, and reads from
//! it. Look at what it is not told: no path ever crosses.
//!
//! Run it with `cargo run --example unix_fds`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, Write};

use sinew::socket::unix::{Message, seqpacket};
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return second(&path).await;
    }
    let path = std::env::temp_dir().join(format!("sinew-fds-{}.sock", std::process::id()));
    let mut listener = seqpacket::Options::new().mode(0o600).bind(&path).await?;
    let mut child = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    let mut peer = listener.accept().await?;

    let mut secret = File::create_new(path.with_extension("txt"))?;
    secret.write_all(b"what only the first process may open")?;
    std::fs::remove_file(path.with_extension("txt"))?;
    let message = Message::new("read this").with_fds([secret.into()]);
    peer.send(message).await?;

    if let Some(answer) = peer.recv().await? {
        println!("first: it read {:?}", answer.payload());
    }
    if !child.wait().await?.success() {
        return Err("the second process failed".into());
    }
    Ok(())
}

async fn second(path: &str) -> Result<(), Box<dyn Error>> {
    let mut peer = seqpacket::connect(path).await?;
    let mut message = peer.recv().await?.ok_or("closed")?;
    println!(
        "second: {:?}, with {} descriptor, from process {}",
        message.payload(),
        message.fds().len(),
        peer.peer().pid,
    );
    let mut file = File::from(message.take_fds().pop().ok_or("no file came")?);
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    peer.send(text).await?;
    Ok(())
}
