//! Joining two addresses.

use std::fmt;
use std::task::{Context, Poll, ready};

use sinew_core::{Address, Attributes, BoxSink, BoxStream, Error, ErrorKind, Message, Scheme};

/// Two addresses, joined: what is received from the one is sent to the other, with back-pressure, in both
/// directions where both have them.
///
/// The first is opened as [`open_receiver`](crate::open_receiver) would, so that it listens unless it says otherwise; the second as
/// [`open_sender`](crate::open_sender) would. Where both are connections (`shm:`, `exec:`, `unix:`,
/// `unix-seqpacket:`, `tcp:`), the second's messages are sent to the first as well.
///
/// # What cannot cross
///
/// A message's attributes that the other mechanism does not carry, such as file descriptors into a FIFO, are taken
/// off, and counted in the [report](BridgeReport). A message that cannot be sent at all (longer than the
/// other side takes, or with a newline where messages are lines) ends the bridge with the error that says so. What the
/// source says that it lost is counted, and the bridge goes on.
///
/// # Examples
///
/// ```no_run
/// use sinew::Bridge;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = "tcp:127.0.0.1:9000?listen".parse()?;
/// let service = "shm:/run/app.sock".parse()?;
/// let mut bridge = Bridge::open(&network, &service).await?;
/// let report = bridge.run().await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
pub struct Bridge {
    there: Lane,
    back: Option<Lane>,
    /// What has ended it.
    failed: Option<Error>,
}

/// What crossed a [`Bridge`], and what did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeReport {
    /// From the first address to the second.
    pub there: LaneReport,
    /// From the second to the first.
    pub back: LaneReport,
}

/// One direction of a [`Bridge`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneReport {
    /// Messages that were sent on.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that the source said were lost, as far as it could tell.
    pub lost: u64,
    /// How many messages went on without their priority.
    pub without_priority: u64,
    /// … without their type tag.
    pub without_kind: u64,
    /// … without the credentials of their sender.
    pub without_credentials: u64,
    /// … without their file descriptors, which were closed.
    pub without_fds: u64,
}

impl Bridge {
    /// Opens both addresses, the first first.
    ///
    /// # Errors
    ///
    /// As for [`open`](crate::open).
    ///
    /// # Cancel safety
    ///
    /// As for [`open`](crate::open).
    pub async fn open(source: &Address, destination: &Address) -> Result<Self, Error> {
        let carried_there = carried(destination.scheme());
        if !(is_connection(source.scheme()) && is_connection(destination.scheme())) {
            let stream = crate::open_receiver(source).await?;
            let sink = crate::open_sender(destination).await?;
            return Ok(Self {
                there: Lane::new(stream, sink, carried_there),
                back: None,
                failed: None,
            });
        }
        let (first_sink, first_stream) = crate::open(&listening(source)).await?;
        let (second_sink, second_stream) = crate::open(destination).await?;
        let mut there = Lane::new(first_stream, second_sink, carried_there);
        let mut back = Lane::new(second_stream, first_sink, carried(source.scheme()));
        there.is_one_of_two = true;
        back.is_one_of_two = true;
        Ok(Self {
            there,
            back: Some(back),
            failed: None,
        })
    }

    /// A bridge from a stream to a sink that were opened otherwise. Attributes besides `carried` are taken
    /// off.
    pub fn new(stream: BoxStream, sink: BoxSink, carried: Attributes) -> Self {
        Self {
            there: Lane::new(stream, sink, carried),
            back: None,
            failed: None,
        }
    }

    /// Carries messages until all sources have ended, and closes each sink after its source's end.
    ///
    /// # Errors
    ///
    /// The first that is not a [recoverable](Error::is_recoverable) one of a source, once
    /// everything that was received before, in both directions, has been sent on as far as it can
    /// be. The sinks are not closed then, so that those who receive from them take it for a crash
    /// when the bridge is dropped, where they can tell ([what success
    /// means](crate#what-success-means)). A further call gives the same error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again, and goes on where it was.
    pub async fn run(&mut self) -> Result<BridgeReport, Error> {
        std::future::poll_fn(|cx| self.poll_run(cx)).await?;
        Ok(self.report())
    }

