//! A server that many clients talk to at once, over TCP, and which each of them half-closes.
//!
//! A listener is a `Stream` of connections, a connection a `Stream` and a `Sink` of messages: the server is
//! one `forward` for each. Look at the client: it closes its sender, and still gets the last answer.
//!
//! Run it with `cargo run --example tcp_echo`; it starts three clients.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use futures::StreamExt;
use sinew::socket::tcp::{Keepalive, Listener, Options};
use tokio::process::Command;

const CLIENTS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(address) = std::env::args().nth(1) {
        return client(&address).await;
    }
    // A client whose host is gone is noticed after half a minute.
    let keepalive = Keepalive::after(Duration::from_secs(15)).probes(Duration::from_secs(5), 3);
    let listener: Listener = Options::new()
        .keepalive(keepalive)
        .bind("127.0.0.1:0")
        .await?;
    println!("server: listening at {}", listener.local_addr());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut command = Command::new(std::env::current_exe()?);
        clients.push(command.arg(listener.local_addr().to_string()).spawn()?);
    }

    let server = listener
        .take(CLIENTS)
        .for_each_concurrent(None, |client| async {
            let served = async {
                let (sender, receiver) = client?.split();
                receiver.forward(sender).await
            };
            if let Err(error) = served.await {
                println!("server: {error}");
            }
        });
    server.await;
    for mut client in clients {
        if !client.wait().await?.success() {
            return Err("a client failed".into());
        }
    }
    Ok(())
}

async fn client(address: &str) -> Result<(), Box<dyn Error>> {
    let mut connection = Options::new().nodelay(true).connect(address).await?;
    for number in 0..3 {
        connection.send(format!("message {number}")).await?;
    }
    connection.close().await?;
    let mut count = 0;
    while let Some(answer) = connection.recv().await? {
        assert_eq!(answer, format!("message {count}"));
        count += 1;
    }
    println!("client at {}: {count} answers", connection.local_addr());
    Ok(())
}
