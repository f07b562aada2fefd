//! The half that sends.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_sink::Sink;
use rustix::io::Errno;
use sinew_core::{Credentials, Error, ErrorKind, MessageSink, TrySendError};
use sinew_memory::Frozen;
use sinew_ring::{Corruption, FrameBuffer, Producer, PushError, State};

use crate::link::{Half, Link, Parker};
use crate::loan::Loan;
use crate::options::Options;
use crate::stats::SenderStats;
use crate::sys::{Lent, Memory};
use crate::turn::Turn;
use crate::wait::{Step, Wait, Waiter};
use crate::wire::{FRAME_DATA, FRAME_MEMORY, MAX_MEMORY_IN_FLIGHT, encode_memory_frame};

/// The longest message that a batch collects with others, bytes.
const MAX_COLLECTED: usize = 512;
/// Collected bytes that are staged together. With one message more they fit into the smallest ring.
const COLLECT: usize = 3072;

/// How often a sender without a runtime looks whether its peer is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The half of a [`Channel`](crate::Channel) that sends: a `Sink` of [`Bytes`].
///
/// A message is *published* once `send` (or `flush`, `try_send`, [`Loan::commit`]) has returned: it is
/// then in memory that outlives this process, and the peer gets it even if this process is killed.
///
/// Dropping the sender publishes what is staged and closes this direction: the peer's receiver gets
/// everything, then `None`.
///
/// # Back-pressure
///
/// There is room for [`capacity`](crate::Options::capacity) bytes, and for 16 messages above the
/// [`threshold`](crate::Options::threshold). When there is none, `send` waits until the receiver has
/// made some, and `try_send` hands the message back.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (left, right) = sinew_shm::pair()?;
/// let (mut sender, _) = left.split();
/// let (_, mut receiver) = right.split();
///
/// sender.send("hello").await?;
/// drop(sender);
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(receiver.recv().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct Sender {
    link: Arc<Link>,
    producer: Producer<Memory>,
    waiter: Waiter,
    threshold: usize,
    max_message: u64,
    /// Where the descriptor frames end whose memory may still be under way.
    memories: VecDeque<u64>,
    /// What the sink took and could not stage yet.
    pending: Option<Pending>,
    failed: Option<Error>,
    closed: bool,
    armed: bool,
    parker: Option<Parker>,
    looked: Option<Instant>,
    turn: Turn,
    /// Of batches; kept for its memory.
    frames: FrameBuffer,
    stats: SenderStats,
}

/// A message on its way into the ring.
enum Pending {
    Data(Bytes),
    Memory(Frozen),
}

/// What keeps a message out of the ring for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// No room for a payload of this many bytes, or for more memory under way.
    Room { len: usize, memory: bool },
    /// The socket is full.
    Socket,
}

impl Sender {
    pub(crate) fn new(
        link: Arc<Link>,
        producer: Producer<Memory>,
        options: &Options,
        their_max_message: u64,
    ) -> Result<Self, Error> {
        let threshold = options.checked_threshold(producer.capacity())?;
        // Above what the receiver takes, the slow path refuses.
        let threshold = threshold.min(usize::try_from(their_max_message).unwrap_or(usize::MAX));
        Ok(Self {
            link,
            producer,
            waiter: Waiter::new(options.wait, options.spin_limit),
            threshold,
            max_message: their_max_message,
            memories: VecDeque::new(),
            pending: None,
            failed: None,
            closed: false,
            armed: false,
            parker: None,
            looked: None,
            turn: Turn::default(),
            frames: FrameBuffer::new(),
            stats: SenderStats::default(),
        })
    }

