//! Sockets: Unix, TCP and UDP.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use futures::SinkExt;
use sinew::socket::unix::{Message, datagram, seqpacket, stream};
use sinew::socket::{tcp, udp};
use tokio::process::Child;

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

const BATCH: u64 = 64;

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "unix",
        shows: "64 B messages, framed on a Unix stream, and a descriptor",
        first: |stage| Box::pin(unix(stage)),
        second: |path| {
            Box::pin(async move {
                let mut peer = stream::connect(path).await?;
                check_passed(&peer.recv().await?.ok_or(EARLY)?)?;
                serve(peer).await
            })
        },
    },
    Stage {
        name: "unix-seqpacket",
        shows: "64 B packets, and a descriptor",
        first: |stage| Box::pin(packets(stage)),
        second: |path| {
            Box::pin(async move {
                let mut peer = seqpacket::connect(path).await?;
                check_passed(&peer.recv().await?.ok_or(EARLY)?)?;
                serve(peer).await
            })
        },
    },
    Stage {
        name: "unix-dgram",
        shows: "64 B datagrams between two paths",
        first: |stage| Box::pin(datagrams(stage)),
        second: |path| {
            Box::pin(async move {
                let options = datagram::Options::new().local(format!("{path}.second"));
                let mut socket = options.connect(path).await?;
                socket.send("hello").await?;
                serve(socket).await
            })
        },
    },
    Stage {
        name: "tcp",
        shows: "64 B messages, framed, over the loopback interface",
        first: |stage| Box::pin(tcp(stage)),
        second: |address| {
            Box::pin(async move { serve(tcp_options().connect(address).await?).await })
        },
    },
    Stage {
        name: "udp",
        shows: "64 B datagrams, 64 under way, over the loopback interface",
        first: |stage| Box::pin(udp(stage)),
        second: |address| {
            Box::pin(async move {
                let mut socket = udp::Socket::connect(address).await?;
                socket.send("hello").await?;
                serve(socket).await
            })
        },
    },
];

const EARLY: &str = "it closed too early";

/// What every socket here can do.
trait End {
    /// Whether each batch has to be answered, as nothing else keeps a sender from sending too much.
    const ANSWERS: bool = false;

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error>;

    async fn recv(&mut self) -> Result<Bytes, Error>;

    async fn send_batch(&mut self, batch: impl Iterator<Item = [u8; SMALL]>) -> Result<(), Error> {
        for bytes in batch {
            self.send(&bytes).await?;
        }
        Ok(())
    }
}

impl End for stream::Connection {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.sender().send(bytes).await?)
    }

    async fn recv(&mut self) -> Result<Bytes, Error> {
        let message = self.receiver().recv().await?;
        Ok(message.ok_or(EARLY)?.into_payload())
    }

    async fn send_batch(&mut self, batch: impl Iterator<Item = [u8; SMALL]>) -> Result<(), Error> {
        for bytes in batch {
            self.feed(Message::new(bytes.to_vec())).await?;
        }
        Ok(self.flush().await?)
    }
}

impl End for seqpacket::Connection {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.sender().send(bytes).await?)
    }

    async fn recv(&mut self) -> Result<Bytes, Error> {
        let message = self.receiver().recv().await?;
        Ok(message.ok_or(EARLY)?.into_payload())
    }
}

impl End for datagram::Socket {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.sender().send(bytes).await?)
    }

    async fn recv(&mut self) -> Result<Bytes, Error> {
        Ok(self.receiver().recv().await?.into_payload())
    }
}

impl End for tcp::Connection {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.sender().send(bytes).await?)
    }

    async fn recv(&mut self) -> Result<Bytes, Error> {
        Ok(self.receiver().recv().await?.ok_or(EARLY)?)
    }

    async fn send_batch(&mut self, batch: impl Iterator<Item = [u8; SMALL]>) -> Result<(), Error> {
        for bytes in batch {
            self.feed(Bytes::copy_from_slice(&bytes)).await?;
        }
        Ok(self.flush().await?)
    }
}

impl End for udp::Socket {
    const ANSWERS: bool = true;

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.sender().send(bytes).await?)
    }

    async fn recv(&mut self) -> Result<Bytes, Error> {
        Ok(self.receiver().recv().await?.into_payload())
    }
}

