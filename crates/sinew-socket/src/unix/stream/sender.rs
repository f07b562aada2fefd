use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use rustix::io::Errno;
use rustix::net::Shutdown;
use sinew_core::{
    Error, ErrorKind, FrameCodec, FrameWriter, Framing, MessageSink, TrySendError, UnixEndpoint,
};

use super::Receiver;
use crate::Outgoing;
use crate::link::{WriteIo, once};
use crate::unix::Message;
use crate::unix::packet::check_fds;

/// Bytes from which on a payload is kept rather than copied.
const KEPT: usize = 4096;

/// The half of a [`Connection`](super::Connection) that sends: a `Sink` of [`Message`]s.
///
/// `send` writes at once, one system call for each message. The sink collects, and writes all that was
/// collected when it is flushed, or when it holds 64 KiB; a message with descriptors is written by itself.
///
/// Dropping the sender before it was [closed](Self::close) ends this direction, after one try to
/// write what was collected: the peer gets what was written, and then an error with
/// [`is_peer_crashed`](Error::is_peer_crashed). With `Framing::Lines`, in which nothing can say so, it gets
/// `None`.
pub struct Sender {
    writer: FrameWriter<WriteIo>,
    /// With descriptors, which the sink took and nobody has written yet.
    pending: Option<Message>,
    keep_open: bool,
    closed: bool,
    /// The other direction, of which nothing is wanted.
    discard: Option<Receiver>,
}

impl Sender {
    pub(super) fn new(io: WriteIo, codec: FrameCodec) -> Self {
        let address = io.link.address.clone();
        Self {
            writer: FrameWriter::new(io, codec).with_address(address),
            pending: None,
            keep_open: false,
            closed: false,
            discard: None,
        }
    }

    /// Sends a message: bytes, or a [`Message`] with descriptors.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](ErrorKind::Closed) (`EPIPE`) if the peer does not receive any more. For a
    /// message that is longer than [`max_message`](super::Options::max_message), a line with a newline
    /// in it, more than 253 descriptors, or too many of them on their way (`ETOOMANYREFS`), nothing was
    /// sent, and the sender may be used further.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before the kernel has taken any of the message, it is not sent; dropped
    /// later, it is [accepted](Self::accepted), and goes out whole with the next call.
    pub async fn send(&mut self, mut message: impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        self.check(&message)?;
        self.flush().await?;
        self.attach(&mut message);
        let sent = self.write(&message).await;
        self.detach(sent)
    }

    fn attach(&mut self, message: &mut impl Outgoing<UnixEndpoint>) {
        if let Some(fds) = message.fds_mut() {
            self.writer.get_mut().attached = std::mem::take(fds);
        }
    }

    fn detach<T>(&mut self, sent: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &sent
            && error.errno() == Some(Errno::TOOMANYREFS.raw_os_error())
        {
            // It is about descriptors, which go with the first byte: nothing was written, and the stream
            // is as it was.
            self.writer.get_mut().attached.clear();
            self.writer.restart();
        }
        sent
    }

    async fn write(&mut self, message: &impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        let Self {
            writer, discard, ..
        } = self;
        let payload = message.payload();
        match message.as_bytes() {
            Some(bytes) if payload.len() >= KEPT => {
                unanswered(discard, writer.send(bytes.clone())).await
            }
            _ => unanswered(discard, writer.send(payload)).await,
        }
    }

    fn check(&mut self, message: &impl Outgoing<UnixEndpoint>) -> Result<(), Error> {
        if self.writer.pending() == 0 {
            // Those of a send that was dropped before anything was written.
            self.writer.get_mut().attached.clear();
        }
        let link = &self.writer.get_ref().link;
        if self.closed {
            return Err(link
                .named(Error::new(ErrorKind::Closed, "send").with_reason("this end was closed")));
        }
        if message.address().is_some() {
            return Err(link.named(
                Error::new(ErrorKind::InvalidInput, "send")
                    .with_reason("the message has an address, and a connection has one peer")
                    .with_remedy("leave the address away"),
            ));
        }
        check_fds(message.fds()).map_err(|error| link.named(error))
    }

