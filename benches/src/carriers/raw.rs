//! The loop of raw system calls.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::meeting::{self, Ends};
use crate::Result;
use crate::measure::Record;
use crate::payload::Stamp;
use crate::session::Session;
use crate::sys::{PosixQueue, SysvMessage, SysvQueue};

/// Bytes that are read from a stream at once.
const BLOCK: usize = 64 << 10;
/// Bytes of the length before a message on a stream, as Sinew's own: other readers could not tell where it
/// ends.
const HEADER: usize = 4;

/// What the calls are made on.
enum Carrier {
    /// Read and written in any portions.
    Stream(Ends),
    /// Read and written by the packet.
    Packets(Ends),
    /// Likewise, with recv and send.
    Datagrams(Ends),
    Posix {
        read: PosixQueue,
        write: PosixQueue,
    },
    Sysv {
        queue: SysvQueue,
        read: i64,
        write: i64,
        inbox: Box<SysvMessage>,
        outbox: Box<SysvMessage>,
    },
}

struct Raw {
    carrier: Carrier,
    readable: OwnedFd,
    writable: OwnedFd,
    len: usize,
    buffer: Vec<u8>,
    /// What was read and not yet taken.
    start: usize,
    end: usize,
    /// Bytes before the payload.
    header: usize,
    message: Vec<u8>,
}

impl Raw {
    fn open(session: &mut Session, first: bool) -> Result<Self> {
        let len = session.len();
        let carrier = match session.how() {
            "fifo" => Carrier::Stream(fifo(session, first)?),
            "pipe" | "unix" | "tcp" => Carrier::Stream(meeting::ends(session, first)?),
            "pipe-packet" => Carrier::Packets(meeting::ends(session, first)?),
            "mq" => posix(session, first)?,
            "sysvmq" => sysv(session, first)?,
            _ => Carrier::Datagrams(meeting::ends(session, first)?),
        };
        let poll = |flags| -> Result<OwnedFd> {
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let add = |fd: &dyn AsFd| {
                epoll::add(
                    &set,
                    fd.as_fd(),
                    epoll::EventData::new_u64(0),
                    flags | epoll::EventFlags::ET,
                )
            };
            let reads = flags == epoll::EventFlags::IN;
            match &carrier {
                Carrier::Stream(ends) | Carrier::Packets(ends) | Carrier::Datagrams(ends) => {
                    add(if reads { &ends.read } else { &ends.write })?;
                }
                Carrier::Posix { read, write } => add(if reads { read } else { write })?,
                Carrier::Sysv { .. } => {}
            }
            Ok(set)
        };
        let (header, mut message) = match carrier {
            Carrier::Stream(_) => (HEADER, u32::try_from(len)?.to_be_bytes().to_vec()),
            _ => (0, Vec::new()),
        };
        message.resize(header + len, 0);
        Ok(Self {
            readable: poll(epoll::EventFlags::IN)?,
            writable: poll(epoll::EventFlags::OUT)?,
            carrier,
            len,
            buffer: vec![0; BLOCK],
            start: 0,
            end: 0,
            header,
            message,
        })
    }

