//! The same through Sinew, one message sent and received at a time.

use std::time::Duration;

use bytes::Bytes;
use sinew_mqueue::{posix, sysv};
use sinew_pipe::{Framing, fifo};
use sinew_socket::{tcp, udp, unix};

use super::meeting::{self, Ends};
use crate::Result;
use crate::measure::Record;
use crate::runtime;
use crate::session::Session;

/// It looks before it waits, as it does by default, or waits at once.
pub(super) const SUBJECTS: [&str; 2] = ["sinew", PARK];
const PARK: &str = "sinew-park";

/// The two halves of a side.
trait Carry {
    async fn send(&mut self, payload: &[u8]) -> Result<()>;
    async fn recv(&mut self) -> Result<Bytes>;
}

struct Halves<S, R>(S, R);

macro_rules! carry {
    ($sender:ty, $receiver:ty, |$s:ident, $payload:ident| $send:expr, |$r:ident| $recv:expr) => {
        impl Carry for Halves<$sender, $receiver> {
            async fn send(&mut self, $payload: &[u8]) -> Result<()> {
                let $s = &mut self.0;
                Ok($send.await?)
            }

            async fn recv(&mut self) -> Result<Bytes> {
                let $r = &mut self.1;
                $recv
            }
        }
    };
}

const GONE: &str = "the peer has gone";

carry!(
    sinew_pipe::Sender,
    sinew_pipe::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?)
);
carry!(
    sinew_pipe::PacketSender,
    sinew_pipe::PacketReceiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?)
);
carry!(
    posix::Sender,
    posix::Receiver,
    |sender, payload| sender.send_slice(payload, 0),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?.into_payload())
);
carry!(
    Typed,
    sysv::Receiver,
    |sender, payload| sender.0.send_slice(payload, sender.1),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?.into_payload())
);
carry!(
    unix::stream::Sender,
    unix::stream::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?.into_payload())
);
carry!(
    unix::seqpacket::Sender,
    unix::seqpacket::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?.into_payload())
);
carry!(
    unix::datagram::Sender,
    unix::datagram::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.into_payload())
);
carry!(
    tcp::Sender,
    tcp::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.ok_or(GONE)?)
);
carry!(
    udp::Sender,
    udp::Receiver,
    |sender, payload| sender.send(payload),
    |receiver| Ok(receiver.recv().await?.into_payload())
);

/// Opens the case's mechanism, and does something with it.
macro_rules! with_halves {
    ($session:expr, $first:expr, $work:path) => {{
        let (session, first) = ($session, $first);
        if session.subject() == PARK {
            // For the rest of this process, which is this case's alone.
            sinew_core::AdaptiveSpin::set_process_limit(Duration::ZERO);
        }
        runtime::current_thread(async move {
            match session.how() {
                "mq" => {
                    let (sender, receiver) = open_posix(session, first)?;
                    session.barrier()?;
                    $work(session, Halves(sender, receiver)).await
                }
                "sysvmq" => {
                    let (sender, receiver) = open_sysv(session, first)?;
                    session.barrier()?;
                    $work(session, Halves(sender, receiver)).await
                }
                "fifo" => {
                    let [read, write] = meeting::fifos(session, first)?;
                    let options = fifo::Options::new().framing(Framing::Length);
                    let (receiver, sender) =
                        tokio::try_join!(options.receiver(read), options.sender(write))?;
                    session.barrier()?;
                    $work(session, Halves(sender, receiver)).await
                }
                "pipe" | "pipe-packet" => {
                    let Ends { read, write } = meeting::ends(session, first)?;
                    let reader = sinew_pipe::Reader::from_fd(read)?;
                    let writer = sinew_pipe::Writer::from_fd(write)?;
                    let packets = session.how() == "pipe-packet";
                    let options = sinew_pipe::Options::new().framing(Framing::Length);
                    session.barrier()?;
                    if packets {
                        let sender = options.packet_sender_of(writer)?;
                        let receiver = options.packet_receiver_of(reader)?;
                        $work(session, Halves(sender, receiver)).await
                    } else {
                        let halves = Halves(options.sender_of(writer), options.receiver_of(reader));
                        $work(session, halves).await
                    }
                }
                how => {
                    let how = how.to_owned();
                    let socket = meeting::ends(session, first)?.write;
                    session.barrier()?;
                    match how.as_str() {
                        "unix" => {
                            let connection = unix::stream::Options::new().connection_on(socket)?;
                            let (sender, receiver) = connection.split();
                            $work(session, Halves(sender, receiver)).await
                        }
                        "unix-seqpacket" => {
                            let options = unix::seqpacket::Options::new();
                            let (sender, receiver) = options.connection_on(socket)?.split();
                            $work(session, Halves(sender, receiver)).await
                        }
                        "unix-dgram" => {
                            let options = unix::datagram::Options::new();
                            let (sender, receiver) = options.socket_on(socket)?.split();
                            $work(session, Halves(sender, receiver)).await
                        }
                        "tcp" => {
                            let connection = tcp::Options::new().connection_on(socket)?;
                            let (sender, receiver) = connection.split();
                            $work(session, Halves(sender, receiver)).await
                        }
                        _ => {
                            let (sender, receiver) = udp::Options::new().socket_on(socket)?.split();
                            $work(session, Halves(sender, receiver)).await
                        }
                    }
                }
            }
        })
    }};
}