    /// What has crossed so far.
    pub fn report(&self) -> BridgeReport {
        BridgeReport {
            there: self.there.report.clone(),
            back: self
                .back
                .as_ref()
                .map(|lane| lane.report.clone())
                .unwrap_or_default(),
        }
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.there).chain(&mut self.back)
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.failed.is_none() {
            let mut is_pending = false;
            let mut failed = None;
            for lane in self.lanes() {
                match lane.poll_run(cx) {
                    Poll::Pending => is_pending = true,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => failed = failed.or(Some(error)),
                }
            }
            self.failed = failed;
            if self.failed.is_none() {
                return match is_pending {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(())),
                };
            }
        }
        let mut is_pending = false;
        for lane in self.lanes() {
            is_pending |= lane.poll_rest(cx).is_pending();
        }
        match &self.failed {
            Some(error) if !is_pending => Poll::Ready(Err(error.clone())),
            _ => Poll::Pending,
        }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// A stream and the sink into which it goes.
struct Lane {
    stream: BoxStream,
    sink: BoxSink,
    carried: Attributes,
    report: LaneReport,
    /// Received, and not yet taken by the sink.
    message: Option<Message>,
    /// Whether another lane goes the other way, so that the peer may have closed this direction and still send.
    is_one_of_two: bool,
    is_flushed: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The stream has ended.
    Closing,
    Closed,
}

impl Lane {
    /// Messages before others have their turn.
    const TURN: u32 = 128;

    fn new(stream: BoxStream, sink: BoxSink, carried: Attributes) -> Self {
        Self {
            stream,
            sink,
            carried,
            report: LaneReport::default(),
            message: None,
            is_one_of_two: false,
            is_flushed: true,
            state: State::Open,
        }
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut turn = Self::TURN;
        while self.state == State::Open {
            // Room first, so that nothing is received that could not be sent on.
            let refused = match self.sink.as_mut().poll_ready(cx) {
                Poll::Pending => {
                    // A sink that takes one more than it has sent has to be asked to send.
                    let _sent = self.poll_flush(cx)?;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => None,
                // It matters once there is something to send that way.
                Poll::Ready(Err(error))
                    if self.is_one_of_two && error.kind() == ErrorKind::Closed =>
                {
                    Some(error)
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            };
            let message = match self.message.take() {
                Some(message) => message,
                None => match self.stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(message))) => message,
                    Poll::Ready(Some(Err(error))) if error.is_recoverable() => {
                        tracing::warn!(%error, "the source of a bridge lost something");
                        self.report.lost += error.lost().unwrap_or(1);
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => {
                        self.state = State::Closing;
                        break;
                    }
                    Poll::Pending => {
                        if refused.is_none() {
                            ready!(self.poll_flush(cx))?;
                        }
                        return Poll::Pending;
                    }
                },
            };
            if let Some(error) = refused {
                self.message = Some(message);
                return Poll::Ready(Err(error));
            }
            if turn == 0 {
                self.message = Some(message);
                cx.waker().wake_by_ref();
                let _sent = self.poll_flush(cx)?;
                return Poll::Pending;
            }
            turn -= 1;
            self.send(message)?;
        }
        if self.state == State::Closing {
            ready!(self.sink.as_mut().poll_close(cx))?;
            self.state = State::Closed;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends on what was received, when nothing more will be, as far as the sink takes it.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let rest = match self.state {
            State::Open => ready!(self.poll_last(cx)),
            State::Closing => ready!(self.sink.as_mut().poll_close(cx)),
            State::Closed => Ok(()),
        };
        if let Err(error) = rest {
            tracing::warn!(%error, "a bridge that has failed cannot send on what it had received");
        }
        Poll::Ready(())
    }

    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.message.is_some() {
            if self.sink.as_mut().poll_ready(cx)?.is_pending() {
                let _sent = self.poll_flush(cx)?;
                return Poll::Pending;
            }
            if let Some(message) = self.message.take() {
                self.send(message)?;
            }
        }
        self.poll_flush(cx)
    }

