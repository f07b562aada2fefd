//! Many peers at one address: a collector of lines.
//!
//! Three processes send to it. The collector says whose each line is, and goes on when one of them
//! leaves; one does so without a `close`, which is told from an end.
//!
//! Look at what is absent: the collector knows no mechanism. Another address makes it another one.
//!
//! Run it with `cargo run --example listen`, or give it an address of your own:
//! `cargo run --example listen -- tcp:127.0.0.1:9000`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use futures::{SinkExt, StreamExt};
use sinew::{Address, Connection, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        // One of the other processes.
        (Some(role), Some(name), Some(address)) if role == "--client" => {
            client(&name, &address.parse()?).await
        }
        (address, ..) => {
            let id = std::process::id();
            let address = address.unwrap_or_else(|| format!("unix:@sinew-example-{id}"));
            collect(&address.parse()?).await
        }
    }
}

async fn client(name: &str, address: &Address) -> Result<(), Box<dyn Error>> {
    let mut sink = sinew::open_sender(address).await?;
    for line in 1..=2 {
        let line = format!("line {line} of {name}");
        sink.send(Message::from(line)).await?;
    }
    match name {
        // As by `?`, or a panic: the collector is told of a crash.
        "carol" => drop(sink),
        // It returns once the collector has read everything.
        _ => sink.close().await?,
    }
    Ok(())
}

async fn collect(address: &Address) -> Result<(), Box<dyn Error>> {
    let mut listener = sinew::listen(address).await?;
    let mut clients = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--client", name, &listener.address().to_string()]);
        clients.push(command.spawn()?);
    }
    let mut serving = Vec::new();
    for _ in &clients {
        serving.push(tokio::spawn(serve(listener.accept().await?)));
    }
    let mut lines = 0;
    for connection in serving {
        lines += connection.await?;
    }
    println!("that was all: {lines} lines");
    for mut client in clients {
        if !client.wait()?.success() {
            return Err("a client failed".into());
        }
    }
    Ok(())
}

/// Prints what a peer sends, and returns how many lines it was.
async fn serve(connection: Connection) -> usize {
    let peer = connection.peer();
    let mut stream = connection.into_receiver();
    let mut lines = 0;
    while let Some(received) = stream.next().await {
        match received {
            Ok(line) => {
                println!("{peer}: {}", line.payload().escape_ascii());
                lines += 1;
            }
            Err(error) => println!("{peer}: {error}"),
        }
    }
    lines
}
