//! The limits: what the hardware and the kernel give when nothing at all stands above them.
//!
//! - `cache-line`: one slot of shared memory in each direction and two spinning processes;
//! - `eventfd-epoll`: the same slots, and for each hop an eventfd written, waited for with epoll
//!   and read;
//! - `memcpy`: one thread that writes the payload, copies it once and reads the copy.
//!
//! They bound a subject that does the same things in the same order. At 1 MiB, where one slot for
//! each direction competes for the caches, and for throughput without a copy, a subject may pass.

use std::hint::{black_box, spin_loop};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::{Errno, read, write};

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::session::Session;
use crate::sys::Mailbox;

/// The subject that every `ratio_to_limit` refers to.
pub(crate) const SUBJECT: &str = "limit";

/// The limits of `kind` at `size`.
pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    match kind {
        Kind::RoundTrip => vec![
            Case::round_trip(
                SUBJECT,
                size,
                "cache-line",
                Wait::Spin,
                spin_ask,
                spin_answer,
            ),
            Case::round_trip(
                SUBJECT,
                size,
                "eventfd-epoll",
                Wait::Park,
                park_ask,
                park_answer,
            ),
        ],
        Kind::Throughput => vec![
            Case::throughput(SUBJECT, size, "memcpy", Wait::Spin, copy, copy)
                .alone()
                .on_one_core(),
        ],
    }
}

/// The name of the limit that `case` is held against.
pub(crate) fn of(case: &Case) -> Option<String> {
    let how = match (case.kind, case.wait) {
        (Kind::RoundTrip, Wait::Spin) => "cache-line",
        (Kind::RoundTrip, Wait::Park) => "eventfd-epoll",
        (Kind::Throughput, _) => "memcpy",
    };
    let limits = cases(case.kind, case.size);
    limits.iter().find(|limit| limit.how == how).map(Case::name)
}

fn open_first(session: &mut Session) -> Result<Mailbox> {
    let memory = Mailbox::create(session.len())?;
    session.send_fds(&[memory.as_fd()])?;
    Mailbox::open(memory, session.len(), true)
}

fn open_second(session: &mut Session) -> Result<Mailbox> {
    let [memory] = session.recv_fds()?;
    Mailbox::open(memory, session.len(), false)
}

fn spin(mailbox: &Mailbox) {
    while !mailbox.is_full() {
        spin_loop();
    }
}

fn spin_ask(session: &mut Session) -> Result<Record> {
    let mut mailbox = open_first(session)?;
    session.barrier()?;
    let mut trips = session.trips();
    while let Some(stamp) = trips.begin() {
        mailbox.put(stamp);
        spin(&mailbox);
        trips.end(mailbox.take().ok_or("the slot is empty")?)?;
    }
    Ok(trips.finish())
}

fn spin_answer(session: &mut Session) -> Result<Record> {
    let mut mailbox = open_second(session)?;
    session.barrier()?;
    let mut echo = session.echo();
    loop {
        spin(&mailbox);
        let reply = echo.read(mailbox.take().ok_or("the slot is empty")?)?;
        mailbox.put(reply);
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

/// Two doorbells and an epoll instance that watches the own one.
#[derive(Debug)]
struct Bells {
    own: OwnedFd,
    peer: OwnedFd,
    epoll: OwnedFd,
}

impl Bells {
    fn new(own: OwnedFd, peer: OwnedFd) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &own,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?;
        Ok(Self { own, peer, epoll })
    }

    fn ring(&self) -> Result<()> {
        write(&self.peer, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let mut events = [MaybeUninit::uninit(); 1];
        loop {
            match epoll::wait(&self.epoll, &mut events, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        read(&self.own, &mut [0; 8])?;
        Ok(())
    }
}

fn park_ask(session: &mut Session) -> Result<Record> {
    let mut mailbox = open_first(session)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let (own, peer) = (eventfd(0, flags)?, eventfd(0, flags)?);
    session.send_fds(&[own.as_fd(), peer.as_fd()])?;
    let bells = Bells::new(own, peer)?;
    session.barrier()?;
    let mut trips = session.trips();
    while let Some(stamp) = trips.begin() {
        mailbox.put(stamp);
        bells.ring()?;
        bells.wait()?;
        trips.end(mailbox.take().ok_or("rung without a message")?)?;
    }
    Ok(trips.finish())
}

fn park_answer(session: &mut Session) -> Result<Record> {
    let mut mailbox = open_second(session)?;
    let [peer, own] = session.recv_fds()?;
    let bells = Bells::new(own, peer)?;
    session.barrier()?;
    let mut echo = session.echo();
    loop {
        bells.wait()?;
        let reply = echo.read(mailbox.take().ok_or("rung without a message")?)?;
        mailbox.put(reply);
        bells.ring()?;
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

fn copy(session: &mut Session) -> Result<Record> {
    let mut source = vec![0; session.len()];
    let mut target = vec![0; session.len()];
    let mut flow = session.flow();
    let mut meter = session.meter();
    while let Some(stamp) = flow.next() {
        stamp.fill(black_box(&mut source));
        target.copy_from_slice(black_box(&source));
        meter.read(black_box(&*target))?;
    }
    Ok(meter.finish())
}
