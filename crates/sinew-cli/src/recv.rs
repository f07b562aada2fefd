use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use sinew::{Address, Error};

use crate::args::RecvArgs;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peers::{Peers, Received};
use crate::progress::Progress;
use crate::signal::Signals;

/// For how long a signal leaves it to print what it has received.
const GRACE: Duration = Duration::from_secs(1);

/// `sinew recv`.
pub(crate) async fn run(args: RecvArgs) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let address = args.address()?;
    let opened = async { Ok(open(&address).await?) };
    let stream = signals.unless(opened).await?;
    let format = match (args.raw, args.json) {
        (true, _) => Format::Raw,
        (_, true) => Format::Json,
        _ => Format::Lines,
    };
    let mut output = Output::start(format)?;
    let progress = Progress::start(!args.quiet && !output.is_terminal());
    let received = signals
        .unless(receive(stream, args.count, &mut output, &progress))
        .await;
    let mut finishing = std::pin::pin!(output.finish());
    let mut printed = match received {
        Err(Failure::Signal(_)) => Ok(()),
        _ => signals.unless(&mut finishing).await,
    };
    // A signal does not take back what was received, but it does not wait for a reader for long.
    if matches!(
        (&printed, &received),
        (Err(Failure::Signal(_)), _) | (_, Err(Failure::Signal(_)))
    ) {
        let finished = tokio::time::timeout(GRACE, finishing).await;
        printed = printed.and(finished.unwrap_or(Ok(())));
    }
    progress.finish();
    printed.and(received)
}

type Source = Pin<Box<dyn Stream<Item = Result<Received, Error>> + Send>>;

async fn open(address: &Address) -> Result<Source, Error> {
    if address.get_str("peers") == Some("many") {
        return Ok(Box::pin(Peers::listen(address).await?));
    }
    let stream = sinew::open_receiver(address).await?;
    Ok(Box::pin(stream.map_ok(|message| Received {
        message,
        origin: None,
    })))
}

async fn receive(
    stream: Source,
    count: Option<u64>,
    output: &mut Output,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut batches = Batches {
        stream,
        left: count.unwrap_or(u64::MAX),
        error: None,
    };
    let mut lost = 0;
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            () = output.unread() => break,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(Failure::Error(error)) if error.is_recoverable() => {
                lost += error.lost().unwrap_or(1);
                Failure::Error(error).say();
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if batch.is_empty() {
            break;
        }
        for received in &batch {
            progress.add(received.message.payload().len());
        }
        if !output.print(batch).await {
            break;
        }
    }
    match lost {
        0 => Ok(()),
        _ => Err(Failure::Lost(lost)),
    }
}

/// Takes what is there, in portions of limited memory.
struct Batches {
    stream: Source,
    left: u64,
    /// What came after the messages of the last batch.
    error: Option<Error>,
}

impl Batches {
    const MESSAGES: usize = 1024;
    const BYTES: usize = 256 << 10;

    /// The next messages; none at the end.
    async fn next(&mut self) -> Result<Vec<Received>, Failure> {
        let batch = std::future::poll_fn(|cx| self.poll_next(cx)).await?;
        Ok(batch)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Received>, Error>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while self.left > 0 && batch.len() < Self::MESSAGES && bytes < Self::BYTES {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(Ok(received))) => {
                    self.left -= 1;
                    bytes += received.message.payload().len();
                    batch.push(received);
                }
                Poll::Ready(Some(Err(error))) if batch.is_empty() => {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.error = Some(error);
                    break;
                }
                Poll::Ready(None) => break,
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(batch))
    }
}
