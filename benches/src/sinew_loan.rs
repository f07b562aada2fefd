//! Sinew's channel with its default options, between ends that trust each other: messages are
//! written in place in a loan, and read in place where they are borrowed. `loan-spin` never sleeps,
//! as iceoryx2's `poll` never does.

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::session::Session;
use crate::sinew::{open, rendezvous};
use crate::{runtime, sys};

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    if size == Size::SMALL {
        return Vec::new();
    }
    let make = |how| match kind {
        Kind::RoundTrip => Case::round_trip("sinew", size, how, Wait::Spin, ask, answer),
        Kind::Throughput => Case::throughput("sinew", size, how, Wait::Spin, collect, send),
    };
    vec![make("loan").on_one_core(), make("loan-spin")]
}

fn ask(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, true)?;
    let (len, mut trips) = (session.len(), session.trips());
    runtime::current_thread(async {
        let (mut sender, receiver) = open(session, socket, true).await?.split();
        let mut receiver = sys::trust(receiver);
        while let Some(stamp) = trips.begin() {
            let mut loan = sender.reserve(len).await?;
            stamp.fill(&mut loan);
            loan.commit(len).await?;
            let reply = receiver.recv().await?.ok_or("the peer has gone")?;
            trips.end(&reply[..])?;
        }
        Ok(trips.finish())
    })
}

fn answer(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, false)?;
    let (len, mut echo) = (session.len(), session.echo());
    runtime::current_thread(async {
        let (mut sender, receiver) = open(session, socket, false).await?.split();
        let mut receiver = sys::trust(receiver);
        loop {
            let request = receiver.recv().await?.ok_or("the peer has gone")?;
            let reply = echo.read(&request[..])?;
            drop(request);
            let mut loan = sender.reserve(len).await?;
            reply.fill(&mut loan);
            loan.commit(len).await?;
            if reply.is_last() {
                return Ok(echo.finish());
            }
        }
    })
}

fn collect(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, true)?;
    let mut meter = session.meter();
    runtime::current_thread(async {
        let (_sender, receiver) = open(session, socket, true).await?.split();
        let mut receiver = sys::trust(receiver);
        loop {
            let message = receiver.recv().await?.ok_or("the peer has gone")?;
            if meter.read(&message[..])? {
                return Ok(meter.finish());
            }
        }
    })
}

fn send(session: &mut Session) -> Result<Record> {
    let socket = rendezvous(session, false)?;
    let (len, mut flow) = (session.len(), session.flow());
    runtime::current_thread(async {
        let (mut sender, mut receiver) = open(session, socket, false).await?.split();
        while let Some(stamp) = flow.next() {
            let mut loan = sender.reserve(len).await?;
            stamp.fill(&mut loan);
            loan.commit(len).await?;
        }
        sender.close().await?;
        let record = flow.finish();
        // Until the receiver has read all of it and gone.
        let _gone = receiver.recv().await;
        Ok(record)
    })
}
