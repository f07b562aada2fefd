use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;
use rustix::io::Errno;
use rustix::net::{Shutdown, sockopt};
use sinew_core::time::sleep;
use sinew_core::{
    Error, ErrorKind, FrameCodec, FrameEncoder, FrameWriter, Framing, MessageSink, TrySendError,
};
use tokio::time::Sleep;

use super::Receiver;
use crate::backoff::Backoff;
use crate::link::{WriteIo, once};
use crate::sys;

/// For how long `close` waits for the end of the peer's direction, where `linger` does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// The half of a [`Connection`](super::Connection) that sends: a `Sink` of [`Bytes`].
///
/// `send` writes at once, one system call for each message. The sink collects, and writes all that was
/// collected when it is flushed, or when it holds 64 KiB.
///
/// Dropping the sender before it was [closed](Self::close) is a crash to the peer, after one try to
/// write what was collected: the peer gets what was written, and then an error with
/// [`is_peer_crashed`](Error::is_peer_crashed). With `Framing::Lines` the connection has to be reset for
/// that, as soon as its receiver is dropped too: what the peer's host has not received by then is
/// lost. It is not reset if nothing was sent.
pub struct Sender {
    writer: FrameWriter<WriteIo>,
    keep_open: bool,
    closed: bool,
    /// The other direction, of which nothing is wanted.
    discard: Option<Receiver>,
    /// For how long to wait until everything is acknowledged.
    linger: Option<Duration>,
    deadline: Option<Pin<Box<Sleep>>>,
    backoff: Backoff,
}

impl Sender {
    pub(super) fn new(io: WriteIo, codec: FrameCodec, linger: Option<Duration>) -> Self {
        let address = io.link.address.clone();
        Self {
            writer: FrameWriter::new(io, codec).with_address(address),
            keep_open: false,
            closed: false,
            discard: None,
            linger: linger.filter(|linger| !linger.is_zero()),
            deadline: None,
            backoff: Backoff::new(Duration::from_micros(200), Duration::from_millis(20)),
        }
    }

    /// Sends a message: anything that is bytes.
    ///
    /// It is done when the kernel has the whole message, not when the peer has it.
    ///
    /// # Errors
    ///
    /// With [`is_peer_crashed`](Error::is_peer_crashed) if the connection was reset, or the peer does
    /// not answer any more; of kind [`Closed`](ErrorKind::Closed) (`EPIPE`) after that. For
    /// a message that is longer than [`max_message`](super::Options::max_message), or a line with a
    /// newline in it, nothing was sent, and the sender may be used further.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before the kernel has taken any of the message, it is not sent; dropped
    /// later, it is [accepted](Self::accepted), and goes out whole with the next call.
    pub async fn send<M>(&mut self, message: M) -> Result<(), Error>
    where
        FrameCodec: FrameEncoder<M>,
    {
        let Self {
            writer, discard, ..
        } = self;
        unanswered(discard, writer.send(message)).await
    }

    /// Sends a message if the kernel takes it, or the first part of it, now. The rest goes out with the
    /// next call; until it has gone, there is no room for another.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is no room; otherwise as for [`send`](Self::send). The
    /// message is handed back.
    pub fn try_send<M>(&mut self, message: M) -> Result<(), TrySendError<M>>
    where
        FrameCodec: FrameEncoder<M>,
    {
        self.writer.get_mut().at_once = true;
        let sent = self.writer.try_send(message);
        self.writer.get_mut().at_once = false;
        sent
    }

