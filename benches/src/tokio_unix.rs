//! Tokio's `UnixStream`.
//!
//! `-batched` gathers small messages and writes many at once; the others hand every message to the kernel as
//! it is sent.

use std::future::Future;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::session::Session;
use crate::{framed, runtime};

const SUBJECT: &str = "tokio-unix";
const MULTI: &str = "multi-thread";
const BATCHED: &str = "current-thread-batched";
/// Asked for; the kernel gives what its `wmem_max` allows.
const SEND_BUFFER: usize = 1 << 20;

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    let make = |how| match kind {
        Kind::RoundTrip => Case::round_trip(SUBJECT, size, how, Wait::Park, ask, answer),
        Kind::Throughput => Case::throughput(SUBJECT, size, how, Wait::Park, collect, send),
    };
    let mut cases = vec![make("current-thread"), make(MULTI).unpinned()];
    if kind == Kind::Throughput && size != Size::LARGE {
        cases.push(make(BATCHED));
    }
    cases
}

fn run<F>(how: &str, future: F) -> Result<Record>
where
    F: Future<Output = Result<Record>> + Send + 'static,
{
    if how == MULTI {
        runtime::multi_thread(future)
    } else {
        runtime::current_thread(future)
    }
}

fn listen(session: &mut Session) -> Result<UnixStream> {
    let listener = UnixListener::bind(session.path("socket"))?;
    session.barrier()?;
    let (stream, _) = listener.accept()?;
    Ok(stream)
}

fn connect(session: &mut Session) -> Result<UnixStream> {
    session.barrier()?;
    Ok(UnixStream::connect(session.path("socket"))?)
}

/// Hands a connected socket to the runtime that this runs on.
fn split(stream: UnixStream) -> Result<(OwnedReadHalf, OwnedWriteHalf)> {
    set_socket_send_buffer_size(&stream, SEND_BUFFER)?;
    stream.set_nonblocking(true)?;
    Ok(tokio::net::UnixStream::from_std(stream)?.into_split())
}

fn ask(session: &mut Session) -> Result<Record> {
    let (stream, trips, len) = (listen(session)?, session.trips(), session.len());
    run(session.how(), async move {
        let (from, to) = split(stream)?;
        framed::ask(trips, from, to, len).await
    })
}

fn answer(session: &mut Session) -> Result<Record> {
    let (stream, echo, len) = (connect(session)?, session.echo(), session.len());
    run(session.how(), async move {
        let (from, to) = split(stream)?;
        framed::answer(echo, from, to, len).await
    })
}

fn collect(session: &mut Session) -> Result<Record> {
    let (stream, meter, len) = (listen(session)?, session.meter(), session.len());
    let batched = session.how() == BATCHED;
    run(session.how(), async move {
        let (from, _to) = split(stream)?;
        framed::collect(meter, from, len, batched).await
    })
}

fn send(session: &mut Session) -> Result<Record> {
    let (stream, flow, len) = (connect(session)?, session.flow(), session.len());
    let batched = session.how() == BATCHED;
    run(session.how(), async move {
        let (_from, to) = split(stream)?;
        framed::send(flow, to, len, batched).await
    })
}
