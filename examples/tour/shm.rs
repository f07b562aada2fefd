//! Shared-memory channels.

use std::path::PathBuf;
use std::time::Instant;

use sinew::shm::{self, Batch, ByteStream, Channel, Options, Wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

const LARGE: usize = 1 << 20;
const BATCH: u64 = 64;

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "shm",
        shows: "64 B messages, looking before sleeping",
        first: |stage| Box::pin(small(stage, Wait::Adaptive)),
        second: |path| Box::pin(answer_small(path, Wait::Adaptive)),
    },
    Stage {
        name: "shm-park",
        shows: "64 B messages, sleeping at once",
        first: |stage| Box::pin(small(stage, Wait::Park)),
        second: |path| Box::pin(answer_small(path, Wait::Park)),
    },
    Stage {
        name: "shm-spin",
        shows: "64 B messages, never sleeping",
        first: |stage| Box::pin(small(stage, Wait::Spin)),
        second: |path| Box::pin(answer_small(path, Wait::Spin)),
    },
    Stage {
        name: "shm-child",
        shows: "64 B messages, to a child with its end in hand",
        first: |stage| Box::pin(child(stage)),
        second: |_| Box::pin(async { serve(shm::inherited().await?).await }),
    },
    Stage {
        name: "shm-large",
        shows: "1 MiB messages, written in place and mapped",
        first: |stage| Box::pin(large(stage)),
        second: |path| Box::pin(answer_large(path)),
    },
    Stage {
        name: "shm-bytes",
        shows: "64 B records, in a stream of bytes",
        first: |stage| Box::pin(bytes(stage)),
        second: |path| Box::pin(answer_bytes(path)),
    },
];

/// A channel to a second process, which was told the path.
async fn meet(stage: &Stage, options: Options) -> Result<(Channel, Child), Error> {
    let name = format!("sinew-tour-{}-{}.sock", stage.name, std::process::id());
    let path: PathBuf = std::env::temp_dir().join(name);
    let mut listener = options.mode(0o600).bind(&path).await?;
    let mut child = second::command(stage, &path)?.spawn()?;
    let channel = second::with(&mut child, listener.accept()).await?;
    Ok((channel, child))
}

async fn small(stage: &'static Stage, wait: Wait) -> Result<Shown, Error> {
    let (channel, child) = meet(stage, Options::new().wait(wait)).await?;
    let shown = exchange(channel).await?;
    second::end(child).await?;
    Ok(shown)
}

async fn answer_small(path: String, wait: Wait) -> Result<(), Error> {
    serve(Options::new().wait(wait).connect(path).await?).await
}

async fn child(stage: &'static Stage) -> Result<Shown, Error> {
    let command = second::command(stage, "")?;
    let (channel, child) = Options::new().spawn(command).await?;
    let shown = exchange(channel).await?;
    second::end(child).await?;
    Ok(shown)
}

/// Round trips until an empty message, then one way until the next.
async fn exchange(mut channel: Channel) -> Result<Shown, Error> {
    let mut shown = Shown::default();
    let mut number = 0;
    let mut received = Vec::with_capacity(SMALL);
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        channel.send(payload::small(number)).await?;
        received.clear();
        channel.receiver().recv_into(&mut received).await?;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut received, SMALL, number)?;
        number += 1;
    }
    channel.send("").await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        let batch = (count..count + BATCH).map(payload::small);
        channel.sender().send_batch(batch).await?;
        count += BATCH;
    }
    channel.send("").await?;
    let answer = channel.recv().await?.ok_or("it closed too early")?;
    shown.one_way(count, begun.elapsed());
    agree(payload::number(&answer)?, count)?;
    Ok(shown)
}

async fn serve(mut channel: Channel) -> Result<(), Error> {
    let mut number = 0;
    let mut message = Vec::with_capacity(SMALL);
    loop {
        message.clear();
        let received = channel.receiver().recv_into(&mut message).await?;
        match received.ok_or("it closed too early")? {
            0 => break,
            _ => payload::check(&message, SMALL, number)?,
        }
        payload::answer(&mut message);
        channel.send(&message).await?;
        number += 1;
    }
    let mut count = 0;
    let mut batch = Batch::new();
    'all: loop {
        if channel.receiver().recv_batch(&mut batch).await? == 0 {
            return Err("it closed too early".into());
        }
        for message in &batch {
            if message.is_empty() {
                break 'all;
            }
            payload::check(message, SMALL, count)?;
            count += 1;
        }
    }
    channel.send(count.to_le_bytes()).await?;
    Ok(())
}

