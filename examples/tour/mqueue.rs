//! Message queues, POSIX and SysV.

use std::time::Instant;

use sinew::mqueue::{posix, sysv};

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "mq",
        shows: "64 B messages with priorities, in POSIX message queues",
        first: |stage| Box::pin(posix_first(stage)),
        second: |name| Box::pin(posix_second(name)),
    },
    Stage {
        name: "sysvmq",
        shows: "64 B messages of two types, in a SysV message queue",
        first: |stage| Box::pin(sysv_first(stage)),
        second: |id| Box::pin(sysv_second(id)),
    },
];

/// The priorities, and the types, of the two directions.
const THERE: u32 = 7;
const BACK: u32 = 8;

/// Round trips until an empty message, then one way until the next, which is answered by how many came.
macro_rules! exchange {
    ($sender:ident, $receiver:ident) => {{
        let mut shown = Shown::default();
        let mut number = 0;
        let mut received = Vec::with_capacity(SMALL);
        let span = Span::begin();
        while span.goes_on() {
            let begun = Instant::now();
            $sender
                .send_slice(&payload::small(number), THERE.into())
                .await?;
            received.clear();
            let tag = $receiver.recv_into(&mut received).await?;
            shown.round_trip(begun.elapsed());
            if tag != Some(BACK.into()) {
                return Err("an answer has another tag".into());
            }
            payload::check_answer(&mut received, SMALL, number)?;
            number += 1;
        }
        $sender.send_slice(b"", THERE.into()).await?;

        let mut count = 0;
        let span = Span::begin();
        let begun = Instant::now();
        while span.goes_on() {
            $sender
                .send_slice(&payload::small(count), THERE.into())
                .await?;
            count += 1;
        }
        $sender.send_slice(b"", THERE.into()).await?;
        let answer = $receiver.recv().await?.ok_or("it was removed too early")?;
        shown.one_way(count, begun.elapsed());
        if payload::number(answer.payload())? != count {
            return Err("not everything that was sent was received".into());
        }
        shown
    }};
}

macro_rules! serve {
    ($sender:ident, $receiver:ident) => {{
        let mut message = Vec::with_capacity(SMALL);
        for answers in [true, false] {
            let mut number = 0;
            loop {
                message.clear();
                let tag = $receiver.recv_into(&mut message).await?;
                if tag != Some(THERE.into()) {
                    return Err("a message has another tag".into());
                }
                if message.is_empty() {
                    break;
                }
                payload::check(&message, SMALL, number)?;
                number += 1;
                if answers {
                    payload::answer(&mut message);
                    $sender.send_slice(&message, BACK.into()).await?;
                }
            }
            if !answers {
                let count: [u8; 8] = number.to_le_bytes();
                $sender.send_slice(&count, BACK.into()).await?;
            }
        }
    }};
}

async fn posix_first(stage: &'static Stage) -> Result<Shown, Error> {
    let name = format!("/sinew-tour-{}", std::process::id());
    let options = posix::Options::new()
        .exclusive(true)
        .message_size(SMALL)
        .unlink_on_drop(true);
    let mut sender = options.open_sender(format!("{name}-there"))?;
    let mut receiver = options.open_receiver(format!("{name}-back"))?;
    let child = second::command(stage, &name)?.spawn()?;
    let shown = exchange!(sender, receiver);
    second::end(child).await?;
    Ok(shown)
}

async fn posix_second(name: String) -> Result<(), Error> {
    let options = posix::Options::new();
    let mut receiver = options.open_receiver(format!("{name}-there"))?;
    let mut sender = options.open_sender(format!("{name}-back"))?;
    serve!(sender, receiver);
    Ok(())
}

async fn sysv_first(stage: &'static Stage) -> Result<Shown, Error> {
    let options = sysv::Options::new()
        .select(sysv::Select::Equal(BACK.into()))
        .remove_on_drop(true);
    let queue = options.open(sysv::Target::Private)?;
    let child = second::command(stage, queue.id().to_string())?.spawn()?;
    let (mut sender, mut receiver) = queue.split();
    let shown = exchange!(sender, receiver);
    second::end(child).await?;
    Ok(shown)
}

async fn sysv_second(id: String) -> Result<(), Error> {
    let options = sysv::Options::new().select(sysv::Select::Equal(THERE.into()));
    let queue = options.open(sysv::Target::Id(id.parse()?))?;
    let (mut sender, mut receiver) = queue.split();
    serve!(sender, receiver);
    Ok(())
}
