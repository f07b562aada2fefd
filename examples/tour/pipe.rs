//! Pipes and FIFOs.

use std::time::Instant;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use sinew::Framing;
use sinew::pipe::{Options, Reader, Writer, fifo};

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

const BATCH: u64 = 64;
/// Ends the round trips.
const MARK: &[u8] = b".";

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "pipe",
        shows: "64 B frames, to a child's stdin and from its stdout",
        first: |stage| Box::pin(pipe(stage)),
        second: |_| {
            Box::pin(async {
                let mut sender = length().sender_of(Writer::inherited(1)?);
                let mut receiver = length().receiver_of(Reader::inherited(0)?);
                serve(&mut sender, &mut receiver).await
            })
        },
    },
    Stage {
        name: "pipe-packet",
        shows: "64 B packets, to a child's stdin and from its stdout",
        first: |stage| Box::pin(packets(stage)),
        second: |_| {
            Box::pin(async {
                let mut sender = Options::new().packet_sender_of(Writer::inherited(1)?)?;
                let mut receiver = Options::new().packet_receiver_of(Reader::inherited(0)?)?;
                serve(&mut sender, &mut receiver).await
            })
        },
    },
    Stage {
        name: "fifo",
        shows: "64 B frames, through two FIFOs",
        first: |stage| Box::pin(fifos(stage)),
        second: |path| {
            Box::pin(async move {
                let options = fifo::Options::new().framing(Framing::Length);
                let mut receiver = options.receiver(format!("{path}.to")).await?;
                let mut sender = options.sender(format!("{path}.from")).await?;
                serve(&mut sender, &mut receiver).await
            })
        },
    },
];

fn length() -> Options {
    Options::new().framing(Framing::Length)
}

async fn pipe(stage: &'static Stage) -> Result<Shown, Error> {
    let mut command = second::command(stage, "")?;
    let (mut sender, mut receiver) = length().spawn(command.as_std_mut())?;
    exchange(&mut sender, &mut receiver).await
}

async fn packets(stage: &'static Stage) -> Result<Shown, Error> {
    let mut command = second::command(stage, "")?;
    let (mut sender, mut receiver) = Options::new().spawn_packets(command.as_std_mut())?;
    exchange(&mut sender, &mut receiver).await
}

async fn fifos(stage: &'static Stage) -> Result<Shown, Error> {
    let path = std::env::temp_dir().join(format!("sinew-tour-{}", std::process::id()));
    let path = path
        .to_str()
        .ok_or("the temporary directory is not UTF-8")?;
    let (to, from) = (format!("{path}.to"), format!("{path}.from"));
    fifo::create(&to, 0o600)?;
    let options = fifo::Options::new().framing(Framing::Length).unlink(true);
    let options = options.create(true).mode(0o600);
    let opened = async {
        // Both are there before the second process looks for them, and removed in any case.
        let receiver = options.receiver(&from);
        let sender = options.sender(&to);
        tokio::try_join!(receiver, sender)
    };
    fifo::create(&from, 0o600)?;
    let mut child = second::command(stage, path)?.spawn()?;
    let (mut receiver, mut sender) = second::with(&mut child, opened).await?;
    let shown = exchange(&mut sender, &mut receiver).await?;
    second::end(child).await?;
    Ok(shown)
}

/// Round trips until the mark, then one way until the end.
async fn exchange<S, R>(sender: &mut S, receiver: &mut R) -> Result<Shown, Error>
where
    S: Sink<Bytes, Error = sinew::Error> + Unpin,
    R: Stream<Item = Result<Bytes, sinew::Error>> + Unpin,
{
    let mut shown = Shown::default();
    let mut number = 0;
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        sender.send(message(number)).await?;
        let answer = receiver.next().await.ok_or("it closed too early")??;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut answer.to_vec(), SMALL, number)?;
        number += 1;
    }
    sender.send(Bytes::from_static(MARK)).await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        for number in count..count + BATCH {
            sender.feed(message(number)).await?;
        }
        sender.flush().await?;
        count += BATCH;
    }
    sender.close().await?;
    let answer = receiver.next().await.ok_or("it closed too early")??;
    shown.one_way(count, begun.elapsed());
    if payload::number(&answer)? != count {
        return Err("not everything that was sent was received".into());
    }
    match receiver.next().await.transpose()? {
        None => Ok(shown),
        Some(_) => Err("there is more than was sent".into()),
    }
}

fn message(number: u64) -> Bytes {
    Bytes::copy_from_slice(&payload::small(number))
}

async fn serve<S, R>(sender: &mut S, receiver: &mut R) -> Result<(), Error>
where
    S: Sink<Bytes, Error = sinew::Error> + Unpin,
    R: Stream<Item = Result<Bytes, sinew::Error>> + Unpin,
{
    for number in 0.. {
        let message = receiver.next().await.ok_or("it closed too early")??;
        if message == MARK {
            break;
        }
        payload::check(&message, SMALL, number)?;
        let mut answer = message.to_vec();
        payload::answer(&mut answer);
        sender.send(answer.into()).await?;
    }
    let mut count = 0_u64;
    while let Some(message) = receiver.next().await.transpose()? {
        payload::check(&message, SMALL, count)?;
        count += 1;
    }
    sender.send(count.to_le_bytes().to_vec().into()).await?;
    sender.close().await?;
    Ok(())
}
