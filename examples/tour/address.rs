//! The common vocabulary: whatever an address names, as a boxed sink and a boxed stream.

use std::time::Instant;

use futures::{SinkExt, StreamExt};
use sinew::{Address, Message};

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

const BATCH: u64 = 64;

pub(crate) const STAGES: &[Stage] = &[Stage {
    name: "shm-address",
    shows: "64 B messages, opened by address, as boxed halves",
    first: |stage| {
        let id = std::process::id();
        Box::pin(exchange(stage, format!("shm:@sinew-tour-{id}")))
    },
    second: |address| Box::pin(serve(address)),
}];

/// Round trips until an empty message, then one way until the end.
async fn exchange(stage: &'static Stage, address: String) -> Result<Shown, Error> {
    let ours: Address = address.parse()?;
    let ours = ours.with_flag("listen")?;
    let mut child = second::command(stage, address)?.spawn()?;
    let (mut sink, mut stream) = second::with(&mut child, sinew::open(&ours)).await?;
    let mut shown = Shown::default();
    let mut number = 0;
    let span = Span::begin();
    while span.goes_on() {
        let begun = Instant::now();
        sink.send(message(number)).await?;
        let answer = stream.next().await.ok_or("it closed too early")??;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut answer.payload().to_vec(), SMALL, number)?;
        number += 1;
    }
    sink.send(Message::from("")).await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        for number in count..count + BATCH {
            sink.feed(message(number)).await?;
        }
        sink.flush().await?;
        count += BATCH;
    }
    sink.close().await?;
    let answer = stream.next().await.ok_or("it closed too early")??;
    shown.one_way(count, begun.elapsed());
    if payload::number(answer.payload())? != count {
        return Err("not everything that was sent was received".into());
    }
    second::end(child).await?;
    Ok(shown)
}

fn message(number: u64) -> Message {
    Message::from(payload::small(number).to_vec())
}

async fn serve(address: String) -> Result<(), Error> {
    let (mut sink, mut stream) = sinew::open(&address.parse()?).await?;
    for number in 0.. {
        let message = stream.next().await.ok_or("it closed too early")??;
        if message.payload().is_empty() {
            break;
        }
        payload::check(message.payload(), SMALL, number)?;
        let mut answer = message.into_payload().to_vec();
        payload::answer(&mut answer);
        sink.send(answer.into()).await?;
    }
    let mut count = 0;
    while let Some(message) = stream.next().await.transpose()? {
        payload::check(message.payload(), SMALL, count)?;
        count += 1;
    }
    sink.send(count.to_le_bytes().to_vec().into()).await?;
    sink.close().await?;
    Ok(())
}