    /// Sends a message, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](ErrorKind::Closed) if the receiver was closed,
    /// [`PeerCrashed`](ErrorKind::PeerCrashed) if its process died,
    /// [`Corrupted`](ErrorKind::Corrupted) if it broke the protocol, and
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) if the message is longer than it takes (the channel
    /// goes on then). A message above the threshold needs a descriptor: `EMFILE`, `ENFILE`,
    /// `ETOOMANYREFS`, and memory: `ENOMEM`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing of the message.
    pub async fn send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let payload = payload.as_ref();
        if payload.len() > self.threshold {
            let memory = self.freeze(payload)?;
            return self.send_frozen(&memory).await;
        }
        poll_fn(|cx| self.poll_send(cx, payload)).await
    }

    /// Sends immutable memory as a message, without copying it.
    ///
    /// This costs the same whatever the size, and the same memory may be sent any number of times, to
    /// any number of peers. The receiver maps it.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send).
    pub async fn send_frozen(&mut self, memory: &Frozen) -> Result<(), Error> {
        self.check_len(memory.len())?;
        poll_fn(|cx| self.poll_send_frozen(cx, memory)).await
    }

    /// Sends many messages, publishing them together where they fit: one look at the receiver's wait
    /// word and at most one ring for all that is staged at a time. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); those before the one that failed are sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe in that no message is lost in part or duplicated: those staged so far are published
    /// with the next use of the sender, or when it is dropped. How many there were
    /// [`stats`](Self::stats) tells.
    pub async fn send_batch<T: AsRef<[u8]>>(
        &mut self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, Error> {
        self.take_event()?;
        let mut frames = std::mem::take(&mut self.frames);
        let result = self.send_frames(&mut frames, payloads).await;
        frames.clear();
        self.frames = frames;
        self.publish();
        result
    }

    async fn send_frames<T: AsRef<[u8]>>(
        &mut self,
        frames: &mut FrameBuffer,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, Error> {
        let mut count = 0;
        for payload in payloads {
            let payload = payload.as_ref();
            count += 1;
            if payload.len() <= MAX_COLLECTED.min(self.threshold) {
                frames.push(FRAME_DATA, payload);
                if frames.size() >= COLLECT {
                    poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
                }
                continue;
            }
            poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
            if self.stage(payload)?.is_some() {
                self.send(payload).await?;
            }
        }
        poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
        // Staging never waits, so a batch gives others their turn at its end.
        self.publish();
        poll_fn(|cx| self.turn.poll_proceed(cx)).await;
        Ok(count)
    }

    fn poll_stage_all(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut FrameBuffer,
    ) -> Poll<Result<(), Error>> {
        while !frames.is_empty() {
            self.disarm();
            self.check_open()?;
            let blocked = match self.stage_pending(Some(cx))? {
                Some(blocked) => blocked,
                None => match self.producer.stage_all(frames) {
                    Ok(()) => {
                        self.stats.messages += frames.len() as u64;
                        self.stats.bytes += frames.payload_size() as u64;
                        self.turn.spend(frames.size());
                        frames.clear();
                        return Poll::Ready(Ok(()));
                    }
                    Err(PushError::Corrupted(corruption)) => {
                        return Poll::Ready(Err(self.corrupted(corruption)));
                    }
                    // Collected frames are fewer than what the smallest ring holds.
                    Err(_) => Blocked::Room {
                        len: frames.size(),
                        memory: false,
                    },
                },
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The
    /// message is handed back.
    pub fn try_send<T: AsRef<[u8]>>(&mut self, payload: T) -> Result<(), TrySendError<T>> {
        let sent = match self.take_event() {
            Ok(()) => self.stage(payload.as_ref()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(None) => {
                self.publish();
                Ok(())
            }
            Ok(Some(_)) => match self.fate() {
                Some(error) => Err(TrySendError::closed(payload, error)),
                None => Err(TrySendError::Full(payload)),
            },
            Err(error) => Err(TrySendError::closed(payload, error)),
        }
    }

    /// Lends `len` bytes to write a message in place: in the ring up to the threshold, in memory that
    /// the receiver will map above it. Waits for room.
    ///
    /// The bytes begin with whatever was there; [`Loan::commit`] sends as many as are wanted, and a
    /// loan that is dropped sends nothing.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is reserved before it is ready.
    pub async fn reserve(&mut self, len: usize) -> Result<Loan<'_>, Error> {
        if len > self.threshold {
            self.check_open()?;
            self.check_len(len)?;
            return Loan::draft(self, len);
        }
        poll_fn(|cx| self.poll_reserve(cx, len)).await?;
        Loan::ring(self, len)
    }

    /// Publishes what was staged, by [`Loan::stage`] or through the sink. It does not wait until that was
    /// received.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), if the sink had taken a message for which there was no room.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_pending(cx)).await
    }

    /// As [`send`](Self::send), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn blocking_send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let payload = payload.as_ref();
        self.look_now_and_then()?;
        if payload.len() > self.threshold {
            let memory = self.freeze(payload)?;
            return self.block_on(|sender| sender.stage_frozen(&memory, None));
        }
        self.block_on(|sender| sender.stage(payload))
    }

    /// Publishes what was staged through the sink, and closes this direction. The peer's receiver gets
    /// everything, then `None`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), if something was still staged.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Changes how this half waits from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.waiter.set_mode(wait);
    }

    /// Who is at the other end, as the kernel vouched for when it connected.
    pub fn peer(&self) -> Credentials {
        self.link.peer
    }

    /// What this half has done so far.
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            spins: self.waiter.hits,
            spin_misses: self.waiter.misses,
            ..self.stats
        }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn producer(&mut self) -> &mut Producer<Memory> {
        &mut self.producer
    }

    fn check_len(&self, len: usize) -> Result<(), Error> {
        if len as u64 <= self.max_message {
            return Ok(());
        }
        Err(self.link.error(
            Error::new(ErrorKind::LimitExceeded, "send")
                .with_detail(format!("{len} bytes"))
                .with_reason(format!(
                    "the receiver takes messages of up to {} bytes",
                    self.max_message
                ))
                .with_remedy("send it in parts, or raise max_message at the receiver"),
        ))
    }

    fn freeze(&self, payload: &[u8]) -> Result<Frozen, Error> {
        self.check_len(payload.len())?;
        Frozen::copy_from_slice(payload).map_err(|error| self.link.error(error))
    }

    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        // The common case by itself.
        if self.is_free()
            && payload.len() <= self.threshold
            && self.producer.stage(FRAME_DATA, payload).is_ok()
        {
            self.publish();
            self.count(payload.len());
            return Poll::Ready(Ok(()));
        }
        self.poll_send_slowly(cx, payload)
    }

    /// Whether nothing is in the way of a message, but perhaps room.
    #[inline]
    fn is_free(&self) -> bool {
        !self.armed
            && !self.closed
            && self.pending.is_none()
            && self.failed.is_none()
            && !self.link.has_event()
    }

    #[inline]
    fn poll_reserve(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        if self.is_free() && self.producer.has_room(len) == Ok(true) {
            return Poll::Ready(Ok(()));
        }
        self.check_open()?;
        self.poll_room(cx, len)
    }

    #[cold]
    fn poll_send_slowly(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<Result<(), Error>> {
        self.take_event()?;
        loop {
            let Some(blocked) = self.stage(payload)? else {
                self.publish();
                return Poll::Ready(Ok(()));
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    fn poll_send_frozen(
        &mut self,
        cx: &mut Context<'_>,
        memory: &Frozen,
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.take_event()?;
        loop {
            let Some(blocked) = self.stage_frozen(memory, Some(cx))? else {
                self.publish();
                return Poll::Ready(Ok(()));
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    /// Publishes a message of as many of the bytes as the threshold and the room allow, at least one.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let total = slices
            .iter()
            .fold(0usize, |sum, slice| sum.saturating_add(slice.len()));
        let len = total.min(self.threshold).max(usize::from(total > 0));
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        self.check_open()?;
        ready!(self.poll_room(cx, len))?;
        let lent = match Lent::new(&mut self.producer, len) {
            Ok(Some(lent)) => Some(lent),
            Err(PushError::Corrupted(corruption)) => {
                return Poll::Ready(Err(self.corrupted(corruption)));
            }
            Ok(None) | Err(_) => None,
        };
        let Some(mut lent) = lent else {
            let error = Error::new(ErrorKind::LimitExceeded, "write");
            return Poll::Ready(Err(self.link.error(error)));
        };
        let mut rest = lent.as_mut_slice();
        for slice in slices {
            let count = slice.len().min(rest.len());
            let (here, after) = rest.split_at_mut(count);
            here.copy_from_slice(&slice[..count]);
            rest = after;
        }
        self.commit_ring(len)?;
        Poll::Ready(Ok(len))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.take_event()?;
        loop {
            let blocked = match self.stage_pending(Some(cx))? {
                Some(blocked) => blocked,
                None if self.has_room(len, false)? => {
                    return Poll::Ready(Ok(()));
                }
                None => Blocked::Room { len, memory: false },
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.take_event()?;
        while let Some(blocked) = self.stage_pending(Some(cx))? {
            ready!(self.poll_blocked(cx, blocked))?;
        }
        self.publish();
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Where nothing is left to send, it does not matter that nobody receives.
        let left = self.pending.is_some() || self.producer.has_staged();
        if left && !self.closed {
            let sent = ready!(self.poll_pending(cx));
            if sent.is_err() && self.failed.is_none() {
                return Poll::Ready(sent);
            }
            self.close_now(State::Closed);
            return Poll::Ready(sent);
        }
        self.close_now(State::Closed);
        Poll::Ready(Ok(()))
    }

    /// Waits until what is blocked may go on; ready may be early.
    #[cold]
    fn poll_blocked(&mut self, cx: &mut Context<'_>, blocked: Blocked) -> Poll<Result<(), Error>> {
        self.publish();
        if let Blocked::Room { len, memory } = blocked {
            match self.look(len, memory) {
                Step::Ready => return Poll::Ready(Ok(())),
                Step::Yield => {
                    // A sender that never parks is never rung: it learns here that its peer has closed.
                    if let Some(error) = self.fate() {
                        return Poll::Ready(Err(error));
                    }
                    crate::turn::give(cx);
                    return Poll::Pending;
                }
                Step::Park => {}
            }
        }
        self.link.register(Half::Sender, cx.waker());
        self.arm();
        self.link.poll_events(Half::Sender)?;
        let room = match blocked {
            Blocked::Room { len, memory } => self.has_room(len, memory)?,
            // The send that found the socket full has registered for its room.
            Blocked::Socket => false,
        };
        if room {
            self.disarm();
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.fate() {
            self.disarm();
            return Poll::Ready(Err(error));
        }
        self.stats.parks += 1;
        Poll::Pending
    }

    fn block_on(
        &mut self,
        mut stage: impl FnMut(&mut Self) -> Result<Option<Blocked>, Error>,
    ) -> Result<(), Error> {
        loop {
            let Some(blocked) = stage(self)? else {
                self.publish();
                return Ok(());
            };
            self.publish();
            if let Blocked::Room { len, memory } = blocked {
                match self.look(len, memory) {
                    Step::Ready => continue,
                    Step::Yield => {
                        self.look_now_and_then()?;
                        std::thread::yield_now();
                        continue;
                    }
                    Step::Park => {}
                }
            }
            let parker = match self.parker.take() {
                Some(parker) => parker,
                None => Parker::new(&self.link)?,
            };
            self.link.register(Half::Sender, parker.waker());
            self.arm();
            self.link.drain_now(Half::Sender)?;
            let room = match blocked {
                Blocked::Room { len, memory } => self.has_room(len, memory)?,
                Blocked::Socket => false,
            };
            if !room {
                if let Some(error) = self.fate() {
                    return Err(error);
                }
                self.stats.parks += 1;
                parker.park(None)?;
            }
            self.disarm();
            self.parker = Some(parker);
        }
    }

    #[inline]
    fn look(&mut self, len: usize, memory: bool) -> Step {
        let Self {
            waiter,
            producer,
            memories,
            ..
        } = self;
        // A corrupt cursor ends the look, and is reported by the next stage.
        let mut room = || has_room(producer, memories, len, memory).unwrap_or(true);
        if waiter.glance(&mut room) {
            Step::Ready
        } else {
            waiter.look(room)
        }
    }

    fn has_room(&mut self, len: usize, memory: bool) -> Result<bool, Error> {
        has_room(&mut self.producer, &mut self.memories, len, memory)
            .map_err(|corruption| self.corrupted(corruption))
    }

    #[inline]
    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
        self.turn.spend(len);
    }

    /// Stages a message up to the threshold; what blocks it, if something does.
    #[inline]
    fn stage(&mut self, payload: &[u8]) -> Result<Option<Blocked>, Error> {
        if self.armed {
            self.disarm();
        }
        if self.failed.is_some() || self.closed || payload.len() > self.threshold {
            return self.stage_slow(payload);
        }
        if self.pending.is_some()
            && let Some(blocked) = self.stage_pending(None)?
        {
            return Ok(Some(blocked));
        }
        match self.producer.stage(FRAME_DATA, payload) {
            Ok(()) => {
                self.count(payload.len());
                Ok(None)
            }
            Err(PushError::Full) => Ok(Some(Blocked::Room {
                len: payload.len(),
                memory: false,
            })),
            Err(PushError::Corrupted(corruption)) => Err(self.corrupted(corruption)),
            // The threshold is below what the ring can hold.
            Err(_) => Err(self
                .link
                .error(Error::new(ErrorKind::LimitExceeded, "send"))),
        }
    }

    #[cold]
    fn stage_slow(&mut self, payload: &[u8]) -> Result<Option<Blocked>, Error> {
        self.check_open()?;
        let memory = self.freeze(payload)?;
        self.stage_frozen(&memory, None)
    }

    fn stage_frozen(
        &mut self,
        memory: &Frozen,
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        self.disarm();
        self.check_open()?;
        if self.pending.is_some()
            && let Some(blocked) = self.stage_pending(None)?
        {
            return Ok(Some(blocked));
        }
        self.stage_memory(memory, cx)
    }

    /// Sends the memory, then stages the frame that announces it: in this order, so that a receiver
    /// which sees the frame finds the memory on the socket.
    fn stage_memory(
        &mut self,
        memory: &Frozen,
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        let frame = encode_memory_frame(memory.len() as u64);
        if !self.has_room(frame.len(), true)? {
            return Ok(Some(Blocked::Room {
                len: frame.len(),
                memory: true,
            }));
        }
        let sent = match cx {
            Some(cx) => self.link.poll_send_memory(cx, memory),
            None => match self.link.send_memory(memory) {
                Err(Errno::AGAIN) => Poll::Pending,
                sent => Poll::Ready(sent.map_err(|errno| {
                    self.link
                        .error(Error::from_raw_os_error("sendmsg", errno.raw_os_error()))
                })),
            },
        };
        match sent {
            Poll::Pending => return Ok(Some(Blocked::Socket)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(self.socket_error(error)),
        }
        match self.producer.stage(FRAME_MEMORY, &frame) {
            Ok(()) => {}
            Err(PushError::Corrupted(corruption)) => return Err(self.corrupted(corruption)),
            Err(_) => {
                return Err(self
                    .link
                    .error(Error::new(ErrorKind::LimitExceeded, "send")));
            }
        }
        self.memories.push_back(self.producer.position());
        self.count(memory.len());
        self.stats.memories += 1;
        Ok(None)
    }

    /// A send on the socket failed: often because the peer is gone, which is the better thing to say.
    fn socket_error(&mut self, error: Error) -> Error {
        if !matches!(
            error.errno().map(Errno::from_raw_os_error),
            Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
        ) {
            return error;
        }
        match self.link.drain_now(Half::Sender) {
            Ok(()) => self.fate().unwrap_or(error),
            Err(error) => error,
        }
    }

    /// Stages what the sink took.
    fn stage_pending(&mut self, cx: Option<&mut Context<'_>>) -> Result<Option<Blocked>, Error> {
        let Some(pending) = self.pending.take() else {
            return Ok(None);
        };
        let blocked = match &pending {
            Pending::Data(payload) => self.stage(payload),
            Pending::Memory(memory) => {
                self.check_open()?;
                self.stage_memory(memory, cx)
            }
        };
        if !matches!(blocked, Ok(None)) && self.failed.is_none() {
            self.pending = Some(pending);
        }
        blocked
    }

    /// Sends a loan that was written in the ring.
    #[inline]
    pub(crate) fn commit_ring(&mut self, len: usize) -> Result<(), Error> {
        self.stage_ring(len)?;
        self.publish();
        Ok(())
    }

    /// Stages a loan that was written in the ring.
    #[inline]
    pub(crate) fn stage_ring(&mut self, len: usize) -> Result<(), Error> {
        match self.producer.commit(FRAME_DATA, len) {
            Ok(()) => {
                self.count(len);
                Ok(())
            }
            Err(PushError::Corrupted(corruption)) => Err(self.corrupted(corruption)),
            Err(_) => Err(self
                .link
                .error(Error::new(ErrorKind::LimitExceeded, "commit"))),
        }
    }

    /// Sends a loan that was written: as memory of its own.
    pub(crate) async fn commit_memory(&mut self, memory: &Frozen) -> Result<(), Error> {
        poll_fn(|cx| self.poll_send_frozen(cx, memory)).await
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.producer.publish() {
            self.stats.rings += 1;
            self.link.ring();
        }
    }

    fn arm(&mut self) {
        self.armed = true;
        self.producer.arm();
    }

    fn disarm(&mut self) {
        self.armed = false;
        self.producer.disarm();
    }

    /// Looks at the socket if something happened there: a sender that never waits learns there that
    /// its peer is gone.
    #[inline]
    fn take_event(&mut self) -> Result<(), Error> {
        if self.link.take_event() {
            self.look_at_socket()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn look_at_socket(&mut self) -> Result<(), Error> {
        if self.link.poll_events(Half::Sender).is_err() {
            // Not in a runtime: `try_send` works without one, and nobody will tell it of events.
            self.link.expect_event();
            return self.look_now_and_then();
        }
        self.fate().map_or(Ok(()), Err)
    }

    /// Looks at the socket without a runtime, but not with every message: that would be a system call
    /// for each.
    fn look_now_and_then(&mut self) -> Result<(), Error> {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL)
        {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        self.link.drain_now(Half::Sender)?;
        self.fate().map_or(Ok(()), Err)
    }

    fn check_open(&self) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.closed {
            let error = Error::new(ErrorKind::Closed, "send").with_reason("this sender was closed");
            return Err(self.link.error(error));
        }
        Ok(())
    }

    /// Whether, and why, nothing that is sent will be received any more.
    #[cold]
    fn fate(&mut self) -> Option<Error> {
        if let Some(error) = &self.failed {
            return Some(error.clone());
        }
        // The order matters: a peer that has hung up changes its state no more.
        let hung_up = self.link.hung_up();
        let error = match self.producer.peer_state() {
            Err(corruption) => return Some(self.corrupted(corruption)),
            Ok(State::Aborted) => Error::new(ErrorKind::Corrupted, "send")
                .with_reason("the receiver gave up: it found that we break the protocol"),
            Ok(State::Open) if !hung_up => return None,
            Ok(State::Open) => match self.link.broken() {
                Some(error) => error,
                None => Error::new(ErrorKind::PeerCrashed, "send")
                    .with_reason("the receiver's process ended without closing the channel"),
            },
            Ok(_) => Error::new(ErrorKind::Closed, "send").with_reason("the receiver was closed"),
        };
        let error = self.link.error(error);
        self.failed = Some(error.clone());
        Some(error)
    }

    #[cold]
    pub(crate) fn corrupted(&mut self, corruption: Corruption) -> Error {
        let error = self.link.error(
            Error::new(ErrorKind::Corrupted, "send")
                .with_reason(corruption.to_string())
                .with_remedy("the peer breaks the protocol; end this channel"),
        );
        tracing::warn!(peer = self.link.peer.pid, %error, "channel is corrupted");
        self.failed = Some(error.clone());
        self.close_now(State::Aborted);
        error
    }

    fn close_now(&mut self, state: State) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.producer.close(state) {
            self.link.ring();
        }
    }
}

/// Whether a payload fits, and, if it announces memory, whether that may be under way too.
fn has_room(
    producer: &mut Producer<Memory>,
    memories: &mut VecDeque<u64>,
    len: usize,
    memory: bool,
) -> Result<bool, Corruption> {
    if !producer.has_room(len)? {
        return Ok(false);
    }
    if memory && memories.len() >= MAX_MEMORY_IN_FLIGHT {
        let released = producer.refresh()?;
        while memories.front().is_some_and(|end| *end <= released) {
            memories.pop_front();
        }
        return Ok(memories.len() < MAX_MEMORY_IN_FLIGHT);
    }
    Ok(true)
}

impl Drop for Sender {
    fn drop(&mut self) {
        // One try for what the sink took: dropping cannot wait.
        let _blocked = self.stage_pending(None);
        self.close_now(State::Closed);
    }
}

impl AsFd for Sender {
    /// The channel's socket, which becomes readable when the peer ends.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.link.address)
            .field("peer", &self.link.peer)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Stages with `start_send`, publishes with `poll_flush`: one look at the receiver's wait word, and at
/// most one ring, for all that was staged. One message more than there is room for is kept here.
impl Sink<Bytes> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        ready!(sender.turn.poll_proceed(cx));
        sender.take_event()?;
        if sender.pending.is_some() {
            ready!(sender.poll_pending(cx))?;
        }
        sender.check_open()?;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        let sender = self.get_mut();
        if payload.len() > sender.threshold {
            sender.check_open()?;
            let memory = sender.freeze(&payload)?;
            if sender.stage_frozen(&memory, None)?.is_some() {
                sender.pending = Some(Pending::Memory(memory));
            }
            return Ok(());
        }
        if sender.stage(&payload)?.is_some() {
            sender.pending = Some(Pending::Data(payload));
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_finish(cx)
    }
}

impl MessageSink for Sender {
    type Native = Bytes;
}
