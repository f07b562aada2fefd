//! The half that receives.

use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use sinew_core::{
    AdaptiveSpin, Credentials, Error, ErrorKind, Looked, Looks, TryRecvError, Wait, give_way,
};
use sinew_ring::{Consumer, Corruption, Frame, State};

use crate::batch::Batch;
use crate::link::{Half, Link, Parker};
use crate::options::Options;
use crate::segments::Mapped;
use crate::stats::ReceiverStats;
use crate::sys::{self, Memory};
use crate::turn::Turn;
use crate::wire::{
    FRAME_DATA, FRAME_MEMORY, FRAME_SEGMENT, FRAME_SEGMENT_END, FRAME_SKIPPABLE, SEGMENT_FRAME,
    decode_len,
};

/// The half of a [`Channel`](crate::Channel) that receives: a `Stream` of [`Bytes`].
///
/// Messages are copied out of the ring, or out of memory that the peer
/// [uses again](crate::Options::reused_memory), so that the peer cannot change what was received. Longer
/// ones are mapped instead, from sealed memory that nobody can change.
///
/// # Three ends
///
/// - The sender was closed: `None`, after everything that it published.
/// - It was dropped before that, or its process died: everything that it published, then an error
///   with [`is_peer_crashed`](Error::is_peer_crashed). A process that ends without running
///   destructors (`std::process::exit`) counts as one that died.
/// - It broke the protocol: an error with [`is_corrupted`](Error::is_corrupted), or of kind
///   [`Protocol`](ErrorKind::Protocol).
///
/// After an error the stream ends; `recv` repeats the error.
pub struct Receiver {
    link: Arc<Link>,
    consumer: Consumer<Memory>,
    spin: AdaptiveSpin,
    max_message: u64,
    segments: Mapped,
    /// Whether segments are borrowed instead of copied.
    trusted: bool,
    end: Option<End>,
    /// The error was yielded by the stream, which is over.
    fused: bool,
    closed: bool,
    armed: bool,
    parker: Option<Parker>,
    turn: Turn,
    stats: ReceiverStats,
}

/// A `recv`. Written out, as `send` is, because a message takes less time than the compiler's state machine.
struct Recv<'a>(&'a mut Receiver);

impl Future for Recv<'_> {
    type Output = Result<Option<Bytes>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_recv(cx, Looks::ALONE)
    }
}

/// A `recv_into`.
struct RecvInto<'a>(&'a mut Receiver, &'a mut Vec<u8>);

impl Future for RecvInto<'_> {
    type Output = Result<Option<usize>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self(receiver, buffer) = &mut *self;
        receiver.poll_recv_into(cx, buffer)
    }
}

#[derive(Debug, Clone)]
enum End {
    Closed,
    Failed(Error),
}

/// The oldest message, where it lies.
pub(crate) enum Head {
    Ring(Frame),
    Memory(Bytes),
    /// In a segment, of a peer that is trusted; its frame is not released yet.
    Segment {
        frame: Frame,
        bytes: Bytes,
    },
}

impl Receiver {
    pub(crate) fn new(link: Arc<Link>, consumer: Consumer<Memory>, options: &Options) -> Self {
        Self {
            link,
            consumer,
            spin: AdaptiveSpin::new(options.wait, options.spin_limit),
            max_message: options.max_message,
            segments: Mapped::default(),
            trusted: false,
            end: None,
            fused: false,
            closed: false,
            armed: false,
            parker: None,
            turn: Turn::default(),
            stats: ReceiverStats::default(),
        }
    }

