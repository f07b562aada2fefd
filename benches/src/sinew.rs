//! Sinew's channel, both ends on current-thread runtimes.
//!
//! `adaptive`, `park` and `spin` are the wait modes. For round trips a message is sent and received by
//! itself; small ones are sent from a buffer, larger ones written in place in the ring. Throughput sends
//! small messages in batches and receives as many as are there; `-each` sends and receives them one by
//! one, and publishes each. All of these copy out of the ring. `zero-copy` sends every message in sealed
//! memory of its own, made for it, and reads it where the receiver mapped it.

use std::os::fd::OwnedFd;

use sinew_shm::{Batch, Channel, Options, Wait as Mode};

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::runtime;
use crate::session::Session;

const SUBJECT: &str = "sinew";
/// Messages that are staged before they are published.
const BATCH: usize = 64;
/// Bytes of a message that is sent from a buffer; a longer one is written in place.
const SMALL: usize = 64;

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    let make = |how, wait| match kind {
        Kind::RoundTrip => Case::round_trip(SUBJECT, size, how, wait, ask, answer),
        Kind::Throughput => Case::throughput(SUBJECT, size, how, wait, collect, send),
    };
    let mut cases = vec![
        make("adaptive", Wait::Spin).on_one_core(),
        make("park", Wait::Park),
        make("spin", Wait::Spin),
    ];
    if kind == Kind::Throughput && size == Size::SMALL {
        cases.push(make("adaptive-each", Wait::Spin).on_one_core());
    }
    if size == Size::LARGE {
        cases.push(make("zero-copy", Wait::Spin).on_one_core());
    }
    cases
}

fn options(session: &Session) -> Options {
    let options = Options::new().wait(match session.how() {
        "park" => Mode::Park,
        "spin" | "loan-spin" => Mode::Spin,
        _ => Mode::Adaptive,
    });
    match session.how() {
        "zero-copy" => return options.reused_memory(0),
        "loan" | "loan-spin" => return options,
        _ => {}
    }
    let len = session.len();
    if len > 64 << 10 {
        options.capacity(4 * len as u64).threshold(len)
    } else {
        options
    }
}

pub(crate) async fn open(session: &Session, socket: OwnedFd, first: bool) -> Result<Channel> {
    let options = options(session);
    Ok(if first {
        options.accept_on(socket).await?
    } else {
        options.connect_on(socket).await?
    })
}

pub(crate) fn rendezvous(session: &mut Session, first: bool) -> Result<OwnedFd> {
    use std::os::fd::AsFd;
    if !first {
        let [socket] = session.recv_fds()?;
        return Ok(socket);
    }
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    session.send_fds(&[theirs.as_fd()])?;
    Ok(ours)
}

/// Sends messages as suits their size.
struct Writer {
    sender: sinew_shm::Sender,
    buffer: Option<Vec<u8>>,
    len: usize,
}

impl Writer {
    fn new(sender: sinew_shm::Sender, len: usize) -> Self {
        let buffer = (len <= SMALL).then(|| vec![0; len]);
        Self {
            sender,
            buffer,
            len,
        }
    }

    #[inline]
    async fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if let Some(buffer) = &mut self.buffer {
            fill(buffer);
            self.sender.send(&*buffer).await?;
        } else {
            let mut loan = self.sender.reserve(self.len).await?;
            fill(&mut loan);
            loan.commit(self.len).await?;
        }
        Ok(())
    }
}

/// Receives messages by copying them into a buffer, or where they were mapped.
struct Reader {
    receiver: sinew_shm::Receiver,
    buffer: Vec<u8>,
    mapped: bytes::Bytes,
    zero_copy: bool,
}

impl Reader {
    fn new(receiver: sinew_shm::Receiver, session: &Session) -> Self {
        Self {
            receiver,
            buffer: Vec::with_capacity(session.len()),
            mapped: bytes::Bytes::new(),
            zero_copy: session.how() == "zero-copy",
        }
    }

