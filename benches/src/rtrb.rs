//! rtrb between two threads of one process: what a ring gives when nobody has to be distrusted.
//!
//! 64 bytes are the ring's item and are moved in and out by value; `threads-chunk` publishes many
//! items at once and reads them in place. From 4 KiB on, where nobody would move the item, buffers
//! are handed over by pointer and come back by a second ring.

use std::hint::spin_loop;
use std::thread;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::Result;
use crate::case::{Case, Kind, Side, Size, Wait};
use crate::measure::Record;
use crate::session::Session;
use crate::throughput::Meter;

const SUBJECT: &str = "rtrb";
/// Items in a ring.
const RING: usize = 16 * 1024;
/// Items that `threads-chunk` publishes at once.
const CHUNK: usize = 64;
/// Bytes in the buffers between the threads, and the least number of them.
const BUFFERS: usize = 1 << 18;
const MIN_BUFFERS: usize = 4;

type Item = [u64; 8];

pub(crate) fn cases(kind: Kind, size: Size) -> Vec<Case> {
    let round_trip =
        |side: Side| Case::round_trip(SUBJECT, size, "threads", Wait::Spin, side, side).alone();
    let throughput =
        |how, side: Side| Case::throughput(SUBJECT, size, how, Wait::Spin, side, side).alone();
    match (kind, size) {
        (Kind::RoundTrip, Size::SMALL) => vec![round_trip(ping_items)],
        (Kind::RoundTrip, _) => vec![round_trip(ping_buffer)],
        (Kind::Throughput, Size::SMALL) => vec![
            throughput("threads", items),
            throughput("threads-chunk", chunks),
        ],
        (Kind::Throughput, _) => vec![throughput("threads", buffers)],
    }
}

/// Runs `second` on a thread of its own, on the second side's CPU, while `first` runs here.
fn both<T>(
    session: &Session,
    first: impl FnOnce() -> Result<T>,
    second: impl FnOnce() -> Result<()> + Send,
) -> Result<T> {
    let cpus = session.cpus();
    thread::scope(|scope| {
        let second = scope.spawn(move || {
            cpus.pin_second()?;
            second()
        });
        let first = first();
        second.join().map_err(|_| "the second thread panicked")??;
        first
    })
}

fn push<T>(ring: &mut Producer<T>, mut item: T) -> Result<()> {
    while let Err(rtrb::PushError::Full(back)) = ring.push(item) {
        if ring.is_abandoned() {
            return Err("the other thread has gone".into());
        }
        item = back;
        spin_loop();
    }
    Ok(())
}

fn pop<T>(ring: &mut Consumer<T>) -> Result<T> {
    loop {
        if let Ok(item) = ring.pop() {
            return Ok(item);
        }
        if ring.is_abandoned() && ring.is_empty() {
            return Err("the other thread has gone".into());
        }
        spin_loop();
    }
}

fn ping_items(session: &mut Session) -> Result<Record> {
    let (mut there, mut here) = RingBuffer::<Item>::new(RING);
    let (mut back, mut echoed) = RingBuffer::<Item>::new(RING);
    let (mut trips, mut echo) = (session.trips(), session.echo());
    let ask = move || {
        let mut item = Item::default();
        while let Some(stamp) = trips.begin() {
            stamp.fill_words(&mut item);
            push(&mut there, item)?;
            trips.end(pop(&mut echoed)?.as_slice())?;
        }
        Ok(trips.finish())
    };
    let answer = move || {
        let mut item = Item::default();
        loop {
            let reply = echo.read(pop(&mut here)?.as_slice())?;
            reply.fill_words(&mut item);
            push(&mut back, item)?;
            if reply.is_last() {
                return Ok(());
            }
        }
    };
    both(session, ask, answer)
}