async fn large(stage: &'static Stage) -> Result<Shown, Error> {
    let (mut channel, child) = meet(stage, Options::new()).await?;
    let mut shown = Shown::default();
    let mut number = 0;
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        send_large(&mut channel, number).await?;
        let mut answer = channel.recv().await?.ok_or("it closed too early")?.to_vec();
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut answer, SMALL, number)?;
        number += 1;
    }
    channel.send("").await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        send_large(&mut channel, count).await?;
        count += 1;
    }
    channel.send("").await?;
    let answer = channel.recv().await?.ok_or("it closed too early")?;
    shown.one_way(count, begun.elapsed());
    agree(payload::number(&answer)?, count)?;
    #[allow(clippy::cast_precision_loss)]
    let gigabytes = shown.rate * LARGE as f64 / 1e9;
    shown.detail = format!("{gigabytes:.1} GB/s");
    second::end(child).await?;
    Ok(shown)
}

async fn send_large(channel: &mut Channel, number: u64) -> Result<(), Error> {
    let mut loan = channel.sender().reserve(LARGE).await?;
    payload::fill(&mut loan, number);
    loan.commit(LARGE).await?;
    Ok(())
}

async fn answer_large(path: String) -> Result<(), Error> {
    let mut channel = shm::connect(path).await?;
    for answers in [true, false] {
        let mut number = 0;
        loop {
            let message = channel.recv().await?.ok_or("it closed too early")?;
            if message.is_empty() {
                break;
            }
            payload::check(&message, LARGE, number)?;
            if answers {
                let mut answer = payload::small(number);
                payload::answer(&mut answer);
                channel.send(answer).await?;
            }
            number += 1;
        }
        if !answers {
            channel.send(number.to_le_bytes()).await?;
        }
    }
    if channel.receiver().stats().memories == 0 {
        return Err("nothing was mapped".into());
    }
    Ok(())
}

/// The number of the record that ends a part.
const END: u64 = u64::MAX;

async fn bytes(stage: &'static Stage) -> Result<Shown, Error> {
    let (channel, child) = meet(stage, Options::new()).await?;
    let mut stream = channel.into_byte_stream();
    let mut shown = Shown::default();
    let mut number = 0;
    let mut record = [0; SMALL];
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        stream.write_all(&payload::small(number)).await?;
        stream.read_exact(&mut record).await?;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut record, SMALL, number)?;
        number += 1;
    }
    stream.write_all(&payload::small(END)).await?;

    let mut count = 0;
    let mut many = Vec::new();
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        many.clear();
        for number in count..count + BATCH {
            many.extend_from_slice(&payload::small(number));
        }
        stream.write_all(&many).await?;
        count += BATCH;
    }
    stream.write_all(&payload::small(END)).await?;
    stream.shutdown().await?;
    let received = stream.read_u64_le().await?;
    shown.one_way(count, begun.elapsed());
    agree(received, count)?;
    second::end(child).await?;
    Ok(shown)
}

async fn answer_bytes(path: String) -> Result<(), Error> {
    let mut stream: ByteStream = shm::connect(path).await?.into_byte_stream();
    let mut record = [0; SMALL];
    for number in 0.. {
        stream.read_exact(&mut record).await?;
        if payload::number(&record)? == END {
            break;
        }
        payload::check(&record, SMALL, number)?;
        payload::answer(&mut record);
        stream.write_all(&record).await?;
    }
    let mut stream = tokio::io::BufStream::with_capacity(16 << 10, SMALL, stream);
    let mut count = 0;
    loop {
        stream.read_exact(&mut record).await?;
        if payload::number(&record)? == END {
            break;
        }
        payload::check(&record, SMALL, count)?;
        count += 1;
    }
    if stream.read(&mut record).await? != 0 {
        return Err("there is something after the end".into());
    }
    stream.write_u64_le(count).await?;
    stream.shutdown().await?;
    Ok(())
}

fn agree(theirs: u64, ours: u64) -> Result<(), Error> {
    if theirs == ours {
        return Ok(());
    }
    Err(format!("{ours} messages were sent and {theirs} received").into())
}