/// Round trips until an empty message, then one way until the next.
async fn exchange<E: End>(mut end: E, child: Child) -> Result<Shown, Error> {
    let mut shown = Shown::default();
    let mut number = 0;
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        end.send(&payload::small(number)).await?;
        let answer = end.recv().await?;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut answer.to_vec(), SMALL, number)?;
        number += 1;
    }
    end.send(b"").await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        let batch = (count..count + BATCH).map(payload::small);
        end.send_batch(batch).await?;
        count += BATCH;
        if E::ANSWERS {
            payload::number(&end.recv().await?)?;
        }
    }
    end.send(b"").await?;
    let counted = end.recv().await?;
    shown.one_way(count, begun.elapsed());
    if payload::number(&counted)? != count {
        return Err("not everything that was sent was received".into());
    }
    second::end(child).await?;
    Ok(shown)
}

/// The second process's side.
async fn serve<E: End>(mut end: E) -> Result<(), Error> {
    for number in 0.. {
        let message = end.recv().await?;
        if message.is_empty() {
            break;
        }
        payload::check(&message, SMALL, number)?;
        let mut answer = message.to_vec();
        payload::answer(&mut answer);
        end.send(&answer).await?;
    }
    let mut count = 0_u64;
    loop {
        let message = end.recv().await?;
        if message.is_empty() {
            break;
        }
        payload::check(&message, SMALL, count)?;
        count += 1;
        if E::ANSWERS && count.is_multiple_of(BATCH) {
            end.send(&count.to_le_bytes()).await?;
        }
    }
    end.send(&count.to_le_bytes()).await
}

fn path(stage: &Stage) -> PathBuf {
    let name = format!("sinew-tour-{}-{}.sock", stage.name, std::process::id());
    std::env::temp_dir().join(name)
}

/// This program's own file, to be passed.
fn passed() -> Result<Message, Error> {
    let file = std::fs::File::open(std::env::current_exe()?)?;
    Ok(Message::new("a file").with_fds([file.into()]))
}

fn check_passed(message: &Message) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let [fd] = message.fds() else {
        return Err("one descriptor should have come".into());
    };
    let came = std::fs::File::from(fd.try_clone()?).metadata()?;
    let known = std::fs::metadata(std::env::current_exe()?)?;
    match (came.dev(), came.ino()) == (known.dev(), known.ino()) {
        true => Ok(()),
        false => Err("another file came".into()),
    }
}

async fn unix(stage: &'static Stage) -> Result<Shown, Error> {
    let path = path(stage);
    let options = stream::Options::new().mode(0o600);
    let mut listener = options.bind(&path).await?;
    let mut child = second::command(stage, &path)?.spawn()?;
    let mut peer = second::with(&mut child, listener.accept()).await?;
    peer.send(passed()?).await?;
    exchange(peer, child).await
}

async fn packets(stage: &'static Stage) -> Result<Shown, Error> {
    let path = path(stage);
    let options = seqpacket::Options::new().mode(0o600);
    let mut listener = options.bind(&path).await?;
    let mut child = second::command(stage, &path)?.spawn()?;
    let mut peer = second::with(&mut child, listener.accept()).await?;
    peer.send(passed()?).await?;
    exchange(peer, child).await
}

async fn datagrams(stage: &'static Stage) -> Result<Shown, Error> {
    let path = path(stage);
    let options = datagram::Options::new().mode(0o600);
    let mut socket = options.bind(&path).await?;
    let mut child = second::command(stage, &path)?.spawn()?;
    let hello = second::with(&mut child, socket.recv()).await?;
    socket.set_peer(hello.address().ok_or("it has no address")?)?;
    exchange(socket, child).await
}

fn tcp_options() -> tcp::Options {
    tcp::Options::new().nodelay(true)
}

async fn tcp(stage: &'static Stage) -> Result<Shown, Error> {
    let mut listener = tcp_options().bind("127.0.0.1:0").await?;
    let mut child = second::command(stage, listener.local_addr().to_string())?.spawn()?;
    let peer = second::with(&mut child, listener.accept()).await?;
    exchange(peer, child).await
}

async fn udp(stage: &'static Stage) -> Result<Shown, Error> {
    let mut socket = udp::Socket::bind("127.0.0.1:0").await?;
    let mut child = second::command(stage, socket.local_addr().to_string())?.spawn()?;
    let hello = second::with(&mut child, socket.recv()).await?;
    socket.set_peer(hello.address().ok_or("it has no address")?)?;
    exchange(socket, child).await
}
