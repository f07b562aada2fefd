//! The half that sends.

mod fate;
mod large;
mod sink;
mod stage;
mod wait;

pub(crate) use sink::unready;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sinew_core::{AdaptiveSpin, Credentials, Error, ErrorKind, TrySendError, Wait};
use sinew_memory::Frozen;
use sinew_ring::{FrameBuffer, Producer, State};

use crate::link::{Link, Parker};
use crate::loan::Loan;
use crate::options::Options;
use crate::segments::Pool;
use crate::stats::SenderStats;
use crate::sys::Memory;
use crate::turn::Turn;

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
/// Dropping the sender before it was [closed](Self::close) publishes what is staged, and is a crash
/// to the peer: its receiver gets everything, and then an error with
/// [`is_peer_crashed`](Error::is_peer_crashed). So a task that fails midway, or panics, does not look
/// as if it had sent all.
///
/// # When a `send` learns of a death
///
/// The kernel hangs the socket up when the receiver's process ends, and Tokio reports that to this
/// runtime. From the first poll after that, `send` fails with
/// [`PeerCrashed`](ErrorKind::PeerCrashed); messages published between the death and that moment
/// are lost, though `send` returned `Ok`. A task that never yields learns of it when its budget is
/// used up, after some 2,000 small messages. Without a runtime, `try_send` and `blocking_send` look
/// at the socket once a millisecond. [`close`](Self::close) looks for itself, and fails if a dead
/// receiver left messages behind.
///
/// # Back-pressure
///
/// There is room for [`capacity`](crate::Options::capacity) bytes, and for eight messages above the
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
/// sender.close().await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(receiver.recv().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct Sender {
    link: Arc<Link>,
    producer: Producer<Memory>,
    spin: AdaptiveSpin,
    threshold: usize,
    max_message: u64,
    /// Where the descriptor frames end whose memory may still be under way.
    memories: VecDeque<u64>,
    pool: Pool,
    /// What the sink took and could not stage yet.
    pending: Option<Pending>,
    failed: Option<Error>,
    closed: bool,
    /// What the receiver is told if this is dropped without having been closed.
    when_dropped: State,
    armed: bool,
    parker: Option<Parker>,
    looked: Option<Instant>,
    turn: Turn,
    /// Of batches; kept for its memory.
    frames: FrameBuffer,
    stats: SenderStats,
}

/// A message on its way into the ring.
/// A `send`. Written out, because a message takes less time than the compiler's state machine.
struct Sending<'a, P> {
    sender: &'a mut Sender,
    payload: P,
    /// What was made of a payload above the threshold.
    memory: Option<Frozen>,
}

impl<P> Unpin for Sending<'_, P> {}

impl<P: AsRef<[u8]>> Future for Sending<'_, P> {
    type Output = Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self {
            sender,
            payload,
            memory,
        } = self.get_mut();
        let payload = payload.as_ref();
        match payload.len() <= sender.threshold {
            true => sender.poll_send(cx, payload),
            false => sender.poll_send_large(cx, payload, memory),
        }
    }
}

enum Pending {
    Data(Bytes),
    Memory(Frozen),
}

/// What keeps a message out of the ring for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// No room for a payload of this many bytes, or for more memory under way.
    Room { len: usize, memory: bool },
    /// The receiver's cursor has not come so far, at which a segment is free.
    Released(u64),
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
        let reused = match link.features.segments() {
            true => options.reused_memory,
            false => 0,
        };
        Ok(Self {
            link,
            producer,
            spin: AdaptiveSpin::new(options.wait, options.spin_limit),
            threshold,
            max_message: their_max_message,
            memories: VecDeque::new(),
            pool: Pool::new(reused),
            pending: None,
            failed: None,
            closed: false,
            when_dropped: State::Dropped,
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
    #[inline]
    pub fn send(&mut self, payload: impl AsRef<[u8]>) -> impl Future<Output = Result<(), Error>> {
        Sending {
            sender: self,
            payload,
            memory: None,
        }
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
                Some(error) => Err(TrySendError::failed(payload, error)),
                None => Err(TrySendError::Full(payload)),
            },
            Err(error) => Err(TrySendError::failed(payload, error)),
        }
    }

    /// Lends `len` bytes to write a message in place: in the ring up to the threshold, above it in
    /// memory that is [used again](crate::Options::reused_memory) or that the receiver will map.
    /// Waits for room.
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
            if !self.takes_segment(len) {
                return Loan::draft(self, len);
            }
            let at = poll_fn(|cx| self.poll_segment(cx, len)).await?;
            return Ok(Loan::segment(self, at, len));
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
        if payload.len() > self.threshold && !self.takes_segment(payload.len()) {
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
    /// As for [`send`](Self::send), if something was still staged;
    /// [`PeerCrashed`](ErrorKind::PeerCrashed) if the receiver's process died before it received everything.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// As [`close`](Self::close), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`close`](Self::close).
    pub fn blocking_close(&mut self) -> Result<(), Error> {
        if self.has_unsent() && !self.closed {
            let sent = self.block_on(|sender| sender.stage_pending(None));
            if sent.is_ok() || self.failed.is_some() {
                self.close_now(State::Closed);
            }
            return sent;
        }
        self.finish()
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
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            spins: self.spin.hits(),
            spin_misses: self.spin.misses(),
            ..self.stats
        }
    }

    /// Whether the receiver takes it for the end if this is dropped, as that of a socket's bytes.
    pub(crate) fn ends_when_dropped(&mut self, ends: bool) {
        self.when_dropped = match ends {
            true => State::Closed,
            false => State::Dropped,
        };
    }

    /// Closes a direction in which nothing is to be sent.
    pub(crate) fn close_unused(&mut self) {
        self.close_now(State::Closed);
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether something was taken or staged that is not published yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.pending.is_some() || self.producer.has_staged()
    }

    pub(crate) fn producer(&mut self) -> &mut Producer<Memory> {
        &mut self.producer
    }

    #[cold]
    fn poll_send_large(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        memory: &mut Option<Frozen>,
    ) -> Poll<Result<(), Error>> {
        if self.takes_segment(payload.len()) {
            ready!(self.turn.poll_proceed(cx));
            self.take_event()?;
            loop {
                let Some(blocked) = self.stage_segment(payload, Some(cx))? else {
                    self.spin.succeed();
                    self.publish();
                    return Poll::Ready(Ok(()));
                };
                ready!(self.poll_blocked(cx, blocked))?;
            }
        }
        let memory = match memory {
            Some(memory) => memory,
            None => memory.insert(self.freeze(payload)?),
        };
        self.poll_send_frozen(cx, memory)
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
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves the channel to its parent.
        if !self.link.is_here() {
            return;
        }
        // One try for what the sink took: dropping cannot wait.
        let _blocked = self.stage_pending(None);
        self.close_now(self.when_dropped);
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
