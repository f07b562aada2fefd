use std::fmt::{self, Display};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::io::AsyncWrite;

use super::{BorrowedFrame, FrameCodec, FrameEncoder, Stage, TokioCodec};
use crate::{Error, ErrorKind, MessageSink, TrySendError, attempt};

/// Staged bytes from which on the sink is not ready: as many as a pipe holds.
const BOUND: usize = 64 << 10;

/// Messages into a stream of bytes.
///
/// A frame is written whole or not at all, as long as the writer is used until it is flushed or closed:
/// what the kernel has not taken of it yet stays in the writer, and goes out before anything else.
/// Dropping the writer drops that rest, which a reader of length frames reports as a crash; `close` is
/// the clean end.
///
/// # One by one, or in batches
///
/// [`send`](Self::send) writes at once, and is done when the kernel has the whole message. As a `Sink`
/// it collects: `start_send` stages, `poll_flush` writes all that is staged together. `poll_ready` waits
/// while 64 KiB or more are staged ([`with_bound`](Self::with_bound)), so that the writer holds at most
/// that and one message. Payloads of 8 KiB and more that are given as [`Bytes`] are not copied;
/// `send` copies none of 8 KiB and more that the kernel takes at once.
///
/// # A send that is dropped
///
/// As long as the kernel has taken nothing of a message, dropping its `send` leaves it unsent. From the
/// first byte on it is *accepted*, and goes out whole, exactly once: with the same future, or else
/// with the next `send`, `flush` or `close`. [`accepted`](Self::accepted) tells which of the two it was.
///
/// # Examples
///
/// ```
/// use sinew_core::{FrameReader, FrameWriter, Framing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (left, right) = tokio::io::duplex(64);
/// let mut writer = FrameWriter::new(left, Framing::Length);
/// writer.send("any\nbytes").await?;
/// writer.close().await?;
///
/// let mut reader = FrameReader::new(right, Framing::Length);
/// assert_eq!(reader.recv().await?.as_deref(), Some(&b"any\nbytes"[..]));
/// assert_eq!(reader.recv().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct FrameWriter<W, E = FrameCodec> {
    io: W,
    encoder: E,
    /// What was accepted and is not written yet.
    stage: Stage,
    /// What a `send` offers, until it is accepted; left over where one was dropped before.
    offer: Stage,
    bound: usize,
    accepted: u64,
    failed: Option<Error>,
    closed: bool,
    address: Option<String>,
}

impl<W> FrameWriter<W> {
    /// Writes messages of this framing, or [`FrameCodec`], to `io`.
    pub fn new(io: W, codec: impl Into<FrameCodec>) -> Self {
        Self::with_encoder(io, codec.into())
    }
}

impl<W, C> FrameWriter<W, TokioCodec<C>> {
    /// Writes what a codec of `tokio-util` makes of messages to `io`.
    ///
    /// It may encode a message that is not sent, because the `send` was dropped or there was no room: it
    /// should not count messages.
    pub fn with_codec(io: W, codec: C) -> Self {
        Self::with_encoder(io, TokioCodec::new(codec))
    }
}

impl<W, E> FrameWriter<W, E> {
    /// Writes the frames of `encoder` to `io`.
    pub fn with_encoder(io: W, encoder: E) -> Self {
        Self {
            io,
            encoder,
            stage: Stage::default(),
            offer: Stage::default(),
            bound: BOUND,
            accepted: 0,
            failed: None,
            closed: false,
            address: None,
        }
    }

    /// Sets how many staged bytes make the sink wait before it takes a further message; at least one.
    #[must_use]
    pub fn with_bound(mut self, bytes: usize) -> Self {
        self.bound = bytes.max(1);
        self
    }

