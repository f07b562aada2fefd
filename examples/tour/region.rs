//! Channels in memory with a name.

use std::time::Instant;

use futures::SinkExt;
use sinew::memory::{MappedFile, PosixShm, SysvShm, SysvTarget};
use sinew::shm::named::{Options, Place, Receiver, Sender};

use crate::payload::{self, SMALL};
use crate::second;
use crate::stage::{Error, Shown, Span, Stage};

const BATCH: u64 = 64;
/// Bytes of each ring.
const CAPACITY: u64 = 256 << 10;

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "posixshm",
        shows: "64 B messages, in POSIX shared memory",
        first: |stage| {
            Box::pin(async move {
                let name = format!("/sinew-tour-{}", std::process::id());
                let shm = PosixShm::new(&name).exclusive(true).unlink_on_drop(true);
                exchange(stage, shm.into(), name).await
            })
        },
        second: |name| Box::pin(serve(PosixShm::new(name).into())),
    },
    Stage {
        name: "sysvshm",
        shows: "64 B messages, in a SysV segment",
        first: |stage| {
            Box::pin(async move {
                // Two rings, and a page for each.
                let size = usize::try_from(2 * (CAPACITY + 4096))?;
                let region = SysvShm::new(SysvTarget::Private)
                    .size(size)
                    .remove_on_drop(true)
                    .open()?;
                let id = region.sysv_stat()?.id;
                exchange(stage, region.into(), id.to_string()).await
            })
        },
        second: |id| {
            Box::pin(async move { serve(SysvShm::new(SysvTarget::Id(id.parse()?)).into()).await })
        },
    },
    Stage {
        name: "mmap",
        shows: "64 B messages, in a mapped file",
        first: |stage| {
            Box::pin(async move {
                let name = format!("sinew-tour-{}.ring", std::process::id());
                let path = std::env::temp_dir().join(name);
                let argument = path.to_str().ok_or("no path")?.to_owned();
                let file = MappedFile::new(path).exclusive(true).remove_on_drop(true);
                exchange(stage, file.into(), argument).await
            })
        },
        second: |path| Box::pin(serve(MappedFile::new(path).into())),
    },
];

/// Round trips until an empty message, then one way until the next, which is answered by how many came.
async fn exchange(stage: &'static Stage, place: Place, argument: String) -> Result<Shown, Error> {
    let options = Options::new().capacity(CAPACITY);
    let (mut sender, mut receiver): (Sender, Receiver) = options.open_server(place).await?;
    let child = second::command(stage, argument)?.spawn()?;
    let mut shown = Shown::default();
    let mut number = 0;
    let mut received = Vec::with_capacity(SMALL);
    // The first comes back when the child is there.
    sender.send(payload::small(number)).await?;
    receiver.recv_into(&mut received).await?;
    let span = Span::begin();
    while span.goes_on() {
        number += 1;
        let begun = Instant::now();
        sender.send(payload::small(number)).await?;
        received.clear();
        receiver.recv_into(&mut received).await?;
        shown.round_trip(begun.elapsed());
        payload::check_answer(&mut received, SMALL, number)?;
    }
    sender.send("").await?;

    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        for number in count..count + BATCH {
            sender.feed(payload::small(number).to_vec().into()).await?;
        }
        sender.flush().await?;
        count += BATCH;
    }
    sender.close().await?;
    let answer = receiver.recv().await?.ok_or("it closed too early")?;
    shown.one_way(count, begun.elapsed());
    if payload::number(&answer)? != count {
        return Err("not everything that was sent was received".into());
    }
    second::end(child).await?;
    Ok(shown)
}

async fn serve(place: Place) -> Result<(), Error> {
    let (mut sender, mut receiver) = Options::new().open_client(place).await?;
    let mut message = Vec::with_capacity(SMALL);
    for number in 0.. {
        message.clear();
        let received = receiver.recv_into(&mut message).await?;
        match received.ok_or("it closed too early")? {
            0 => break,
            _ => payload::check(&message, SMALL, number)?,
        }
        payload::answer(&mut message);
        sender.send(&message).await?;
    }
    let mut count = 0_u64;
    loop {
        message.clear();
        match receiver.recv_into(&mut message).await? {
            None => break,
            Some(_) => payload::check(&message, SMALL, count)?,
        }
        count += 1;
    }
    sender.send(count.to_le_bytes()).await?;
    sender.close().await?;
    Ok(())
}
