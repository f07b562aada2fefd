use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use sinew_core::{AdaptiveSpin, Error, ErrorKind, Looked, Looks, TryRecvError, Wait, give_way};
use sinew_ring::{Consumer, ControlBlock, Corruption, Frame, frame_size};

use super::block::{Block, Role, SLOT_HOLDER, SLOT_LABEL};
use super::claim::Claim;
use super::label::{Incoming, LABEL};
use super::options::Options;
use super::recovery;
use super::rest::Rest;
use super::sender::{block, corrupted, removed};
use super::tally::Tally;
use super::{FRAME_CRASH, FRAME_DATA, FRAME_END, FRAME_LABEL};
use crate::stats::ReceiverStats;
use crate::sys::{RegionMemory, resume_consumer};
use crate::turn::Turn;

/// How often an end that never parks looks whether the other is still there.
const LOOK: Duration = Duration::from_millis(10);

/// The end of a channel in named memory that receives: a `Stream` of [`Bytes`].
///
/// See [the module](super) for what is consumed, and how it ends. As a stream it is over after `None`, or an
/// error that is not [recoverable](Error::is_recoverable); [`recv`](Self::recv) goes on with the next sender.
pub struct Receiver {
    consumer: Consumer<RegionMemory>,
    tally: Tally,
    spin: AdaptiveSpin,
    rest: Rest,
    turn: Turn,
    await_successor: bool,
    incoming: Incoming,
    /// The last label that was consumed, by this process or a predecessor.
    label: u64,
    skipped: u64,
    /// The stream is over.
    fused: bool,
    /// The oldest message was shown, and not consumed.
    peeked: Option<Frame>,
    failed: Option<Error>,
    closed: bool,
    armed: bool,
    looked: Instant,
    stats: ReceiverStats,
    /// Last, for the end that this gives back.
    claim: Claim,
}

/// What comes next.
enum Item {
    Message(Frame),
    Ended,
    /// With the pid of the sender's process, where that is known.
    Crashed(Option<u32>),
}

impl Receiver {
    pub(super) fn open(block: Block, options: &Options, incoming: Incoming) -> Result<Self, Error> {
        let (claim, _predecessor) = Claim::new(block, Role::Receiver, incoming.holder())?;
        let resumed = resume_consumer(claim.block()).and_then(|consumer| {
            let tally = Tally::resume(claim.slot().clone(), consumer.position());
            Ok((consumer, tally.ok_or(Corruption::State)?))
        });
        let (consumer, tally) =
            resumed.map_err(|corruption| corrupted(claim.block(), "open", corruption))?;
        claim.block().region().check_intact()?;
        let label = claim.slot()[SLOT_LABEL].load(Ordering::Relaxed);
        incoming.hear(label);
        Ok(Self {
            incoming,
            label,
            skipped: 0,
            consumer,
            tally,
            spin: AdaptiveSpin::new(options.wait, options.spin_limit),
            rest: Rest::default(),
            turn: Turn::default(),
            await_successor: options.await_successor,
            fused: false,
            peeked: None,
            failed: None,
            closed: false,
            armed: false,
            looked: Instant::now(),
            stats: ReceiverStats::default(),
            claim,
        })
    }

    /// Makes this the receiver of a client's session, which begins now.
    pub(super) fn begin(&mut self, session: u64) -> Result<(), Error> {
        let since = self.claim.block().cursor(Role::Sender)?;
        let since = since.load(Ordering::Acquire) & !ControlBlock::FLAGS;
        self.incoming = Incoming::Client { session, since };
        Ok(())
    }

