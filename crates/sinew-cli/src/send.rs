use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use futures::{FutureExt, SinkExt};
use sinew::{BoxSink, Message};

use crate::args::SendArgs;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::progress::Progress;
use crate::signal::Signals;

/// `sinew send`.
pub(crate) async fn run(args: SendArgs) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let address = args.address()?;
    let opened = async { Ok(sinew::open_sender(&address).await?) };
    let mut sink = signals.unless(opened).await?;
    let progress = Progress::start(!args.quiet);
    let sent = signals.unless(send(&mut sink, args, &progress)).await;
    progress.finish();
    if sent.is_err() {
        // What came before is sent, as far as there is room.
        let _done = sink.flush().now_or_never();
        // Dropped without having been closed, it does not say that this was all.
    }
    sent
}

async fn send(sink: &mut BoxSink, args: SendArgs, progress: &Progress) -> Result<(), Failure> {
    if !args.payloads.is_empty() {
        for payload in args.payloads {
            feed(sink, payload.into_vec().into(), progress).await?;
        }
    } else if args.raw {
        let mut input = Input::of_chunks(args.chunk)?;
        while let Some(chunk) = input.next().await? {
            feed(sink, chunk, progress).await?;
            sink.flush().await?;
        }
    } else {
        let mut input = Input::of_lines()?;
        while let Some(block) = input.next().await? {
            for line in input::lines(block) {
                feed(sink, line, progress).await?;
            }
            sink.flush().await?;
        }
    }
    sink.close().await?;
    Ok(())
}

async fn feed(sink: &mut BoxSink, payload: Bytes, progress: &Progress) -> Result<(), Failure> {
    let bytes = payload.len();
    sink.feed(Message::new(payload)).await?;
    progress.add(bytes);
    Ok(())
}