    fn send(&mut self, message: Message) -> Result<(), Error> {
        let message = self.strip(message);
        let bytes = message.payload().len() as u64;
        self.is_flushed = false;
        self.sink.as_mut().start_send(message)?;
        self.report.messages += 1;
        self.report.bytes += bytes;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_flushed {
            ready!(self.sink.as_mut().poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes off what the sink does not carry, and counts it.
    fn strip(&mut self, mut message: Message) -> Message {
        let dropped = message.dropped_attributes(self.carried);
        if dropped.is_empty() {
            return message;
        }
        let mut stripped = Message::new(message.payload().clone());
        let report = &mut self.report;
        let counts = [
            (Attributes::PRIORITY, &mut report.without_priority),
            (Attributes::KIND, &mut report.without_kind),
            (Attributes::CREDENTIALS, &mut report.without_credentials),
            (Attributes::FDS, &mut report.without_fds),
        ];
        for (attribute, count) in counts {
            *count += u64::from(dropped.contains(attribute));
        }
        let carries = |attribute| self.carried.contains(attribute);
        if let Some(priority) = message.priority().filter(|_| carries(Attributes::PRIORITY)) {
            stripped = stripped.with_priority(priority);
        }
        if let Some(kind) = message.kind().filter(|_| carries(Attributes::KIND)) {
            stripped = stripped.with_kind(kind);
        }
        if let Some(sender) = message
            .credentials()
            .filter(|_| carries(Attributes::CREDENTIALS))
        {
            stripped = stripped.with_credentials(sender);
        }
        if carries(Attributes::FDS) {
            stripped = stripped.with_fds(message.take_fds());
        }
        stripped
    }
}

impl LaneReport {
    /// What did not cross, in words; empty if everything did.
    pub fn losses(&self) -> Vec<String> {
        let parts = [
            (self.without_priority, "priority"),
            (self.without_kind, "kind"),
            (self.without_credentials, "sender's credentials"),
            (self.without_fds, "file descriptors"),
        ];
        let mut losses: Vec<_> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} without their {what}"))
            .collect();
        if self.lost > 0 {
            losses.push(format!("{} lost at the source", self.lost));
        }
        losses
    }
}

impl fmt::Display for LaneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages, {} bytes", self.messages, self.bytes)?;
        for loss in self.losses() {
            write!(f, ", {loss}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BridgeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there: {}; back: {}", self.there, self.back)
    }
}

/// Whether both directions of it belong to one peer, so that answers go back to who asked.
fn is_connection(scheme: Scheme) -> bool {
    matches!(
        scheme,
        Scheme::Shm | Scheme::Exec | Scheme::Unix | Scheme::UnixSeqpacket | Scheme::Tcp
    )
}

/// What messages that are sent to such an address carry besides their payload.
fn carried(scheme: Scheme) -> Attributes {
    match scheme {
        Scheme::Mq => Attributes::PRIORITY,
        Scheme::SysvMq => Attributes::KIND,
        Scheme::Unix | Scheme::UnixDgram | Scheme::UnixSeqpacket => Attributes::FDS,
        _ => Attributes::NONE,
    }
}

/// The end of a bridge that waits to be found, as a receiver does.
fn listening(address: &Address) -> Address {
    let says = address.flag("listen") || address.flag("connect");
    match says || !address.scheme().keys().any(|key| key == "listen") {
        true => address.clone(),
        false => address
            .clone()
            .with_flag("listen")
            .unwrap_or_else(|_| address.clone()),
    }
}