    #[inline]
    async fn recv(&mut self) -> Result<&[u8]> {
        if self.zero_copy {
            self.mapped = self.receiver.recv().await?.ok_or("the peer has gone")?;
            return Ok(&self.mapped);
        }
        self.buffer.clear();
        self.receiver
            .recv_into(&mut self.buffer)
            .await?
            .ok_or("the peer has gone")?;
        Ok(&self.buffer)
    }
}

fn ask(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, true)?;
    let (len, mut trips) = (session.len(), session.trips());
    runtime::current_thread(async {
        let (mut sender, mut receiver) = open(session, socket, true).await?.split();
        if len == SMALL {
            let (mut request, mut reply) = ([0; SMALL], Vec::with_capacity(SMALL));
            while let Some(stamp) = trips.begin() {
                stamp.fill(&mut request);
                sender.send(&request).await?;
                reply.clear();
                receiver.recv_into(&mut reply).await?;
                trips.end(reply.as_slice())?;
            }
            return Ok(trips.finish());
        }
        let (mut writer, mut reader) = (Writer::new(sender, len), Reader::new(receiver, session));
        while let Some(stamp) = trips.begin() {
            writer.send(|payload| stamp.fill(payload)).await?;
            trips.end(reader.recv().await?)?;
        }
        Ok(trips.finish())
    })
}

fn answer(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, false)?;
    let (len, mut echo) = (session.len(), session.echo());
    runtime::current_thread(async {
        let (mut sender, mut receiver) = open(session, socket, false).await?.split();
        if len == SMALL {
            let (mut request, mut answer) = (Vec::with_capacity(SMALL), [0; SMALL]);
            loop {
                request.clear();
                receiver.recv_into(&mut request).await?;
                let reply = echo.read(request.as_slice())?;
                reply.fill(&mut answer);
                sender.send(&answer).await?;
                if reply.is_last() {
                    return Ok(echo.finish());
                }
            }
        }
        let (mut writer, mut reader) = (Writer::new(sender, len), Reader::new(receiver, session));
        loop {
            let reply = echo.read(reader.recv().await?)?;
            writer.send(|payload| reply.fill(payload)).await?;
            if reply.is_last() {
                return Ok(echo.finish());
            }
        }
    })
}

fn collect(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, true)?;
    let mut meter = session.meter();
    let batched = session.how() != "adaptive-each" && session.len() <= 4096;
    runtime::current_thread(async {
        let (_sender, receiver) = open(session, socket, true).await?.split();
        let mut reader = Reader::new(receiver, session);
        let mut batch = Batch::new();
        let mut last = false;
        while !last {
            if !batched {
                last = meter.read(reader.recv().await?)?;
                continue;
            }
            if reader.receiver.recv_batch(&mut batch).await? == 0 {
                return Err("the peer has gone".into());
            }
            for message in &batch {
                last = meter.read(message)?;
            }
        }
        Ok(meter.finish())
    })
}

fn send(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, false)?;
    let (len, mut flow) = (session.len(), session.flow());
    let batched = session.how() != "adaptive-each" && len == Size::SMALL.bytes();
    runtime::current_thread(async {
        let (sender, mut receiver) = open(session, socket, false).await?.split();
        let mut writer = Writer::new(sender, len);
        if batched {
            let mut block = [[0u8; SMALL]; BATCH];
            let mut count = BATCH;
            while count == BATCH {
                count = 0;
                for (payload, stamp) in block.iter_mut().zip(std::iter::from_fn(|| flow.next())) {
                    stamp.fill(payload);
                    count += 1;
                }
                writer.sender.send_batch(&block[..count]).await?;
            }
        } else {
            while let Some(stamp) = flow.next() {
                writer.send(|payload| stamp.fill(payload)).await?;
            }
        }
        writer.sender.close().await?;
        let record = flow.finish();
        // Until the receiver has read all of it and gone.
        let _gone = receiver.recv().await;
        Ok(record)
    })
}