    /// Receives the next message; `None` once the sender was closed and everything was received.
    ///
    /// # Errors
    ///
    /// See [*Three ends*](Self#three-ends). For a message above the peer's threshold, `EMFILE` or
    /// `ENOMEM` where this process cannot map it; it is lost then, and the channel ends.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send + '_ {
        Recv(self)
    }

    /// Receives the next message by appending it to `buffer`, which saves the allocation. Returns its
    /// length, or `None` as [`recv`](Self::recv) does.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    #[inline]
    pub fn recv_into<'a>(
        &'a mut self,
        buffer: &'a mut Vec<u8>,
    ) -> impl Future<Output = Result<Option<usize>, Error>> + Send + 'a {
        RecvInto(self, buffer)
    }

    /// Receives as many messages as are there, at least one, at most `batch`'s size, with one copy for
    /// all that lie in the ring. Returns how many, zero at the end.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: messages are taken in the poll that returns them.
    pub async fn recv_batch(&mut self, batch: &mut Batch) -> Result<usize, Error> {
        batch.clear();
        let Some(head) = poll_fn(|cx| self.poll_head(cx, Looks::ALONE)).await? else {
            return Ok(0);
        };
        self.fill(head, batch)
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        match self.try_head() {
            Ok(Some(head)) => Ok(self.take(head)),
            Err(error) => Err(TryRecvError::Failed(error)),
            Ok(None) => {
                if self.link.take_event(Half::Receiver) {
                    self.look_at_socket()?;
                }
                match self.fate()? {
                    // What was published before the end is still to be had.
                    Some(()) => match self.try_head()? {
                        Some(head) => Ok(self.take(head)),
                        None if self.consumer.is_ready() => Err(TryRecvError::Empty),
                        None => {
                            // Frames that were skipped just now kept it from being known.
                            self.fate()?;
                            match self.end_now() {
                                End::Closed => Err(TryRecvError::Closed),
                                End::Failed(error) => Err(error.into()),
                            }
                        }
                    },
                    None => Err(TryRecvError::Empty),
                }
            }
        }
    }

    /// As [`recv`](Self::recv), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Option<Bytes>, Error> {
        let head = self.block_on(None)?;
        Ok(head.flatten().map(|head| self.take(head)))
    }

    /// As [`blocking_recv`](Self::blocking_recv), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, after which it may be called
    /// again; otherwise as for [`recv`](Self::recv).
    pub fn blocking_recv_timeout(&mut self, timeout: Duration) -> Result<Option<Bytes>, Error> {
        match self.block_on(Instant::now().checked_add(timeout))? {
            Some(head) => Ok(head.map(|head| self.take(head))),
            None => Err(self.link.error(
                Error::new(ErrorKind::TimedOut, "recv").with_detail(format!("timeout={timeout:?}")),
            )),
        }
    }

    /// As [`recv_batch`](Self::recv_batch), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn blocking_recv_batch(&mut self, batch: &mut Batch) -> Result<usize, Error> {
        batch.clear();
        match self.block_on(None)?.flatten() {
            Some(head) => self.fill(head, batch),
            None => Ok(0),
        }
    }

    /// Closes this direction: the peer's `send` fails once it has noticed, at the latest when the ring
    /// is full. What it has published so far may still be received, and `None` follows.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.consumer.close(State::Closed) {
            self.ring();
        }
    }

    /// Changes how this half waits from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.spin.set_wait(wait);
    }

    /// Who is at the other end, as the kernel vouched for when it connected.
    pub fn peer(&self) -> Credentials {
        self.link.peer
    }

    /// What this half has done so far.
    pub fn stats(&self) -> ReceiverStats {
        ReceiverStats {
            spins: self.spin.hits(),
            spin_misses: self.spin.misses(),
            ..self.stats
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Polls for the next message: see [`recv`](Self::recv).
    #[inline]
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        looks: Looks,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        ready!(self.turn.poll_proceed(cx));
        if let Some(frame) = self.at_once(looks) {
            let mut bytes = Vec::new();
            self.consumer.append_to(&frame, &mut bytes);
            self.consume(frame);
            return Poll::Ready(Ok(Some(Bytes::from(bytes))));
        }
        let head = ready!(self.poll_later_head(cx, looks))?;
        Poll::Ready(Ok(head.map(|head| self.take(head))))
    }

    #[inline]
    pub(crate) fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<Result<Option<usize>, Error>> {
        ready!(self.turn.poll_proceed(cx));
        if let Some(frame) = self.at_once(Looks::ALONE) {
            self.consumer.append_to(&frame, buffer);
            self.consume(frame);
            return Poll::Ready(Ok(Some(frame.len())));
        }
        let head = ready!(self.poll_later_head(cx, Looks::ALONE))?;
        Poll::Ready(Ok(head.map(|head| self.take_into(head, buffer))))
    }

    /// The common case by itself: a message in the ring, or one that comes at once.
    #[inline]
    fn at_once(&mut self, looks: Looks) -> Option<Frame> {
        let is_there = || self.consumer.is_ready();
        if self.end.is_some()
            || self.armed
            || !is_there() && self.spin.look(looks, is_there) != Looked::Ready
        {
            return None;
        }
        // What is amiss is found out, and told, by who looks next.
        let frame = self.consumer.peek().ok()??;
        if !self.is_data(&frame) {
            return None;
        }
        self.spin.succeed();
        Some(frame)
    }

    #[inline]
    fn is_data(&self, frame: &Frame) -> bool {
        frame.kind() == FRAME_DATA && frame.len() as u64 <= self.max_message
    }

    /// Polls for the next message, which stays where it is until `take` or `consume`.
    #[inline]
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        looks: Looks,
    ) -> Poll<Result<Option<Head>, Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.poll_later_head(cx, looks)
    }

    /// Polls for a message that is not there at once.
    #[inline(never)]
    fn poll_later_head(
        &mut self,
        cx: &mut Context<'_>,
        looks: Looks,
    ) -> Poll<Result<Option<Head>, Error>> {
        if self.armed {
            self.disarm();
        }
        loop {
            // What was skipped was work, too.
            ready!(self.turn.poll_proceed(cx));
            if let Some(head) = self.try_head()? {
                self.spin.succeed();
                return Poll::Ready(Ok(Some(head)));
            }
            if self.end.is_some()
                && let Some(end) = self.poll_end()?
            {
                return Poll::Ready(end);
            }
            match self.look(looks) {
                Looked::Ready => continue,
                Looked::Yield => {
                    // A receiver that never parks learns here that its peer is gone.
                    if self.link.take_event(Half::Receiver) {
                        self.look_at_socket()?;
                    }
                    if let Some(end) = self.poll_end()? {
                        return Poll::Ready(end);
                    }
                    give_way(cx);
                    return Poll::Pending;
                }
                Looked::Park => {}
            }
            self.link.register(Half::Receiver, cx.waker());
            self.arm();
            self.link.poll_events(Half::Receiver)?;
            if self.consumer.is_ready() {
                self.disarm();
                continue;
            }
            if let Some(end) = self.poll_end()? {
                return Poll::Ready(end);
            }
            if self.consumer.is_ready() {
                self.disarm();
                continue;
            }
            self.stats.parks += 1;
            tracing::trace!(parent: &self.link.span, "receiver parks");
            return Poll::Pending;
        }
    }

    /// The end, if it has come and nothing is left to receive.
    #[cold]
    fn poll_end(&mut self) -> Result<Option<Result<Option<Head>, Error>>, Error> {
        if self.fate()?.is_none() || self.consumer.is_ready() {
            return Ok(None);
        }
        self.disarm();
        Ok(Some(match self.end_now() {
            End::Closed => Ok(None),
            End::Failed(error) => Err(error),
        }))
    }

    /// `None` when `deadline` has passed.
    fn block_on(&mut self, deadline: Option<Instant>) -> Result<Option<Option<Head>>, Error> {
        loop {
            self.disarm();
            if let Some(head) = self.try_head()? {
                self.spin.succeed();
                return Ok(Some(Some(head)));
            }
            match self.look(Looks::ALONE) {
                Looked::Ready => continue,
                Looked::Yield => {
                    self.link.drain_now(Half::Receiver)?;
                    if let Some(end) = self.poll_end()? {
                        return end.map(Some);
                    }
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.spin.reset();
                        return Ok(None);
                    }
                    std::thread::yield_now();
                    continue;
                }
                Looked::Park => {}
            }
            let parker = match self.parker.take() {
                Some(parker) => parker,
                None => Parker::new(&self.link)?,
            };
            self.link.register(Half::Receiver, parker.waker());
            self.arm();
            self.link.drain_now(Half::Receiver)?;
            let mut in_time = true;
            if !self.consumer.is_ready() {
                if let Some(end) = self.poll_end()? {
                    return end.map(Some);
                }
                self.stats.parks += 1;
                tracing::trace!(parent: &self.link.span, "receiver parks");
                in_time = parker.park(deadline)?;
            }
            self.parker = Some(parker);
            if !in_time {
                self.disarm();
                return Ok(None);
            }
        }
    }

    /// The oldest message, if one is there.
    #[inline]
    fn try_head(&mut self) -> Result<Option<Head>, Error> {
        if let Some(End::Failed(error)) = &self.end {
            return Err(error.clone());
        }
        match self.consumer.peek() {
            Ok(None) => Ok(None),
            Ok(Some(frame)) if self.is_data(&frame) => Ok(Some(Head::Ring(frame))),
            Ok(Some(frame)) => self.open_head(frame),
            Err(corruption) => Err(self.corrupted(corruption)),
        }
    }

    /// The oldest message, if it is not in the ring, or lies behind frames that are no messages;
    /// `None` as well once a whole ring of those has passed, because a peer could go on for ever.
    #[cold]
    fn open_head(&mut self, mut frame: Frame) -> Result<Option<Head>, Error> {
        let limit = self.consumer.position() + self.consumer.capacity();
        loop {
            let opened = match frame.kind() {
                FRAME_DATA if self.is_data(&frame) => return Ok(Some(Head::Ring(frame))),
                FRAME_MEMORY if frame.len() == 8 => self.open_memory(&frame).map(Some),
                FRAME_SEGMENT if frame.len() == SEGMENT_FRAME => {
                    self.open_segment(&frame).map(Some)
                }
                FRAME_SEGMENT_END if frame.len() == 8 => {
                    self.segments.remove(self.word(&frame, 0)).map(|()| None)
                }
                kind if kind & FRAME_SKIPPABLE != 0 => Ok(None),
                kind => Err(Error::new(ErrorKind::Protocol, "recv")
                    .with_reason(format!("a frame of kind {kind} and {} bytes", frame.len()))),
            };
            match opened {
                // Released by its user.
                Ok(Some(head @ Head::Segment { .. })) => return Ok(Some(head)),
                Ok(Some(Head::Memory(bytes))) => {
                    self.stats.memories += 1;
                    self.consume_of(frame, bytes.len());
                    return Ok(Some(Head::Memory(bytes)));
                }
                Ok(_) => {
                    self.turn.spend(frame.len());
                    if self.consumer.release(frame) {
                        self.ring();
                    }
                }
                Err(error) => return Err(self.fail(error)),
            }
            frame = match self.consumer.peek() {
                Ok(Some(frame)) if self.consumer.position() < limit => frame,
                Ok(_) => return Ok(None),
                Err(corruption) => return Err(self.corrupted(corruption)),
            };
        }
    }

    fn open_memory(&mut self, frame: &Frame) -> Result<Head, Error> {
        let len = decode_len(self.word(frame, 0), self.max_message)?;
        self.link.take_memory(len).map(Head::Memory)
    }

    fn open_segment(&mut self, frame: &Frame) -> Result<Head, Error> {
        let number = self.word(frame, 0);
        let len = decode_len(self.word(frame, 8), self.max_message)?;
        if self.segments.is_next(number) {
            let segment = self.link.take_segment(self.segments.room())?;
            self.segments.add(segment);
        }
        let segment = self.segments.get(number, len)?;
        if self.trusted {
            return Ok(Head::Segment {
                frame: *frame,
                bytes: sys::trusted_segment(segment, len),
            });
        }
        segment.copy(len).map(Head::Memory)
    }

    /// A word of a frame's payload.
    fn word(&self, frame: &Frame, offset: usize) -> u64 {
        let mut word = [0; 8];
        self.consumer.copy_to(frame, offset, &mut word);
        u64::from_le_bytes(word)
    }

    #[inline]
    fn look(&mut self, looks: Looks) -> Looked {
        let consumer = &self.consumer;
        self.spin.look(looks, || consumer.is_ready())
    }

    #[inline]
    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
        self.turn.spend(len);
    }

    #[inline]
    pub(crate) fn take(&mut self, head: Head) -> Bytes {
        match head {
            Head::Memory(bytes) => bytes,
            Head::Segment { frame, bytes } => {
                let copy = Bytes::copy_from_slice(&bytes);
                self.consume_of(frame, copy.len());
                copy
            }
            Head::Ring(frame) => {
                let mut bytes = Vec::new();
                self.consumer.append_to(&frame, &mut bytes);
                self.consume(frame);
                Bytes::from(bytes)
            }
        }
    }

    #[inline]
    fn take_into(&mut self, head: Head, buffer: &mut Vec<u8>) -> usize {
        match head {
            Head::Memory(bytes) => {
                buffer.extend_from_slice(&bytes);
                bytes.len()
            }
            Head::Segment { frame, bytes } => {
                buffer.extend_from_slice(&bytes);
                self.consume_of(frame, bytes.len());
                bytes.len()
            }
            Head::Ring(frame) => {
                self.consumer.append_to(&frame, buffer);
                self.consume(frame);
                frame.len()
            }
        }
    }

    fn fill(&mut self, head: Head, batch: &mut Batch) -> Result<usize, Error> {
        let frame = match head {
            Head::Ring(frame) => frame,
            head => {
                let bytes = self.take(head);
                batch.push_memory(bytes);
                return Ok(1);
            }
        };
        let copied = match self.consumer.copy_span(batch.span(), Batch::SPAN) {
            Ok(copied) => copied,
            Err(corruption) => return Err(self.corrupted(corruption)),
        };
        let (count, bytes, size) = batch.seal_span(self.max_message);
        if count > 0 {
            self.stats.messages += count as u64;
            self.stats.bytes += bytes;
            self.turn.spend(copied);
            if self.consumer.release_span(size) {
                self.ring();
            }
            return Ok(count);
        }
        // Longer than a span.
        let bytes = self.take(Head::Ring(frame));
        batch.push_memory(bytes);
        Ok(1)
    }

    /// Copies a part of the oldest message out, for readers that do not take whole messages.
    pub(crate) fn copy_to(&self, frame: &Frame, offset: usize, to: &mut [u8]) {
        self.consumer.copy_to(frame, offset, to);
    }

    pub(crate) fn append_to(&self, frame: &Frame, to: &mut Vec<u8>) {
        self.consumer.append_to(frame, to);
    }

    /// Whether messages in segments are borrowed, from a peer that is trusted, instead of copied.
    pub(crate) fn set_trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
    }

    /// Releases the oldest message.
    #[inline]
    pub(crate) fn consume(&mut self, frame: Frame) {
        self.consume_of(frame, frame.len());
    }

    /// Releases the frame of a message of `len` bytes.
    #[inline]
    pub(crate) fn consume_of(&mut self, frame: Frame, len: usize) {
        self.count(len);
        if self.consumer.release(frame) {
            self.ring();
        }
    }

    pub(crate) fn payload(&self, frame: &Frame) -> Option<std::ptr::NonNull<[u8]>> {
        self.consumer.payload(frame)
    }

    #[cold]
    fn ring(&mut self) {
        self.stats.rings += 1;
        self.link.ring();
    }

    fn arm(&mut self) {
        self.armed = true;
        self.consumer.arm();
    }

    fn disarm(&mut self) {
        self.armed = false;
        self.consumer.disarm();
    }

    #[cold]
    fn look_at_socket(&mut self) -> Result<(), Error> {
        match self.link.poll_events(Half::Receiver) {
            Ok(()) => Ok(()),
            // Not in a runtime: `try_recv` works without one, and nobody will tell it of events.
            Err(_) => {
                self.link.expect_event(Half::Receiver);
                self.link.drain_now(Half::Receiver)
            }
        }
    }

    /// Whether the sender publishes nothing more; what it has published may still be there.
    #[cold]
    fn fate(&mut self) -> Result<Option<()>, Error> {
        if self.end.is_some() {
            return Ok(Some(()));
        }
        // The order matters: a peer that has hung up changes its state no more.
        let hung_up = self.link.hung_up();
        let end = match self.consumer.peer_state() {
            Err(corruption) => return Err(self.corrupted(corruption)),
            Ok(State::Open) if self.closed => End::Closed,
            Ok(State::Open) if !hung_up => return Ok(None),
            Ok(State::Open) => End::Failed(match self.link.broken() {
                Some(error) => error,
                None => self.link.error(
                    Error::new(ErrorKind::PeerCrashed, "recv")
                        .with_reason("the sender's process ended without closing the channel"),
                ),
            }),
            Ok(State::Dropped) => End::Failed(
                self.link.error(
                    Error::new(ErrorKind::PeerCrashed, "recv")
                        .with_reason("the sender was dropped without closing the channel"),
                ),
            ),
            Ok(State::Aborted) => End::Failed(
                self.link.error(
                    Error::new(ErrorKind::Corrupted, "recv")
                        .with_reason("the sender gave up: it found that we break the protocol"),
                ),
            ),
            Ok(_) => End::Closed,
        };
        // Not kept yet: what was published before is to be received first.
        if !self.consumer.is_ready() {
            self.end = Some(end);
        }
        Ok(Some(()))
    }

    /// The end that `fate` found, once nothing is left.
    fn end_now(&self) -> End {
        self.end.clone().unwrap_or(End::Closed)
    }

    fn fail(&mut self, error: Error) -> Error {
        let error = self.link.error(error);
        tracing::warn!(parent: &self.link.span, %error, "receiver failed");
        self.end = Some(End::Failed(error.clone()));
        self.closed = true;
        if self.consumer.close(State::Aborted) {
            self.ring();
        }
        error
    }

    #[cold]
    fn corrupted(&mut self, corruption: Corruption) -> Error {
        self.fail(
            Error::new(ErrorKind::Corrupted, "recv")
                .with_reason(corruption.to_string())
                .with_remedy("the peer breaks the protocol; end this channel"),
        )
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A child that was forked leaves the channel to its parent.
        if self.link.is_here() {
            self.close();
        }
    }
}

impl AsFd for Receiver {
    /// The channel's socket, which becomes readable when the peer ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.link.address)
            .field("peer", &self.link.peer)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Stream for Receiver {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.fused {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx, Looks::SHARED));
        receiver.fused = item.is_err();
        Poll::Ready(item.transpose())
    }
}
