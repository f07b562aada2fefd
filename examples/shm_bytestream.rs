//! A channel as a stream of bytes, on which everything runs that runs on a `UnixStream`.
//!
//! The child serves lines, with tokio-util's `LinesCodec`. The parent is a proxy: it joins a client, which
//! could be a TCP connection, to the child with `copy_bidirectional`. Look at the types: neither the codec
//! nor the copy knows of Sinew.
//!
//! Run it with `cargo run --example shm_bytestream`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use futures::{SinkExt, StreamExt};
use sinew::shm::{self, Options};
use tokio::io::{DuplexStream, copy_bidirectional};
use tokio::process::Command;
use tokio_util::codec::{Framed, LinesCodec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(shm::INHERITED_FD).is_some() {
        return server().await;
    }
    let program = Command::new(std::env::current_exe()?);
    let (channel, mut child) = Options::new().spawn(program).await?;
    let mut server = channel.into_byte_stream();

    let (client_side, mut proxy_side) = tokio::io::duplex(4096);
    let client = tokio::spawn(client(client_side));
    let (there, back) = copy_bidirectional(&mut proxy_side, &mut server).await?;
    client.await??;
    println!("proxy: {there} bytes there, {back} bytes back");
    if !child.wait().await?.success() {
        return Err("the child failed".into());
    }
    Ok(())
}

async fn client(stream: DuplexStream) -> Result<(), tokio_util::codec::LinesCodecError> {
    let mut lines = Framed::new(stream, LinesCodec::new());
    for line in ["muscle", "bone", "sinew"] {
        lines.send(line).await?;
        if let Some(answer) = lines.next().await.transpose()? {
            println!("client: {line} -> {answer}");
        }
    }
    Ok(())
}

async fn server() -> Result<(), Box<dyn Error>> {
    let stream = shm::inherited().await?.into_byte_stream();
    let mut lines = Framed::new(stream, LinesCodec::new());
    while let Some(line) = lines.next().await.transpose()? {
        let answer: String = line.chars().rev().collect();
        lines.send(answer).await?;
    }
    Ok(())
}