    fn send(&mut self, stamp: Stamp) -> Result<()> {
        if let Carrier::Sysv {
            queue,
            write,
            outbox,
            ..
        } = &mut self.carrier
        {
            stamp.fill(outbox.payload(self.len)?);
            return sysv_call(|| queue.send(*write, outbox, self.len));
        }
        stamp.fill(self.message.get_mut(self.header..).unwrap_or_default());
        let mut rest = self.message.as_slice();
        loop {
            let sent = match &self.carrier {
                Carrier::Stream(ends) | Carrier::Packets(ends) => {
                    rustix::io::write(&ends.write, rest)
                }
                Carrier::Datagrams(ends) => {
                    rustix::net::send(&ends.write, rest, SendFlags::NOSIGNAL)
                }
                Carrier::Posix { write, .. } => write.send(rest).map(|()| rest.len()),
                // It was sent above.
                Carrier::Sysv { .. } => return Ok(()),
            };
            match sent {
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    if rest.is_empty() {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => wait(&self.writable)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn recv_sysv(&mut self) -> Result<&[u8]> {
        let Carrier::Sysv {
            queue, read, inbox, ..
        } = &mut self.carrier
        else {
            return Err("no queue".into());
        };
        let count = sysv_call(|| queue.receive(*read, inbox))?;
        Ok(inbox.payload(count)?)
    }

    fn recv(&mut self) -> Result<&[u8]> {
        if matches!(self.carrier, Carrier::Sysv { .. }) {
            return self.recv_sysv();
        }
        let streams = matches!(self.carrier, Carrier::Stream(_));
        let frame = loop {
            let frame = self.header + self.payload_len()?;
            if self.end - self.start >= frame {
                break frame;
            }
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.buffer.len() - self.start < frame {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let Some(room) = self.buffer.get_mut(self.end..) else {
                return Err("the buffer is too short".into());
            };
            let received = match &self.carrier {
                Carrier::Stream(ends) | Carrier::Packets(ends) => {
                    rustix::io::read(&ends.read, &mut *room)
                }
                Carrier::Datagrams(ends) => {
                    rustix::net::recv(&ends.read, &mut *room, RecvFlags::empty())
                        .map(|(count, _)| count)
                }
                Carrier::Posix { read, .. } => read.receive(room),
                // It was received above.
                Carrier::Sysv { .. } => return Err("no descriptor".into()),
            };
            match received {
                Ok(0) => return Err("the peer has gone".into()),
                Ok(count) if streams || count == self.len => self.end += count,
                Ok(count) => return Err(format!("a message of {count} bytes").into()),
                Err(Errno::AGAIN) => wait(&self.readable)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let payload = self.start + self.header..self.start + frame;
        self.start = payload.end;
        self.buffer
            .get(payload)
            .ok_or_else(|| "the buffer is too short".into())
    }

    /// Of the next message, as far as it is known.
    fn payload_len(&self) -> Result<usize> {
        if self.header == 0 {
            return Ok(self.len);
        }
        match self.buffer.get(self.start..self.end) {
            Some([a, b, c, d, ..]) => Ok(usize::try_from(u32::from_be_bytes([*a, *b, *c, *d]))?),
            _ => Ok(0),
        }
    }
}

fn wait(set: &OwnedFd) -> Result<()> {
    let mut events = [MaybeUninit::uninit(); 1];
    loop {
        match epoll::wait(set, &mut events, None) {
            Err(Errno::INTR) => {}
            waited => return Ok(waited.map(drop)?),
        }
    }
}

/// These calls block.
fn sysv_call<T>(call: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
    Ok(rustix::io::retry_on_intr(call)?)
}

fn fifo(session: &mut Session, first: bool) -> Result<Ends> {
    let [read, write] = meeting::fifos(session, first)?;
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let read = rustix::fs::open(read, flags | OFlags::RDONLY, Mode::empty())?;
    session.barrier()?;
    let write = rustix::fs::open(write, flags | OFlags::WRONLY, Mode::empty())?;
    session.barrier()?;
    Ok(Ends { read, write })
}

fn posix(session: &mut Session, first: bool) -> Result<Carrier> {
    let number = meeting::number(session, first)?;
    let name = |what: &str| format!("/sinew-bench-{what}-{number}");
    let open = |what: &str| PosixQueue::open(&name(what), first);
    let (mine, other) = if first {
        ("back", "there")
    } else {
        ("there", "back")
    };
    if !first {
        session.barrier()?;
    }
    let carrier = Carrier::Posix {
        read: open(mine)?,
        write: open(other)?,
    };
    if first {
        session.barrier()?;
    }
    session.barrier()?;
    if first {
        for what in ["there", "back"] {
            PosixQueue::unlink(&name(what))?;
        }
    }
    Ok(carrier)
}

fn sysv(session: &mut Session, first: bool) -> Result<Carrier> {
    let queue = if first {
        let queue = SysvQueue::create()?;
        session.send_text(&queue.id().to_string())?;
        queue
    } else {
        SysvQueue::attach(session.recv_text()?.parse()?)
    };
    let (read, write) = if first { (1, 2) } else { (2, 1) };
    Ok(Carrier::Sysv {
        queue,
        read,
        write,
        inbox: SysvMessage::new(),
        outbox: SysvMessage::new(),
    })
}

pub(super) fn ask(session: &mut Session) -> Result<Record> {
    let mut raw = Raw::open(session, true)?;
    session.barrier()?;
    let mut trips = session.trips();
    while let Some(stamp) = trips.begin() {
        raw.send(stamp)?;
        trips.end(raw.recv()?)?;
    }
    Ok(trips.finish())
}

pub(super) fn answer(session: &mut Session) -> Result<Record> {
    let mut raw = Raw::open(session, false)?;
    session.barrier()?;
    let mut echo = session.echo();
    loop {
        let reply = echo.read(raw.recv()?)?;
        raw.send(reply)?;
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

pub(super) fn collect(session: &mut Session) -> Result<Record> {
    let mut raw = Raw::open(session, true)?;
    session.barrier()?;
    let mut meter = session.meter();
    let (window, mut count) = (super::window(session), 0);
    loop {
        let last = meter.read(raw.recv()?)?;
        count += 1;
        if count % window == 0 {
            raw.send(super::arrived(count))?;
        }
        if last {
            break;
        }
    }
    session.barrier()?;
    Ok(meter.finish())
}

pub(super) fn send(session: &mut Session) -> Result<Record> {
    let mut raw = Raw::open(session, false)?;
    session.barrier()?;
    let mut flow = session.flow();
    let (window, mut count) = (super::window(session), 0);
    while let Some(stamp) = flow.next() {
        raw.send(stamp)?;
        count += 1;
        if count % window == 0 {
            raw.recv()?;
        }
    }
    let record = flow.finish();
    session.barrier()?;
    Ok(record)
}