    /// Sends a message if the kernel takes it, or the first part of it, now. The rest goes out with the
    /// next call; until it has gone, there is no room for another.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is no room; otherwise as for [`send`](Self::send). The
    /// message is handed back.
    pub fn try_send<M: Outgoing<UnixEndpoint>>(
        &mut self,
        mut message: M,
    ) -> Result<(), TrySendError<M>> {
        if let Err(error) = self.check(&message) {
            return Err(TrySendError::failed(message, error));
        }
        self.writer.get_mut().at_once = true;
        let sent = self.try_now(&mut message);
        self.writer.get_mut().at_once = false;
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(message)),
            Err(error) => Err(TrySendError::failed(message, error)),
        }
    }

    fn try_now(&mut self, message: &mut impl Outgoing<UnixEndpoint>) -> Result<bool, Error> {
        match once(self.flush()) {
            Some(flushed) => flushed?,
            None => return Ok(false),
        }
        self.attach(message);
        let bytes = message.as_bytes().filter(|bytes| bytes.len() >= KEPT);
        let sent = match bytes {
            Some(bytes) => self.writer.try_send(bytes.clone()).map_err(|e| e.map(drop)),
            None => self
                .writer
                .try_send(message.payload())
                .map_err(|e| e.map(drop)),
        };
        let sent = match sent {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(())) => Ok(false),
            Err(error) => Err(error
                .error()
                .cloned()
                .unwrap_or_else(|| Error::new(ErrorKind::Closed, "send"))),
        };
        if !matches!(sent, Ok(true))
            && let Some(fds) = message.fds_mut()
        {
            fds.append(&mut self.writer.get_mut().attached);
        }
        self.detach(sent)
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
        if self.pending.is_none() && self.writer.pending() == 0 {
            return Ok(());
        }
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    /// Writes all that was collected, and ends this direction: the peer gets everything, then
    /// `None`. The receiver goes on.
    ///
    /// A sender [alone](super::Connection::into_sender), beside which nobody receives, first waits
    /// until the peer's process has read everything. What the peer does with it afterwards, only an
    /// answer can tell. A peer that neither reads nor goes away keeps such a sender waiting: bound
    /// that by a timeout. Where the receiver is there as well, it does not wait, since the peer may
    /// wait for its answers to be received.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). Of a sender alone, with
    /// [`is_peer_crashed`](Error::is_peer_crashed) (`ECONNRESET`) if the peer went away before it had read
    /// everything: because its process died, because it closed the connection, or because it has
    /// never accepted it. Where the receiver is there as well, it gets that error.
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
        self.writer.accepted() + u64::from(self.pending.is_some())
    }

    pub(super) fn keep_open(&mut self) {
        self.keep_open = true;
    }

    pub(super) fn discard(&mut self, receiver: Receiver) {
        self.discard = Some(receiver);
    }

    pub(super) fn into_io(mut self) -> WriteIo {
        self.keep_open = true;
        let link = self.writer.get_ref().link.clone();
        WriteIo::new(link)
    }

    /// Has the peer take the end that follows for a crash, if the framing can say so.
    fn crash(&mut self) {
        if self.has_unsent() {
            self.writer.get_ref().enlarge();
            let _blocked = once(self.flush());
        }
        // What is left is a message that is cut off by itself.
        if self.writer.encoder().framing() == Framing::Length && !self.has_unsent() {
            let _told = self.writer.get_ref().cut_off();
        }
    }

    /// Whether something was accepted that is not sent.
    fn has_unsent(&self) -> bool {
        self.pending.is_some() || self.writer.pending() > 0
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let flushed = Sink::<Bytes>::poll_flush(Pin::new(&mut self.writer), cx);
            if flushed.is_pending() {
                discard_some(&mut self.discard, cx);
            }
            let flushed = ready!(flushed);
            self.detach(flushed)?;
            let Some(mut message) = self.pending.take() else {
                return Poll::Ready(Ok(()));
            };
            self.attach(&mut message);
            Sink::<Bytes>::start_send(Pin::new(&mut self.writer), message.into_payload())?;
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_flushed(cx))?;
        if self.discard.is_some() {
            let read = self.writer.get_mut().poll_read(cx);
            if read.is_pending() {
                discard_some(&mut self.discard, cx);
            }
            ready!(read)?;
        }
        ready!(Sink::<Bytes>::poll_close(Pin::new(&mut self.writer), cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn discard_some(discard: &mut Option<Receiver>, cx: &mut Context<'_>) {
    if let Some(receiver) = discard {
        receiver.discard(cx);
    }
}

/// Takes what the peer sends meanwhile, where nobody else does: it might wait for that.
async fn unanswered<T>(discard: &mut Option<Receiver>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| {
        let done = work.as_mut().poll(cx);
        if done.is_pending() {
            discard_some(discard, cx);
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
            let _blocked = once(self.flush());
        }
        if self.keep_open {
            return;
        }
        if !self.closed {
            self.crash();
            let _gone = self.writer.get_ref().link.shutdown(Shutdown::Write);
        }
        if let Some(receiver) = &mut self.discard {
            // Unread, it would make the peer believe that we died.
            receiver.discard_now();
        }
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        if sender.pending.is_some() || !sender.writer.get_ref().attached.is_empty() {
            ready!(sender.poll_flushed(cx))?;
        }
        let ready = Sink::<Bytes>::poll_ready(Pin::new(&mut sender.writer), cx);
        if ready.is_pending() {
            discard_some(&mut sender.discard, cx);
        }
        ready
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let sender = self.get_mut();
        if sender.pending.is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "start_send")
                .with_reason("there is no room, and poll_ready was not asked"));
        }
        sender.check(&message)?;
        if message.fds().is_empty() {
            return Sink::<Bytes>::start_send(Pin::new(&mut sender.writer), message.into_payload());
        }
        // What cannot be a frame is refused now, while it is known whose it is.
        sender.writer.encoder().check(message.payload())?;
        sender.pending = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_flushed(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_closed(cx)
    }
}

impl MessageSink for Sender {
    type Native = Message;
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