    /// Names the other end in errors.
    #[must_use]
    pub fn with_address(mut self, address: impl Display) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.io
    }

    /// What is written to. Bytes that are written past this writer may come within a frame, unless it
    /// was flushed.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.io
    }

    /// What is written to. What was not flushed is dropped.
    pub fn into_inner(self) -> W {
        self.io
    }

    /// The encoder.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// How many messages were accepted so far: each goes out whole, or the writer fails.
    ///
    /// If it has grown by one since before a `send` that was dropped, that message was accepted, and
    /// must not be sent again.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Bytes that were accepted and are not written yet.
    pub fn pending(&self) -> usize {
        self.stage.len()
    }

    /// Goes on after an error of writing, where `io` is as it was before. What was not written is
    /// dropped: none of it must be part of a message of which some was.
    pub fn restart(&mut self) {
        self.stage.clear();
        self.offer.clear();
        self.failed = None;
    }

    #[inline]
    fn check(&self) -> Result<(), Error> {
        match self.failed.is_none() && !self.closed {
            true => Ok(()),
            false => Err(self.refusal()),
        }
    }

    #[cold]
    fn refusal(&self) -> Error {
        self.failed.clone().unwrap_or_else(|| {
            self.named(Error::new(ErrorKind::Closed, "send").with_reason("this end was closed"))
        })
    }

    #[cold]
    fn named(&self, error: Error) -> Error {
        match (&self.address, error.address()) {
            (Some(address), None) => error.with_address(address),
            _ => error,
        }
    }

    #[cold]
    fn fail(&mut self, error: io::Error) -> Error {
        let error = self.named(Error::from_io("write", error));
        self.failed = Some(error.clone());
        self.stage.clear();
        error
    }

    #[inline]
    fn offer<M>(&mut self, message: &M) -> Result<(), Error>
    where
        E: FrameEncoder<M>,
    {
        if !self.offer.is_empty() {
            self.offer.clear();
        }
        self.encoder
            .encode_frame(message, &mut self.offer)
            .map_err(|error| self.named(error))
    }
}

impl<W: AsyncWrite + Unpin, E> FrameWriter<W, E> {
    /// Sends a message, and waits until the kernel has all of it.
    ///
    /// # Errors
    ///
    /// Of the encoder, after which the writer goes on. With a [`FrameCodec`]:
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for a message that is too long,
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a line with a newline in it. Of writing, after which
    /// every further call repeats the error: [`Closed`](ErrorKind::Closed) where nobody reads any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before the kernel has taken any of the message, it is not sent; dropped
    /// later, it is accepted, and goes out whole with the next call. See
    /// [*A send that is dropped*](Self#a-send-that-is-dropped).
    #[inline]
    pub fn send<M>(&mut self, message: M) -> impl Future<Output = Result<(), Error>>
    where
        E: FrameEncoder<M>,
    {
        Sending {
            writer: self,
            message: Some(message),
            step: Step::Begin,
            accepted: false,
        }
    }

