//! Socket activation: a service that is started with its listener in hand.
//!
//! The first process does what systemd does for a `.socket` unit: it listens, and starts the service with
//! the socket as descriptor 3 and three variables that say so. A client can connect before the service
//! runs, and across its restarts. Look at the service: it neither knows nor touches the path.
//!
//! Run it with `cargo run --example unix_activation`. Under systemd, the service's half is all there is.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::os::unix::net::UnixListener;

use sinew::socket::unix::{inherited_listeners, stream};
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut inherited = inherited_listeners()?;
    match inherited.pop() {
        Some(socket) => {
            println!("service: started for {:?}", socket.name());
            serve(stream::Options::new().listen_on(socket)?).await
        }
        None => activate().await,
    }
}

async fn serve(mut listener: stream::Listener) -> Result<(), Box<dyn Error>> {
    let mut client = listener.accept().await?;
    while let Some(message) = client.recv().await? {
        client.send(message).await?;
    }
    Ok(())
}

async fn activate() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("sinew-activation-{}.sock", std::process::id()));
    let socket = UnixListener::bind(&path)?;
    // Before anybody serves.
    let mut client = stream::connect(&path).await?;
    client.send("hello").await?;

    // The shell, as it is the one that is sure to become the service with the number it has now.
    let mut service = Command::new("sh")
        .arg("-c")
        .arg("exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\"")
        .arg(std::env::current_exe()?)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "echo")
        .stdin(std::os::fd::OwnedFd::from(socket))
        .spawn()?;
    if let Some(answer) = client.recv().await? {
        println!("client: {:?} came back", answer.payload());
    }
    client.close().await?;
    let status = service.wait().await?;
    std::fs::remove_file(&path)?;
    if !status.success() {
        return Err("the service failed".into());
    }
    Ok(())
}
