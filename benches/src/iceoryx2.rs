//! iceoryx2's publish-subscribe with loaned samples, written and read in place.
//!
//! `poll` receives in a busy loop, as iceoryx2's own benchmark does. `event` sends an event of its
//! Event service after each sample and waits for one where there is no sample, as its
//! documentation recommends for processes that must not spin. For round trips the next sample is
//! loaned ahead of time, and services have the settings of iceoryx2's benchmark. For throughput
//! nothing may be lost: safe overflow is off, and a publisher whose subscriber's buffer is full
//! retries, yielding.

use std::hint::spin_loop;
use std::path::Path;
use std::{fs, io};

use ::iceoryx2::port::listener::Listener;
use ::iceoryx2::port::notifier::Notifier;
use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::port::update_connections::UpdateConnections;
use ::iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, LogLevel, Node, NodeBuilder, Path as Iceoryx2Path,
    SemanticString, ServiceName, SignalHandlingMode, ipc, set_log_level,
};
use ::iceoryx2::sample::Sample;
use ::iceoryx2::sample_mut_uninit::SampleMutUninit;

use crate::Result;
use crate::case::{Case, Kind, Size, Wait};
use crate::measure::Record;
use crate::payload::Stamp;
use crate::session::Session;

const SUBJECT: &str = "iceoryx2";
const POLL: &str = "poll";
const EVENT: &str = "event";
/// Where POSIX shared memory lives.
const SHARED_MEMORY: &str = "/dev/shm";
/// Samples in a subscriber's buffer for throughput. More of them were not faster.
const DEPTH: usize = 64;
const LARGE_DEPTH: usize = 4;

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    let make = |how, wait| match kind {
        Kind::RoundTrip => Case::round_trip(SUBJECT, size, how, wait, ask, answer),
        Kind::Throughput => Case::throughput(SUBJECT, size, how, wait, collect, send),
    };
    vec![make(POLL, Wait::Spin), make(EVENT, Wait::Park)]
}

/// Removes what a killed process of the run in `scratch` left in shared memory.
pub(crate) fn sweep(scratch: &Path) -> io::Result<()> {
    let prefix = prefix(scratch);
    for entry in fs::read_dir(SHARED_MEMORY)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What the names of a run's shared memory begin with.
fn prefix(scratch: &Path) -> String {
    let name = scratch.file_name().unwrap_or_default();
    format!("{}_", name.to_string_lossy())
}

type Loan = SampleMutUninit<ipc::Service, [std::mem::MaybeUninit<u64>], ()>;

/// A publisher for one direction and a subscriber for the other.
struct Link {
    publisher: Publisher<ipc::Service, [u64], ()>,
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    events: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    words: usize,
    // Dropped last: the ports belong to it.
    _node: Node<ipc::Service>,
}

impl Link {
    /// The link of the first side, which publishes to `there`, or of the second.
    fn new(session: &mut Session, kind: Kind, is_first: bool) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let dir = session.dir();
        let scratch = dir.parent().ok_or("a round's directory has a parent")?;
        let round = dir.file_name().unwrap_or_default().to_string_lossy();
        let mut config = Config::default();
        config.global.prefix = FileName::new(prefix(scratch).as_bytes())?;
        config
            .global
            .set_root_path(&Iceoryx2Path::new(dir.as_os_str().as_encoded_bytes())?);
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;

        let there = ServiceName::new(&format!("{round}/there"))?;
        let back = ServiceName::new(&format!("{round}/back"))?;
        let (out, home) = if is_first {
            (there, back)
        } else {
            (back, there)
        };
        let depth = match kind {
            Kind::RoundTrip => 1,
            Kind::Throughput if session.len() < Size::LARGE.bytes() => DEPTH,
            Kind::Throughput => LARGE_DEPTH,
        };
        let service = |name| {
            node.service_builder(name)
                .publish_subscribe::<[u64]>()
                .max_publishers(1)
                .max_subscribers(1)
                .history_size(0)
                .subscriber_max_buffer_size(depth)
                .enable_safe_overflow(kind == Kind::RoundTrip)
                .open_or_create()
        };
        let event = |name| node.service_builder(name).event().open_or_create();
        // One side at a time, so that none of them finds a service half made.
        if !is_first {
            session.barrier()?;
        }
        let words = session.len() / 8;
        let publisher = service(&out)?
            .publisher_builder()
            .initial_max_slice_len(words)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(&home)?.subscriber_builder().create()?;
        let events = if session.how() == EVENT {
            Some((
                event(&out)?.notifier_builder().create()?,
                event(&home)?.listener_builder().create()?,
            ))
        } else {
            None
        };
        if is_first {
            session.barrier()?;
        }
        session.barrier()?;
        // A publisher whose buffer is full drops samples while its subscriber has not yet taken
        // notice of the connection, so both do that first.
        publisher.update_connections()?;
        session.barrier()?;
        subscriber.update_connections()?;
        session.barrier()?;
        Ok(Self {
            publisher,
            subscriber,
            events,
            words,
            _node: node,
        })
    }

    fn loan(&self) -> Result<Loan> {
        Ok(self.publisher.loan_slice_uninit(self.words)?)
    }

    fn send(&self, loan: Loan, stamp: Stamp) -> Result<()> {
        let count = loan.write_from_fn(|index| stamp.at(index)).send()?;
        if count != 1 {
            return Err(format!("a sample reached {count} subscribers").into());
        }
        if let Some((notifier, _)) = &self.events {
            notifier.notify()?;
        }
        Ok(())
    }

    fn recv(&self) -> Result<Sample<ipc::Service, [u64], ()>> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                return Ok(sample);
            }
            match &self.events {
                Some((_, listener)) => {
                    listener.blocking_wait(|_| {})?;
                }
                None => spin_loop(),
            }
        }
    }
}

fn ask(session: &mut Session) -> Result<Record> {
    let link = Link::new(session, Kind::RoundTrip, true)?;
    let mut trips = session.trips();
    let mut loan = link.loan()?;
    while let Some(stamp) = trips.begin() {
        link.send(loan, stamp)?;
        loan = link.loan()?;
        trips.end(link.recv()?.payload())?;
    }
    let record = trips.finish();
    session.barrier()?;
    Ok(record)
}

fn answer(session: &mut Session) -> Result<Record> {
    let link = Link::new(session, Kind::RoundTrip, false)?;
    let mut echo = session.echo();
    loop {
        let loan = link.loan()?;
        let reply = echo.read(link.recv()?.payload())?;
        link.send(loan, reply)?;
        if reply.is_last() {
            break;
        }
    }
    let record = echo.finish();
    // What a subscriber has not received goes away with its publisher.
    session.barrier()?;
    Ok(record)
}

fn collect(session: &mut Session) -> Result<Record> {
    let link = Link::new(session, Kind::Throughput, true)?;
    let mut meter = session.meter();
    while !meter.read(link.recv()?.payload())? {}
    let record = meter.finish();
    session.barrier()?;
    Ok(record)
}

fn send(session: &mut Session) -> Result<Record> {
    let link = Link::new(session, Kind::Throughput, false)?;
    let mut flow = session.flow();
    while let Some(stamp) = flow.next() {
        link.send(link.loan()?, stamp)?;
    }
    let record = flow.finish();
    session.barrier()?;
    Ok(record)
}