/// One buffer goes there and comes back, written anew on either side.
fn ping_buffer(session: &mut Session) -> Result<Record> {
    let (mut there, mut here) = RingBuffer::<Box<[u64]>>::new(1);
    let (mut back, mut echoed) = RingBuffer::<Box<[u64]>>::new(1);
    let (mut trips, mut echo) = (session.trips(), session.echo());
    let mut buffer = vec![0; session.len() / 8].into_boxed_slice();
    let ask = move || {
        while let Some(stamp) = trips.begin() {
            stamp.fill_words(&mut buffer);
            push(&mut there, buffer)?;
            buffer = pop(&mut echoed)?;
            trips.end(&*buffer)?;
        }
        Ok(trips.finish())
    };
    let answer = move || {
        loop {
            let mut buffer = pop(&mut here)?;
            let reply = echo.read(&*buffer)?;
            reply.fill_words(&mut buffer);
            push(&mut back, buffer)?;
            if reply.is_last() {
                return Ok(());
            }
        }
    };
    both(session, ask, answer)
}

fn items(session: &mut Session) -> Result<Record> {
    let (mut there, mut here) = RingBuffer::<Item>::new(RING);
    let (mut flow, mut meter) = (session.flow(), session.meter());
    let send = move || {
        let mut item = Item::default();
        while let Some(stamp) = flow.next() {
            stamp.fill_words(&mut item);
            push(&mut there, item)?;
        }
        Ok(())
    };
    let receive = move || {
        while !meter.read(pop(&mut here)?.as_slice())? {}
        Ok(meter.finish())
    };
    both(session, receive, send)
}

fn chunks(session: &mut Session) -> Result<Record> {
    let (mut there, mut here) = RingBuffer::<Item>::new(RING);
    let (mut flow, mut meter) = (session.flow(), session.meter());
    let send = move || {
        let mut items = std::iter::from_fn(|| {
            let mut item = Item::default();
            flow.next()?.fill_words(&mut item);
            Some(item)
        });
        loop {
            if let Ok(chunk) = there.write_chunk_uninit(CHUNK) {
                if chunk.fill_from_iter(&mut items) < CHUNK {
                    return Ok(());
                }
            } else if there.is_abandoned() {
                return Err("the other thread has gone".into());
            } else {
                spin_loop();
            }
        }
    };
    let receive = move || {
        while !drain(&mut meter, &mut here)? {}
        Ok(meter.finish())
    };
    both(session, receive, send)
}

/// Reads in place all that has arrived, and returns whether the last message was among it.
fn drain(meter: &mut Meter, ring: &mut Consumer<Item>) -> Result<bool> {
    let count = ring.slots();
    if count == 0 {
        if ring.is_abandoned() && ring.is_empty() {
            return Err("the other thread has gone".into());
        }
        spin_loop();
        return Ok(false);
    }
    let chunk = ring.read_chunk(count)?;
    let (front, back) = chunk.as_slices();
    let mut last = false;
    for item in front.iter().chain(back) {
        last = meter.read(item.as_slice())?;
    }
    chunk.commit_all();
    Ok(last)
}

fn buffers(session: &mut Session) -> Result<Record> {
    let count = (BUFFERS / session.len()).max(MIN_BUFFERS);
    let (mut there, mut here) = RingBuffer::<Box<[u64]>>::new(count);
    let (mut back, mut empty) = RingBuffer::<Box<[u64]>>::new(count);
    for _ in 0..count {
        push(&mut back, vec![0; session.len() / 8].into_boxed_slice())?;
    }
    let (mut flow, mut meter) = (session.flow(), session.meter());
    let send = move || {
        while let Some(stamp) = flow.next() {
            let mut buffer = pop(&mut empty)?;
            stamp.fill_words(&mut buffer);
            push(&mut there, buffer)?;
        }
        Ok(())
    };
    let receive = move || {
        loop {
            let buffer = pop(&mut here)?;
            if meter.read(&*buffer)? {
                return Ok(meter.finish());
            }
            push(&mut back, buffer)?;
        }
    };
    both(session, receive, send)
}