    /// Sends a message if the kernel takes it, or the first part of it, now. The rest is
    /// [`pending`](Self::pending) then, and goes out with the next call; until it has gone, there is no
    /// room for another.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if the kernel takes nothing now; otherwise as for
    /// [`send`](Self::send). The message is handed back.
    pub fn try_send<M>(&mut self, message: M) -> Result<(), TrySendError<M>>
    where
        E: FrameEncoder<M>,
    {
        let mut accepted = false;
        let sent = match self.check().and_then(|()| self.borrow(&message)) {
            Ok(Some(_)) => attempt(|cx| self.poll_borrowed(cx, &message, &mut accepted)),
            Ok(None) => match self.offer(&message) {
                Ok(()) => attempt(|cx| self.poll_offer(cx, &mut accepted)),
                Err(error) => Some(Err(error)),
            },
            Err(error) => Some(Err(error)),
        };
        match sent {
            Some(Err(error)) => Err(TrySendError::failed(message, error)),
            None if !accepted => Err(TrySendError::Full(message)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Writes all that was accepted.
    ///
    /// # Errors
    ///
    /// Those of writing, as for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is left goes out with the next call.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_written(cx)).await
    }

    /// Writes all that was accepted, and ends the stream: the reader gets everything, then `None`.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// Writes what is staged until at most `left` bytes are.
    #[inline]
    fn poll_drain(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<(), Error>> {
        if self.failed.is_none() && self.stage.len() <= left {
            return Poll::Ready(Ok(()));
        }
        self.poll_rest(cx, left)
    }

    #[cold]
    fn poll_rest(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        while self.stage.len() > left {
            if let Err(error) = ready!(self.stage.poll_write(Pin::new(&mut self.io), cx)) {
                return Poll::Ready(Err(self.fail(error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_drain(cx, 0))?;
        match ready!(Pin::new(&mut self.io).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx, 0))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            Ok(()) => {
                self.closed = true;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// What can be written without staging it.
    #[inline]
    fn borrow<'a, M>(&mut self, message: &'a M) -> Result<Option<BorrowedFrame<'a>>, Error>
    where
        E: FrameEncoder<M>,
    {
        if !self.io.is_write_vectored() {
            return Ok(None);
        }
        self.encoder
            .borrow_frame(message)
            .map_err(|error| self.named(error))
    }

    /// Writes `message` from where it is, after all that is staged. Once a part of it is written, the rest is
    /// staged.
    fn poll_borrowed<M>(
        &mut self,
        cx: &mut Context<'_>,
        message: &M,
        accepted: &mut bool,
    ) -> Poll<Result<(), Error>>
    where
        E: FrameEncoder<M>,
    {
        if !*accepted {
            ready!(self.poll_drain(cx, 0))?;
            let Some(frame) = self.borrow(message)? else {
                // The encoder has changed its mind.
                self.offer(message)?;
                return self.poll_offer(cx, accepted);
            };
            let (slices, count) = frame.slices();
            let io = Pin::new(&mut self.io);
            let count = match ready!(io.poll_write_vectored(cx, &slices[..count])) {
                Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
                Ok(count) => count,
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            };
            *accepted = true;
            self.accepted += 1;
            if count < frame.len() {
                if let Err(error) = self.encoder.encode_frame(message, &mut self.stage) {
                    return Poll::Ready(Err(self.fail(error.into())));
                }
                self.stage.advance(count);
            }
        }
        self.poll_written(cx)
    }

    /// Writes what is offered after all that is staged. Once a part of it is written, the rest is staged.
    #[inline(always)]
    fn poll_offer(&mut self, cx: &mut Context<'_>, accepted: &mut bool) -> Poll<Result<(), Error>> {
        if !*accepted {
            ready!(self.poll_drain(cx, 0))?;
            if !self.offer.is_empty()
                && let Err(error) = ready!(self.offer.poll_write(Pin::new(&mut self.io), cx))
            {
                return Poll::Ready(Err(self.fail(error)));
            }
            *accepted = true;
            self.accepted += 1;
            if !self.offer.is_empty() {
                mem::swap(&mut self.stage, &mut self.offer);
            }
        }
        self.poll_written(cx)
    }
}

/// A `send`. It is written out, and its poll kept short, so that a caller's can take it in: right after a system
/// call a return is dear, because the kernel leaves no return addresses to predict it with.
struct Sending<'a, W, E, M> {
    writer: &'a mut FrameWriter<W, E>,
    /// Until it is offered.
    message: Option<M>,
    step: Step,
    accepted: bool,
}

#[derive(Clone, Copy)]
enum Step {
    Begin,
    /// What is to be written is in the writer's `offer`.
    Offered,
    /// It is written from where it is.
    Borrowed,
}

impl<W, E, M> Unpin for Sending<'_, W, E, M> {}

impl<W, E, M> Future for Sending<'_, W, E, M>
where
    W: AsyncWrite + Unpin,
    E: FrameEncoder<M>,
{
    type Output = Result<(), Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if let (Step::Begin, Some(message)) = (this.step, &this.message) {
            this.writer.check()?;
            if this.writer.borrow(message)?.is_some() {
                this.step = Step::Borrowed;
            } else {
                this.writer.offer(message)?;
                this.step = Step::Offered;
                this.message = None;
            }
        }
        match this.step {
            Step::Offered => this.writer.poll_offer(cx, &mut this.accepted),
            _ => this.poll_borrowed(cx),
        }
    }
}

impl<W, E, M> Sending<'_, W, E, M>
where
    W: AsyncWrite + Unpin,
    E: FrameEncoder<M>,
{
    #[cold]
    fn poll_borrowed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &self.message {
            Some(message) => self.writer.poll_borrowed(cx, message, &mut self.accepted),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<W, E, M> Sink<M> for FrameWriter<W, E>
where
    W: AsyncWrite + Unpin,
    E: FrameEncoder<M> + Unpin,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check()?;
        let left = self.bound - 1;
        self.poll_drain(cx, left)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        self.check()?;
        let this = &mut *self;
        match this.encoder.encode_frame(&message, &mut this.stage) {
            Ok(()) => {
                this.accepted += 1;
                Ok(())
            }
            Err(error) => Err(this.named(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_written(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_closed(cx)
    }
}

impl<W, E> MessageSink for FrameWriter<W, E>
where
    W: AsyncWrite + Unpin,
    E: FrameEncoder<Bytes> + Unpin,
{
    type Native = Bytes;
}

impl<W: AsFd, E> AsFd for FrameWriter<W, E> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<W: fmt::Debug, E: fmt::Debug> fmt::Debug for FrameWriter<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("io", &self.io)
            .field("encoder", &self.encoder)
            .field("pending", &self.stage.len())
            .field("accepted", &self.accepted)
            .field("failed", &self.failed)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
