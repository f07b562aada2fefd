//! Length-prefixed messages over Tokio's byte streams, with buffers that are used again.
//!
//! Prefix and payload lie in one buffer and go out in one write. Reads go through a buffer, so that
//! small messages share a read; what is larger is read in place. The sizes of the buffers were
//! tried: a page is best for messages sent one by one, 64 KiB for batches.

use tokio::io::{
    AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};

use crate::Result;
use crate::measure::Record;
use crate::payload::Stamp;
use crate::round_trip::{Echo, Trips};
use crate::throughput::{Flow, Meter};

const PREFIX: usize = 4;
const BUFFER: usize = 4096;
const BATCH: usize = 64 * 1024;

/// A message to be sent, behind its length.
struct Frame(Vec<u8>);

impl Frame {
    fn new(len: usize) -> Result<Self> {
        let mut frame = vec![0; PREFIX + len];
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = u32::try_from(len)?.to_le_bytes();
        }
        Ok(Self(frame))
    }

    async fn send(&mut self, stamp: Stamp, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        if let Some((_, payload)) = self.0.split_at_mut_checked(PREFIX) {
            stamp.fill(payload);
        }
        Ok(to.write_all(&self.0).await?)
    }
}

async fn receive<'a>(
    from: &mut (impl AsyncBufRead + Unpin),
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    let len = usize::try_from(from.read_u32_le().await?)?;
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let message = buffer.get_mut(..len).ok_or("the buffer is too short")?;
    from.read_exact(message).await?;
    Ok(message)
}

pub(crate) async fn ask(
    mut trips: Trips,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    len: usize,
) -> Result<Record> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let (mut frame, mut buffer) = (Frame::new(len)?, vec![0; len]);
    while let Some(stamp) = trips.begin() {
        frame.send(stamp, &mut to).await?;
        trips.end(receive(&mut from, &mut buffer).await?)?;
    }
    Ok(trips.finish())
}

pub(crate) async fn answer(
    mut echo: Echo,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    len: usize,
) -> Result<Record> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let (mut frame, mut buffer) = (Frame::new(len)?, vec![0; len]);
    loop {
        let reply = echo.read(receive(&mut from, &mut buffer).await?)?;
        frame.send(reply, &mut to).await?;
        if reply.is_last() {
            return Ok(echo.finish());
        }
    }
}

pub(crate) async fn collect(
    mut meter: Meter,
    from: impl AsyncRead + Unpin,
    len: usize,
    batched: bool,
) -> Result<Record> {
    let mut from = BufReader::with_capacity(if batched { BATCH } else { BUFFER }, from);
    let mut buffer = vec![0; len];
    while !meter.read(receive(&mut from, &mut buffer).await?)? {}
    Ok(meter.finish())
}

/// Sends each message by itself, or `batched`: as many as fill a buffer in one write.
pub(crate) async fn send(
    mut flow: Flow,
    mut to: impl AsyncWrite + Unpin,
    len: usize,
    batched: bool,
) -> Result<Record> {
    let mut frame = Frame::new(len)?;
    if batched {
        let mut to = BufWriter::with_capacity(BATCH, to);
        while let Some(stamp) = flow.next() {
            frame.send(stamp, &mut to).await?;
        }
        to.flush().await?;
    } else {
        while let Some(stamp) = flow.next() {
            frame.send(stamp, &mut to).await?;
        }
    }
    Ok(flow.finish())
}
