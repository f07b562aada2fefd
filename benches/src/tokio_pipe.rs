//! Anonymous pipes through Tokio, one for each direction, each as large as an ordinary user may
//! make it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::session::Session;
use crate::{framed, runtime};

const SUBJECT: &str = "tokio-pipe";
const BATCHED: &str = "current-thread-batched";
/// The default of `fs.pipe-max-size`.
const PIPE_SIZE: usize = 1 << 20;

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    let make = |how| match kind {
        Kind::RoundTrip => Case::round_trip(SUBJECT, size, how, Wait::Park, ask, answer),
        Kind::Throughput => Case::throughput(SUBJECT, size, how, Wait::Park, collect, send),
    };
    let mut cases = vec![make("current-thread")];
    if kind == Kind::Throughput && size != Size::LARGE {
        cases.push(make(BATCHED));
    }
    cases
}

/// The two ends of this side: what it reads and what it writes.
fn create(session: &mut Session) -> Result<[OwnedFd; 2]> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (read_here, write_there) = pipe_with(flags)?;
    let (read_there, write_here) = pipe_with(flags)?;
    for end in [&write_here, &write_there] {
        fcntl_setpipe_size(end, PIPE_SIZE)?;
    }
    session.send_fds(&[read_there.as_fd(), write_there.as_fd()])?;
    session.barrier()?;
    Ok([read_here, write_here])
}

fn obtain(session: &mut Session) -> Result<[OwnedFd; 2]> {
    let ends = session.recv_fds()?;
    session.barrier()?;
    Ok(ends)
}

fn ask(session: &mut Session) -> Result<Record> {
    let ([from, to], trips, len) = (create(session)?, session.trips(), session.len());
    runtime::current_thread(async move {
        let (from, to) = (Receiver::from_owned_fd(from)?, Sender::from_owned_fd(to)?);
        framed::ask(trips, from, to, len).await
    })
}

fn answer(session: &mut Session) -> Result<Record> {
    let ([from, to], echo, len) = (obtain(session)?, session.echo(), session.len());
    runtime::current_thread(async move {
        let (from, to) = (Receiver::from_owned_fd(from)?, Sender::from_owned_fd(to)?);
        framed::answer(echo, from, to, len).await
    })
}

fn collect(session: &mut Session) -> Result<Record> {
    let ([from, _to], meter, len) = (create(session)?, session.meter(), session.len());
    let batched = session.how() == BATCHED;
    runtime::current_thread(async move {
        framed::collect(meter, Receiver::from_owned_fd(from)?, len, batched).await
    })
}

fn send(session: &mut Session) -> Result<Record> {
    let ([_from, to], flow, len) = (obtain(session)?, session.flow(), session.len());
    let batched = session.how() == BATCHED;
    runtime::current_thread(async move {
        framed::send(flow, Sender::from_owned_fd(to)?, len, batched).await
    })
}