fn open_posix(session: &mut Session, first: bool) -> Result<(posix::Sender, posix::Receiver)> {
    let number = meeting::number(session, first)?;
    let name = |what: &str| format!("/sinew-bench-{what}-{number}");
    let (mine, other) = if first {
        ("back", "there")
    } else {
        ("there", "back")
    };
    let options = posix::Options::new()
        .create(first)
        .exclusive(first)
        .unlink_on_drop(first);
    if !first {
        session.barrier()?;
    }
    let receiver = options.open_receiver(name(mine))?;
    let sender = options.open_sender(name(other))?;
    if first {
        session.barrier()?;
    }
    Ok((sender, receiver))
}

/// The sender with the type of what it sends.
type Typed = (sysv::Sender, i64);

fn open_sysv(session: &mut Session, first: bool) -> Result<(Typed, sysv::Receiver)> {
    let (read, write) = if first { (1, 2) } else { (2, 1) };
    let options = sysv::Options::new()
        .select(sysv::Select::Equal(read))
        .remove_on_drop(first);
    let queue = if first {
        let queue = options.create(true).open(sysv::Target::Private)?;
        session.send_text(&queue.id().to_string())?;
        queue
    } else {
        options.open(sysv::Target::Id(session.recv_text()?.parse()?))?
    };
    let (sender, receiver) = queue.split();
    Ok(((sender, write), receiver))
}

pub(super) fn ask(session: &mut Session) -> Result<Record> {
    with_halves!(session, true, ask_with)
}

pub(super) fn answer(session: &mut Session) -> Result<Record> {
    with_halves!(session, false, answer_with)
}

pub(super) fn collect(session: &mut Session) -> Result<Record> {
    with_halves!(session, true, collect_with)
}

pub(super) fn send(session: &mut Session) -> Result<Record> {
    with_halves!(session, false, send_with)
}

async fn ask_with(session: &mut Session, mut halves: impl Carry) -> Result<Record> {
    let mut trips = session.trips();
    let mut payload = vec![0; session.len()];
    while let Some(stamp) = trips.begin() {
        stamp.fill(&mut payload);
        halves.send(&payload).await?;
        trips.end(&*halves.recv().await?)?;
    }
    Ok(trips.finish())
}

async fn answer_with(session: &mut Session, mut halves: impl Carry) -> Result<Record> {
    let mut echo = session.echo();
    let mut payload = vec![0; session.len()];
    loop {
        let reply = echo.read(&*halves.recv().await?)?;
        reply.fill(&mut payload);
        halves.send(&payload).await?;
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

async fn collect_with(session: &mut Session, mut halves: impl Carry) -> Result<Record> {
    let mut meter = session.meter();
    let mut payload = vec![0; session.len()];
    let (window, mut count) = (super::window(session), 0);
    loop {
        let last = meter.read(&*halves.recv().await?)?;
        count += 1;
        if count % window == 0 {
            super::arrived(count).fill(&mut payload);
            halves.send(&payload).await?;
        }
        if last {
            break;
        }
    }
    session.barrier()?;
    Ok(meter.finish())
}

async fn send_with(session: &mut Session, mut halves: impl Carry) -> Result<Record> {
    let mut flow = session.flow();
    let mut payload = vec![0; session.len()];
    let (window, mut count) = (super::window(session), 0);
    while let Some(stamp) = flow.next() {
        stamp.fill(&mut payload);
        halves.send(&payload).await?;
        count += 1;
        if count % window == 0 {
            halves.recv().await?;
        }
    }
    let record = flow.finish();
    session.barrier()?;
    Ok(record)
}