    /// Receives the next message, and consumes it; `None` once the sender was closed and everything was received.
    ///
    /// # Errors
    ///
    /// Of kind [`PeerCrashed`](ErrorKind::PeerCrashed) if the sender's process died, after everything that it had published;
    /// it may be called again after that. [`Corrupted`](ErrorKind::Corrupted) if the memory was truncated or
    /// overwritten.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is consumed in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_recv(cx, Looks::ALONE)).await
    }

    /// As [`recv`](Self::recv), by appending the message to `buffer`, which saves the allocation. Returns its length.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is consumed in the poll that returns it.
    pub async fn recv_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        poll_fn(|cx| {
            let item = ready!(self.poll_item(cx, Looks::ALONE))?;
            Poll::Ready(self.take_into(item, buffer))
        })
        .await
    }

    /// Shows the next message, as [`recv`](Self::recv) does, without consuming it: the next call gives the same again,
    /// and so does one of a successor, until [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sinew_memory::Region;
    /// # use sinew_shm::named::Options;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sinew_core::Error> {
    /// # let region = Region::anonymous(65536)?;
    /// # let mut sender = Options::new().open_sender(region.clone()).await?;
    /// # sender.send("a job").await?;
    /// # sender.close().await?;
    /// # let mut receiver = Options::new().open_receiver(region).await?;
    /// # let mut done = Vec::new();
    /// while let Some(job) = receiver.peek().await? {
    ///     done.push(job); // If this process dies here, its successor gets the job.
    ///     receiver.commit()?;
    /// }
    /// # assert_eq!(done, ["a job"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn peek(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| {
            let item = ready!(self.poll_item(cx, Looks::ALONE))?;
            Poll::Ready(match self.told(item)? {
                None => Ok(None),
                Some(frame) => {
                    let bytes = self.copy(&frame)?;
                    self.peeked = Some(frame);
                    Ok(Some(bytes))
                }
            })
        })
        .await
    }

    /// Consumes the message that was [shown](Self::peek) last. False if there is none that was shown and not yet consumed.
    ///
    /// # Errors
    ///
    /// Of kind [`Corrupted`](ErrorKind::Corrupted) if the memory was truncated.
    pub fn commit(&mut self) -> Result<bool, Error> {
        let Some(frame) = self.peeked.take() else {
            return Ok(false);
        };
        self.consume(frame, 1);
        self.count(frame.len());
        self.check_intact()?;
        Ok(true)
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) where
    /// [`recv`](Self::recv) gives `None`; otherwise as for that.
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        let item = match self.next()? {
            Some(item) => item,
            None => self.fate()?.ok_or(TryRecvError::Empty)?,
        };
        self.take(item)?.ok_or(TryRecvError::Closed)
    }

    /// As [`recv`](Self::recv), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(item) = self.next()? {
                return self.take(item);
            }
            if let Some(item) = self.fate()? {
                return self.take(item);
            }
            match self.look(Looks::ALONE) {
                Looked::Ready => continue,
                Looked::Yield => {
                    std::thread::yield_now();
                    continue;
                }
                Looked::Park => {}
            }
            let bell = self.claim.bell().load(Ordering::SeqCst);
            self.arm();
            if !self.consumer.is_ready() {
                self.stats.parks += 1;
                block(self.claim.bell(), bell)?;
            }
            self.disarm();
        }
    }

    /// Gives this end up, for another receiver to take. What was not consumed stays for that.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.peeked = None;
        // A child that was forked leaves the channel to its parent.
        if !self.claim.is_mine() {
            return;
        }
        self.rest.wake();
        self.disarm();
        self.claim.give_back();
    }

    /// How many messages were consumed since the channel was laid, by this process and its predecessors: the number,
    /// from zero on, of the next one.
    ///
    /// It is exact, wherever a predecessor was killed.
    pub fn consumed(&self) -> u64 {
        self.tally.count()
    }

    /// How many messages this client has skipped, as they were for [an earlier
    /// one](super#two-directions). They count as [consumed](Self::consumed). Zero for all other
    /// receivers.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> u64 {
        self.claim.block().max_message()
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.claim.block().capacity()
    }

    /// Returns the pid of the sender's process, if there is one now: its number in its own pid
    /// namespace.
    pub fn peer(&self) -> Option<u32> {
        let is_there = self.claim.peer().is_some() && self.claim.dead_peer().is_none();
        is_there.then(|| self.claim.peer_pid())
    }

    /// Changes how this end waits from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.spin.set_wait(wait);
    }

    /// What this end has done so far.
    pub fn stats(&self) -> ReceiverStats {
        ReceiverStats {
            spins: self.spin.hits(),
            spin_misses: self.spin.misses(),
            ..self.stats
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        looks: Looks,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let item = ready!(self.poll_item(cx, looks))?;
        Poll::Ready(self.take(item))
    }

    fn poll_item(&mut self, cx: &mut Context<'_>, looks: Looks) -> Poll<Result<Item, Error>> {
        ready!(self.turn.poll_proceed(cx));
        loop {
            if let Some(item) = self.next()? {
                self.rested();
                return Poll::Ready(Ok(item));
            }
            match self.look(looks) {
                Looked::Ready => continue,
                Looked::Yield => {
                    if self.looked.elapsed() > LOOK {
                        self.looked = Instant::now();
                        if let Some(item) = self.fate()? {
                            return Poll::Ready(Ok(item));
                        }
                    }
                    give_way(cx);
                    return Poll::Pending;
                }
                Looked::Park => {}
            }
            if let Some(item) = self.fate()? {
                self.rested();
                return Poll::Ready(Ok(item));
            }
            let bell = self.claim.bell().load(Ordering::SeqCst);
            self.arm();
            if self.consumer.is_ready() {
                continue;
            }
            let Self {
                claim,
                consumer,
                rest,
                ..
            } = self;
            let head = consumer.position();
            let woken = rest.poll(cx, claim.bell(), bell, || {
                let cursor = claim.block().cursor(Role::Sender)?;
                let sender = claim.peer_slot().clone();
                let presence = claim.presence().clone();
                let block = claim.block().clone();
                Ok(move || {
                    let published = cursor.load(Ordering::Acquire) & !ControlBlock::FLAGS;
                    let holder = sender[SLOT_HOLDER].load(Ordering::Acquire);
                    let died = presence.has_ended(holder);
                    recovery::must_look(published, head, died)
                        || cursor.region().is_truncated()
                        || (holder == 0 && block.is_removed())
                })
            });
            if woken.is_pending() {
                self.stats.parks += 1;
                return Poll::Pending;
            }
            self.disarm();
            ready!(woken)?;
        }
    }

    /// What is there, if anything is.
    fn next(&mut self) -> Result<Option<Item>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.closed {
            return Ok(Some(Item::Ended));
        }
        if !self.claim.is_mine() {
            return Err(self.claim.not_mine("recv"));
        }
        loop {
            let frame = match self.consumer.peek() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.check_intact()?;
                    return Ok(None);
                }
                Err(corruption) => return Err(self.corrupted(corruption)),
            };
            match frame.kind() {
                FRAME_DATA if self.incoming.takes(self.label) => {
                    return Ok(Some(Item::Message(frame)));
                }
                FRAME_DATA => {
                    self.consume(frame, 1);
                    self.skipped += 1;
                }
                FRAME_END => {
                    let told = self.incoming.tells(self.consumer.position());
                    self.consume(frame, 0);
                    if told && !self.await_successor {
                        return Ok(Some(Item::Ended));
                    }
                }
                FRAME_CRASH => {
                    let told = self.incoming.tells(self.consumer.position());
                    self.consume(frame, 0);
                    if told {
                        return Ok(Some(Item::Crashed(None)));
                    }
                }
                FRAME_LABEL if frame.len() == LABEL && !self.incoming.is_plain() => {
                    self.read_label(frame)?;
                }
                kind => {
                    self.check_intact()?;
                    let error = self.error(
                        Error::new(ErrorKind::Corrupted, "recv")
                            .with_reason(format!("a frame of kind {kind}"))
                            .with_remedy(
                                "something has overwritten it: remove it, and lay it anew",
                            ),
                    );
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    fn read_label(&mut self, frame: Frame) -> Result<(), Error> {
        let mut label = [0; LABEL];
        self.consumer.copy_to(&frame, 0, &mut label);
        self.check_intact()?;
        self.label = u64::from_ne_bytes(label);
        // Before the frame is released: a successor finds the label in the one place or the other.
        self.claim.slot()[SLOT_LABEL].store(self.label, Ordering::Release);
        self.consume(frame, 0);
        self.incoming.hear(self.label);
        Ok(())
    }

    /// What has become of the sender, if it has died and everything that it had published is consumed.
    fn fate(&mut self) -> Result<Option<Item>, Error> {
        let Some(dead) = self.claim.dead_peer() else {
            if self.claim.peer().is_none() && self.claim.block().is_removed() {
                // What one that has left meanwhile had published.
                return match self.next()? {
                    Some(item) => Ok(Some(item)),
                    None => Err(removed(self.claim.block(), "recv")),
                };
            }
            return Ok(None);
        };
        let pid = self.claim.peer_pid();
        // Published before it died, and hence seen by now.
        if let Some(item) = self.next()? {
            return Ok(Some(item));
        }
        // One that was closed, and was about to give its end back, has said so.
        let closed = self.claim.peer_was_closed(self.consumer.position());
        if !self.claim.bury(dead) {
            return Ok(None);
        }
        Ok((!closed).then_some(Item::Crashed(Some(pid))))
    }

    /// The message, `None` for an end, and an error for a death.
    fn told(&mut self, item: Item) -> Result<Option<Frame>, Error> {
        match item {
            Item::Message(frame) => Ok(Some(frame)),
            Item::Ended => Ok(None),
            Item::Crashed(pid) => {
                let who = match pid {
                    Some(pid) => format!("the sender's process {pid} died"),
                    None => "the sender's process died, or dropped the sender,".to_owned(),
                };
                let error = self.error(
                    Error::new(ErrorKind::PeerCrashed, "recv")
                        .with_reason(format!("{who} without closing the channel")),
                );
                Err(match self.await_successor {
                    true => error.into_recoverable(),
                    false => error,
                })
            }
        }
    }

    fn take(&mut self, item: Item) -> Result<Option<Bytes>, Error> {
        let Some(frame) = self.told(item)? else {
            return Ok(None);
        };
        let bytes = self.copy(&frame)?;
        self.consume(frame, 1);
        self.count(frame.len());
        Ok(Some(bytes))
    }

    fn take_into(&mut self, item: Item, buffer: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        let Some(frame) = self.told(item)? else {
            return Ok(None);
        };
        let start = buffer.len();
        self.consumer.append_to(&frame, buffer);
        if let Err(error) = self.check_intact() {
            buffer.truncate(start);
            return Err(error);
        }
        self.consume(frame, 1);
        self.count(frame.len());
        Ok(Some(frame.len()))
    }

    fn copy(&mut self, frame: &Frame) -> Result<Bytes, Error> {
        let mut bytes = Vec::new();
        self.consumer.append_to(frame, &mut bytes);
        self.check_intact()?;
        Ok(bytes.into())
    }

    /// Moves the cursor past the oldest frame, by which `messages` are consumed.
    #[inline]
    fn consume(&mut self, frame: Frame, messages: u64) {
        self.peeked = None;
        let end = self.consumer.position() + frame_size(frame.len() as u64);
        self.tally.prepare(end, messages);
        let ring = self.consumer.release(frame);
        self.tally.settle(messages);
        if ring {
            self.ring();
        }
    }

    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
        self.turn.spend(len);
    }

    #[inline]
    fn look(&mut self, looks: Looks) -> Looked {
        let consumer = &self.consumer;
        self.spin.look(looks, || consumer.is_ready())
    }

    #[cold]
    fn ring(&mut self) {
        self.stats.rings += 1;
        self.claim.ring();
    }

    /// Takes back what a wait that was given up has left.
    #[inline]
    fn rested(&mut self) {
        if self.armed {
            self.disarm();
        }
        self.rest.wake();
        self.spin.succeed();
    }

    fn arm(&mut self) {
        self.armed = true;
        self.consumer.arm();
    }

    fn disarm(&mut self) {
        self.armed = false;
        self.consumer.disarm();
    }

    fn check_intact(&mut self) -> Result<(), Error> {
        match self.claim.block().region().check_intact() {
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    #[cold]
    fn corrupted(&mut self, corruption: Corruption) -> Error {
        let error = corrupted(self.claim.block(), "recv", corruption);
        self.failed = Some(error.clone());
        error
    }

    fn error(&self, error: Error) -> Error {
        error.with_address(self.claim.block().region().name())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("region", &self.claim.block().region().name())
            .field("consumed", &self.consumed())
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
        receiver.fused = match &item {
            Ok(message) => message.is_none(),
            Err(error) => !error.is_recoverable(),
        };
        Poll::Ready(item.transpose())
    }
}
