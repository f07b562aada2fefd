//! A SysV message queue as a service: one queue for requests and for everybody's answers.
//!
//! The type of a message says whom it is for. Requests have type 1; each client receives what has its own
//! process id as type. Look at the server's end: it is told by the queue's removal, with which every stream on
//! it ends.
//!
//! Run it with `cargo run --example sysvmq_types`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;

use sinew::mqueue::sysv::{Message, Options, Select, Target};

const REQUEST: i64 = 1;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(id) = std::env::args().nth(1) {
        return client(id.parse()?).await;
    }
    let options = Options::new()
        .select(Select::Equal(REQUEST))
        .remove_on_drop(true);
    let mut server = options.open(Target::Private)?;
    let id = server.id();
    println!("server: queue {id}");

    let program = std::env::current_exe()?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Command::new(&program).arg(id.to_string()).spawn()?);
    }
    // For removing the queue while the server uses it.
    let queue = Options::new().open(Target::Id(id))?;
    let watch = tokio::task::spawn_blocking(move || {
        let done = clients
            .iter_mut()
            .try_fold(true, |all, client| Ok(client.wait()?.success() && all));
        (queue.remove(), done)
    });

    while let Some(request) = server.recv().await? {
        // Eight bytes of who asks, then the text.
        let (client, text) = request
            .payload()
            .split_first_chunk()
            .ok_or("a request is too short")?;
        let answer = text.to_ascii_uppercase();
        server
            .send(Message::from(answer).with_kind(i64::from_ne_bytes(*client)))
            .await?;
    }
    println!("server: the queue is removed");
    let (removed, done): (_, Result<bool, std::io::Error>) = watch.await?;
    removed?;
    match done? {
        true => Ok(()),
        false => Err("a client failed".into()),
    }
}

async fn client(id: i32) -> Result<(), Box<dyn Error>> {
    let me = i64::from(std::process::id());
    // No process has the id 1 but init, so that no answer looks like a request.
    let options = Options::new().select(Select::Equal(me)).kind(REQUEST);
    let mut queue = options.open(Target::Id(id))?;
    for text in ["sweep", "dust", "polish"] {
        let request = [&me.to_ne_bytes(), text.as_bytes()].concat();
        queue.send(request).await?;
        let answer = queue.recv().await?.ok_or("the queue was removed")?;
        println!("client {me}: {text} -> {}", answer.payload().escape_ascii());
    }
    Ok(())
}
