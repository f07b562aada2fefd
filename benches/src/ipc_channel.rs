//! ipc-channel's bytes channel, which carries slices without serialization.
//!
//! A message is received as a `Vec` that the channel allocates; its interface has no other way.

use ::ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::session::Session;

const SUBJECT: &str = "ipc-channel";

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    vec![match kind {
        Kind::RoundTrip => Case::round_trip(SUBJECT, size, "bytes", Wait::Park, ask, answer),
        Kind::Throughput => Case::throughput(SUBJECT, size, "bytes", Wait::Park, collect, send),
    }]
}

type Halves = (IpcBytesSender, IpcBytesReceiver);

fn accept(session: &mut Session) -> Result<Halves> {
    let (server, name) = IpcOneShotServer::<Halves>::new()?;
    session.send_text(&name)?;
    let (_, halves) = server.accept()?;
    session.barrier()?;
    Ok(halves)
}

fn connect(session: &mut Session) -> Result<Halves> {
    let (to_first, at_first) = ipc::bytes_channel()?;
    let (to_second, at_second) = ipc::bytes_channel()?;
    let server = IpcSender::<Halves>::connect(session.recv_text()?)?;
    server.send((to_second, at_first))?;
    session.barrier()?;
    Ok((to_first, at_second))
}

fn ask(session: &mut Session) -> Result<Record> {
    let (to, from) = accept(session)?;
    let mut buffer = vec![0; session.len()];
    let mut trips = session.trips();
    while let Some(stamp) = trips.begin() {
        stamp.fill(&mut buffer);
        to.send(&buffer)?;
        trips.end(from.recv()?.as_slice())?;
    }
    Ok(trips.finish())
}

fn answer(session: &mut Session) -> Result<Record> {
    let (to, from) = connect(session)?;
    let mut buffer = vec![0; session.len()];
    let mut echo = session.echo();
    loop {
        let reply = echo.read(from.recv()?.as_slice())?;
        reply.fill(&mut buffer);
        to.send(&buffer)?;
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

fn collect(session: &mut Session) -> Result<Record> {
    let (_to, from) = accept(session)?;
    let mut meter = session.meter();
    while !meter.read(from.recv()?.as_slice())? {}
    Ok(meter.finish())
}

fn send(session: &mut Session) -> Result<Record> {
    let (to, _from) = connect(session)?;
    let mut buffer = vec![0; session.len()];
    let mut flow = session.flow();
    while let Some(stamp) = flow.next() {
        stamp.fill(&mut buffer);
        to.send(&buffer)?;
    }
    Ok(flow.finish())
}