    /// Writes all that was collected.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is left goes out with the next call.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let Self {
            writer, discard, ..
        } = self;
        unanswered(discard, writer.flush()).await
    }

    /// Writes all that was collected, and ends this direction: the peer gets everything, then
    /// `None`. The receiver goes on.
    ///
    /// With [`linger`](super::Options::linger), and of a sender
    /// [alone](super::Connection::into_sender), beside which nobody receives, it waits until the peer's
    /// host has acknowledged everything. That host acknowledges also what the peer's process has
    /// not read. So a sender alone waits until the peer ends its direction as well: a peer that
    /// closes without having read everything resets the connection, which is an error. A peer that
    /// does not end its direction is waited for no longer than
    /// [`linger`](super::Options::linger) says, or 5 s, if its host has acknowledged everything. Let
    /// [`keepalive`](super::Options::keepalive) notice a peer that is not there any more.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). Of a sender alone, with
    /// [`is_peer_crashed`](Error::is_peer_crashed) (`ECONNRESET`) if the peer went away before it had read
    /// everything: because its process died, because it closed the connection, or because it has
    /// never accepted it. Where the receiver is there as well, it gets that error. Of kind
    /// [`TimedOut`](ErrorKind::TimedOut) if the peer's host has not acknowledged everything in the time
    /// that [`linger`](super::Options::linger) gives it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// How many messages were accepted so far: each goes out whole, or the connection fails.
    ///
    /// If it has grown by one since before a `send` that was dropped, that message was accepted, and
    /// must not be sent again.
    pub fn accepted(&self) -> u64 {
        self.writer.accepted()
    }

    pub(super) fn keep_open(&mut self) {
        self.keep_open = true;
    }

    pub(super) fn discard(&mut self, receiver: Receiver) {
        self.discard = Some(receiver);
    }

    pub(super) fn into_io(mut self) -> WriteIo {
        self.keep_open = true;
        WriteIo::new(self.writer.get_ref().link.clone())
    }

    /// Ends this direction as a crash: within a message where the framing can tell that, otherwise
    /// with a reset.
    fn crash(&mut self) {
        if self.writer.pending() > 0 {
            self.writer.get_ref().enlarge();
            let _blocked = once(self.writer.flush());
        }
        let io = self.writer.get_ref();
        let frames_by_length = self.writer.encoder().framing() == Framing::Length;
        let is_told = frames_by_length && self.writer.pending() == 0 && io.cut_off();
        let _gone = match is_told || self.writer.accepted() == 0 {
            true => io.link.shutdown(Shutdown::Write),
            false => sockopt::set_socket_linger(io.link.socket(), Some(Duration::ZERO))
                .map_err(Into::into),
        };
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let closed = Sink::<Bytes>::poll_close(Pin::new(&mut self.writer), cx);
        let closed = self.discard_while(cx, closed);
        if matches!(closed, Poll::Ready(Ok(()))) && !self.closed {
            if self.discard.is_some() || self.linger.is_some() {
                ready!(self.poll_answered(cx))?;
            }
            self.closed = true;
        }
        closed
    }

    /// Waits for the peer's answer to the end of this direction.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let answered = match self.poll_peer_end(cx) {
            Poll::Ready(Ok(())) => self.poll_acknowledged(cx),
            answered => answered,
        };
        if answered.is_ready() {
            self.deadline = None;
            return answered;
        }
        loop {
            let deadline = match &mut self.deadline {
                Some(deadline) => deadline,
                none => none.insert(Box::pin(sleep(self.linger.unwrap_or(PATIENCE))?)),
            };
            ready!(deadline.as_mut().poll(cx));
            self.deadline = None;
            let link = &self.writer.get_ref().link;
            match (sys::unsent(link.socket()), self.linger) {
                (Ok(left @ 1..), Some(linger)) => {
                    return Poll::Ready(Err(link.named(
                        Error::new(ErrorKind::TimedOut, "close")
                            .with_reason(format!(
                                "the peer's host has not acknowledged {left} bytes within {linger:?}"
                            ))
                            .with_remedy("raise linger, or look at why the peer does not read"),
                    )));
                }
                (Ok(1..), None) => {}
                // The peer goes on with its direction, and its host has everything.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Where nobody else receives: reads to the end of the peer's direction. A peer that goes away
    /// without having read everything resets the connection instead.
    fn poll_peer_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(receiver) = &mut self.discard {
            ready!(receiver.poll_end(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing tells when the peer's host has everything, so this asks again and again.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let link = &self.writer.get_ref().link;
            if let Err(errno) = sockopt::socket_error(link.socket()).unwrap_or(Ok(())) {
                return Poll::Ready(Err(link.failed("close", errno.into())));
            }
            if link.was_reset() {
                return Poll::Ready(Err(link.failed("close", Errno::CONNRESET.into())));
            }
            if !matches!(sys::unsent(link.socket()), Ok(1..)) {
                self.backoff.succeeded();
                return Poll::Ready(Ok(()));
            }
            // A connection that has failed keeps its count; the receiver may have got its error.
            if rustix::net::getpeername(link.socket()).is_err() {
                return Poll::Ready(Err(link.failed("close", Errno::CONNRESET.into())));
            }
            if self.backoff.is_waiting() {
                ready!(self.backoff.poll_over(cx));
            } else {
                self.backoff.failed()?;
            }
        }
    }

    /// Takes what the peer sends, where nobody else does: it might wait for that.
    fn discard_while<T>(&mut self, cx: &mut Context<'_>, sent: Poll<T>) -> Poll<T> {
        if sent.is_pending()
            && let Some(receiver) = &mut self.discard
        {
            receiver.discard(cx);
        }
        sent
    }
}

async fn unanswered<T>(discard: &mut Option<Receiver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let done = work.as_mut().poll(cx);
        if done.is_pending()
            && let Some(receiver) = discard
        {
            receiver.discard(cx);
        }
        done
    })
    .await
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves the connection to its parent.
        if !self.writer.get_ref().link.is_here() {
            return;
        }
        if !self.closed {
            self.writer.get_mut().at_once = true;
            let _blocked = once(self.writer.flush());
        }
        if self.keep_open {
            return;
        }
        if !self.closed {
            self.crash();
        }
        if let Some(receiver) = &mut self.discard {
            receiver.discard_now();
        }
    }
}

impl Sink<Bytes> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        let ready = Sink::<Bytes>::poll_ready(Pin::new(&mut sender.writer), cx);
        sender.discard_while(cx, ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), Error> {
        Pin::new(&mut self.get_mut().writer).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        let flushed = Sink::<Bytes>::poll_flush(Pin::new(&mut sender.writer), cx);
        sender.discard_while(cx, flushed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_closed(cx)
    }
}

impl MessageSink for Sender {
    type Native = Bytes;
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.get_ref().link.socket()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.writer.get_ref().link.address)
            .field("accepted", &self.accepted())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
