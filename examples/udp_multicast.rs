//! One sender, any number of receivers: UDP multicast.
//!
//! Two processes join a group and say that they are there; a third sends each message once, and both get
//! it. Nothing leaves this machine: the group is on the loopback interface, and the hop limit is zero.
//!
//! Run it with `cargo run --example udp_multicast`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Stdio;

use sinew::socket::udp::{Interface, Options};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const GROUP: &str = "239.255.83.78";

fn options() -> Options {
    let lo = Interface::Address(std::net::Ipv4Addr::LOCALHOST);
    Options::new().interface(lo).ttl(0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(group) = std::env::args().nth(1) {
        return member(&group).await;
    }
    // A port that is free.
    let port = Options::new()
        .bind("127.0.0.1:0")
        .await?
        .local_addr()
        .port();
    let group = format!("{GROUP}:{port}");
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut command = Command::new(std::env::current_exe()?);
        let mut member = command.arg(&group).stdout(Stdio::piped()).spawn()?;
        let output = member.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(output).lines();
        // It has joined.
        println!("{}", lines.next_line().await?.ok_or("it ended")?);
        members.push((member, lines));
    }

    let mut sender = options().connect(&group).await?;
    for message in ["to", "all", "of you"] {
        sender.send(message).await?;
    }
    for (mut member, mut lines) in members {
        while let Some(line) = lines.next_line().await? {
            println!("{line}");
        }
        if !member.wait().await?.success() {
            return Err("a member failed".into());
        }
    }
    Ok(())
}

async fn member(group: &str) -> Result<(), Box<dyn Error>> {
    let mut socket = options().bind_multicast(group).await?;
    let id = std::process::id();
    println!("member {id}: joined {group}");
    loop {
        let message = socket.recv().await?;
        println!("member {id}: {:?}", message.payload());
        if message.payload() == "of you" {
            return Ok(());
        }
    }
}
