use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sinew_core::{AdaptiveSpin, Error, ErrorKind, Looked, Looks, TrySendError, Wait, give_way};
use sinew_ring::{ControlBlock, Corruption, Producer, PushError, frame_size};

use super::block::{Block, Role, SLOT_ENDED, SLOT_HOLDER, SLOT_OPENED, SLOT_TOLD, Slot};
use super::claim::Claim;
use super::label::{LABEL, Outgoing};
use super::options::Options;
use super::recovery::{self, Found};
use super::rest::{INTERVAL, Rest};
use super::tally::Tally;
use super::{FRAME_CRASH, FRAME_DATA, FRAME_END, FRAME_LABEL, SPARE};
use crate::stats::SenderStats;
use crate::sys::{RegionMemory, resume_producer};
use crate::turn::Turn;

/// How often an end that never parks looks whether the other is still there.
const LOOK: Duration = Duration::from_millis(10);

/// The end of a channel in named memory that sends: a `Sink` of [`Bytes`].
///
/// See [the module](super) for what is published, and how it ends.
pub struct Sender {
    producer: Producer<RegionMemory>,
    tally: Tally,
    spin: AdaptiveSpin,
    rest: Rest,
    turn: Turn,
    await_successor: bool,
    crash_on_drop: bool,
    /// What the sink took and could not stage yet, with its label.
    pub(super) pending: Option<(Bytes, u64)>,
    outgoing: Outgoing,
    /// The label that this process has staged last, or zero: one that is not zero has to be staged
    /// first.
    labelled: u64,
    /// Messages staged and not yet published.
    staged: u64,
    /// A predecessor whose death is to be told before anything else.
    dead: Option<u64>,
    /// The receiver that was dead when this was opened, or was found out to be.
    gone: u64,
    /// How often the receiver had been taken when this was opened, or one more if there was one.
    epoch: u64,
    failed: Option<Error>,
    closed: bool,
    armed: bool,
    looked: Instant,
    stats: SenderStats,
    /// Last, for the end that this gives back.
    claim: Claim,
}

impl Sender {
    pub(super) fn open(block: Block, options: &Options, outgoing: Outgoing) -> Result<Self, Error> {
        let (mut claim, predecessor) = Claim::new(block, Role::Sender, outgoing.holder())?;
        let resumed = resume_producer(claim.block()).and_then(|mut producer| {
            let tally = Tally::resume(claim.slot().clone(), producer.position());
            let tell = resume(claim.slot(), &mut producer, predecessor.is_some())?;
            Ok((producer, tally.ok_or(Corruption::State)?, tell))
        });
        let (producer, tally, tell) = match resumed {
            Ok(resumed) => resumed,
            Err(corruption) => {
                if let Some(dead) = predecessor {
                    claim.leave_to_tell(dead);
                }
                return Err(corrupted(claim.block(), "open", corruption));
            }
        };
        claim.block().region().check_intact()?;
        // First, so that a receiver which comes meanwhile counts as one that has been there.
        let epoch = claim.peer_epoch();
        let receiver = claim.peer();
        let gone = claim.dead_peer();
        let present = u64::from(receiver.is_some() && gone.is_none());
        let mut sender = Self {
            tally,
            spin: AdaptiveSpin::new(options.wait, options.spin_limit),
            rest: Rest::default(),
            turn: Turn::default(),
            await_successor: options.await_successor,
            crash_on_drop: options.crash_on_drop,
            pending: None,
            labelled: 0,
            outgoing,
            staged: 0,
            dead: predecessor.filter(|_| tell),
            gone: gone.unwrap_or_default(),
            epoch: epoch.wrapping_sub(present),
            failed: None,
            closed: false,
            armed: false,
            looked: Instant::now(),
            stats: SenderStats::default(),
            producer,
            claim,
        };
        // At once: somebody may be waiting for an answer of the one that died.
        sender.stage_crash()?;
        if let Outgoing::Client = sender.outgoing {
            // The server shall hear of this client, even if it only listens; with its first
            // message, if there is no room now.
            let _no_room = sender.stage_label(sender.label())?;
        }
        sender.publish()?;
        Ok(sender)
    }

    /// The session of the client whose end this is.
    pub(super) fn session(&self) -> u64 {
        self.claim.epoch()
    }

    /// The label of a message that is handed over now.
    #[inline]
    pub(super) fn label(&self) -> u64 {
        match &self.outgoing {
            Outgoing::Plain => 0,
            Outgoing::Client => self.session(),
            Outgoing::Server(heard) => heard.load(Ordering::Acquire),
        }
    }

    /// Sends a message, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// When there is no room: of kind [`Closed`](ErrorKind::Closed) if the receiver has left,
    /// [`PeerCrashed`](ErrorKind::PeerCrashed) if its process died. Both may be tried again when there is another, and do not occur
    /// with [`await_successor`](Options::await_successor). [`LimitExceeded`](ErrorKind::LimitExceeded) for a message
    /// that is longer than the channel's, and [`Corrupted`](ErrorKind::Corrupted) if the memory was truncated or
    /// overwritten.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing of the message.
    pub async fn send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let payload = payload.as_ref();
        let label = self.label();
        poll_fn(|cx| self.poll_send(cx, payload, label)).await
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The message is handed
    /// back.
    pub fn try_send<T: AsRef<[u8]>>(&mut self, payload: T) -> Result<(), TrySendError<T>> {
        let label = self.label();
        match self.push(payload.as_ref(), label) {
            Ok(true) => Ok(()),
            Ok(false) => match self.fate() {
                Some(error) => Err(TrySendError::failed(payload, error)),
                None => Err(TrySendError::Full(payload)),
            },
            Err(error) => Err(TrySendError::failed(payload, error)),
        }
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
        let label = self.label();
        loop {
            if self.push(payload, label)? {
                return Ok(());
            }
            let need = self.need(payload.len(), label);
            let bell = self.claim.bell().load(Ordering::SeqCst);
            if let Some(error) = self.fate() {
                return Err(error);
            }
            match self.look(need) {
                Looked::Ready => continue,
                Looked::Yield => {
                    std::thread::yield_now();
                    continue;
                }
                Looked::Park => {}
            }
            self.arm(need);
            if !self.has_room(need)? {
                self.stats.parks += 1;
                block(self.claim.bell(), bell)?;
            }
            self.disarm();
        }
    }

    /// Publishes what was staged through the sink. It does not wait until that was received.
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

    /// Publishes what was staged through the sink, and closes this end. The receiver gets everything, then `None`.
    ///
    /// Another sender may be opened after that.
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

    /// How many messages were published since the channel was laid, by this process and its predecessors.
    ///
    /// It is exact, wherever a predecessor was killed: a sender that numbers its messages by this count knows
    /// which of them are published.
    pub fn published(&self) -> u64 {
        self.tally.count()
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> u64 {
        self.claim.block().max_message()
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.claim.block().capacity()
    }

    /// Returns the pid of the receiver's process, if there is one now: its number in its own pid
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
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            spins: self.spin.hits(),
            spin_misses: self.spin.misses(),
            ..self.stats
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        label: u64,
    ) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll_proceed(cx));
        loop {
            if self.push(payload, label)? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_blocked(cx, self.need(payload.len(), label)))?;
        }
    }

    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.turn.poll_proceed(cx)
    }

    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.stage_pending()? {
            // It is that of what is pending.
            ready!(self.poll_blocked(cx, self.need(0, 0)))?;
        }
        Poll::Ready(self.publish())
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.closed {
            let sent = ready!(self.poll_pending(cx));
            if sent.is_err() && self.failed.is_none() {
                return Poll::Ready(sent);
            }
            self.leave(FRAME_END);
            return Poll::Ready(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Publishes a message, if there is room for it and all that comes before it.
    fn push(&mut self, payload: &[u8], label: u64) -> Result<bool, Error> {
        if self.dead.is_some()
            || self.pending.is_some()
            || self.staged > 0
            || self.closed
            || self.labelled != label
        {
            let staged = self.stage(payload, label)?;
            // What came before it too, even if there was no room for this one: it takes room until
            // it is received.
            self.publish()?;
            return Ok(staged);
        }
        self.check_open()?;
        self.check_len(payload.len())?;
        if !self.has_room(payload.len() + SPARE)? {
            self.check_intact()?;
            return Ok(false);
        }
        self.rested();
        let end = self.producer.position() + frame_size(payload.len() as u64);
        self.tally.prepare(end, 1);
        match self.producer.send(FRAME_DATA, payload) {
            Ok(ring) => {
                self.tally.settle(1);
                if ring {
                    self.ring();
                }
                self.count(payload.len());
                self.check_intact()?;
                Ok(true)
            }
            Err(error) => self.refused(error),
        }
    }

    /// Stages a message, if there is room for it and all that comes before it.
    pub(super) fn stage(&mut self, payload: &[u8], label: u64) -> Result<bool, Error> {
        self.check_open()?;
        self.check_len(payload.len())?;
        if !self.stage_pending()? || !self.stage_data(payload, label)? {
            return Ok(false);
        }
        Ok(true)
    }

    /// False if something is in the way of a message.
    fn stage_pending(&mut self) -> Result<bool, Error> {
        if let Some((payload, label)) = self.pending.take() {
            match self.stage_data(&payload, label) {
                Ok(true) => {}
                Ok(false) => {
                    self.pending = Some((payload, label));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn stage_data(&mut self, payload: &[u8], label: u64) -> Result<bool, Error> {
        self.check_open()?;
        if !self.stage_crash()? || !self.stage_label(label)? {
            return Ok(false);
        }
        if !self.has_room(payload.len() + SPARE)? {
            return Ok(false);
        }
        self.rested();
        if let Err(error) = self.producer.stage(FRAME_DATA, payload) {
            return self.refused(error);
        }
        self.staged += 1;
        self.count(payload.len());
        Ok(true)
    }

    /// Tells of the predecessor's death, if that is still to be told. There is always room for it: see `SPARE`.
    fn stage_crash(&mut self) -> Result<bool, Error> {
        if self.dead.is_some() {
            if let Err(error) = self.producer.stage(FRAME_CRASH, &[]) {
                return self.refused(error);
            }
            let end = self.producer.position();
            self.claim.slot()[SLOT_TOLD].store(end, Ordering::Release);
            self.dead = None;
        }
        Ok(true)
    }

    /// Labels the messages that follow, if they are not labelled so already.
    fn stage_label(&mut self, label: u64) -> Result<bool, Error> {
        if self.labelled == label {
            return Ok(true);
        }
        if !self.has_room(LABEL + SPARE)? {
            return Ok(false);
        }
        if let Err(error) = self.producer.stage(FRAME_LABEL, &label.to_ne_bytes()) {
            return self.refused(error);
        }
        self.labelled = label;
        Ok(true)
    }

    fn refused(&mut self, error: PushError) -> Result<bool, Error> {
        match error {
            PushError::Corrupted(corruption) => Err(self.corrupted(corruption)),
            _ => Ok(false),
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        if self.producer.has_staged() {
            self.tally.prepare(self.producer.position(), self.staged);
            let ring = self.producer.publish();
            self.tally.settle(std::mem::take(&mut self.staged));
            if ring {
                self.ring();
            }
        }
        self.check_intact()
    }

    /// Says with `last` that this was all, or that it may not have been, where something has to be
    /// said.
    fn leave(&mut self, last: u32) {
        if std::mem::replace(&mut self.closed, true)
            || self.failed.is_some()
            || !self.claim.is_mine()
        {
            return;
        }
        self.rest.wake();
        self.disarm();
        if let Some(dead) = self.dead
            && !self.stage_crash().unwrap_or_default()
        {
            // Somebody has overwritten the cursors.
            self.claim.leave_to_tell(dead);
            return self.claim.give_back();
        }
        let _reported_by_use = self.publish();
        let slot = self.claim.slot();
        let [ended, told] = [SLOT_ENDED, SLOT_TOLD].map(|mark| slot[mark].load(Ordering::Acquire));
        let position = self.producer.position();
        // An end that nobody has come to yet stands for this one, too.
        let released = self.producer.refresh();
        let stands = released.is_ok_and(|at| {
            let ends = recovery::end_stands(ended, position, at);
            ends || (last == FRAME_CRASH && recovery::end_stands(told, position, at))
        });
        if !stands && self.producer.stage(last, &[]).is_ok() {
            let end = self.producer.position();
            let mark = match last {
                FRAME_CRASH => SLOT_TOLD,
                _ => SLOT_ENDED,
            };
            self.claim.slot()[mark].store(end, Ordering::Release);
            let _reported_by_use = self.publish();
        }
        self.claim.give_back();
    }

    /// Waits until there may be room; ready may be early.
    pub(super) fn poll_blocked(
        &mut self,
        cx: &mut Context<'_>,
        need: usize,
    ) -> Poll<Result<(), Error>> {
        self.publish()?;
        match self.look(need) {
            Looked::Ready => return Poll::Ready(Ok(())),
            Looked::Yield => {
                if self.looked.elapsed() > LOOK {
                    self.looked = Instant::now();
                    if let Some(error) = self.fate() {
                        return Poll::Ready(Err(error));
                    }
                }
                give_way(cx);
                return Poll::Pending;
            }
            Looked::Park => {}
        }
        // Before the fate is looked at: a receiver that leaves after that rings.
        let bell = self.claim.bell().load(Ordering::SeqCst);
        if let Some(error) = self.fate() {
            return Poll::Ready(Err(error));
        }
        self.arm(need);
        if self.has_room(need)? {
            self.disarm();
            return Poll::Ready(Ok(()));
        }
        let Self {
            claim,
            producer,
            gone,
            rest,
            ..
        } = self;
        let (released, gone) = (producer.released(), *gone);
        let woken = rest.poll(cx, claim.bell(), bell, || {
            let cursor = claim.block().cursor(Role::Receiver)?;
            let receiver = claim.peer_slot().clone();
            let presence = claim.presence().clone();
            let block = claim.block().clone();
            Ok(move || {
                let holder = receiver[SLOT_HOLDER].load(Ordering::Acquire);
                let died = holder != gone && presence.has_ended(holder);
                let cursor_now = cursor.load(Ordering::Acquire) & !ControlBlock::FLAGS;
                recovery::must_look(cursor_now, released, died)
                    || cursor.region().is_truncated()
                    || ((holder == 0 || holder == gone) && block.is_removed())
            })
        });
        match woken {
            Poll::Pending => {
                self.stats.parks += 1;
                Poll::Pending
            }
            Poll::Ready(woken) => {
                self.disarm();
                Poll::Ready(woken)
            }
        }
    }

    /// What keeps a full channel from ever having room again.
    fn fate(&mut self) -> Option<Error> {
        let receiver = self.claim.peer();
        let dead = self.claim.dead_peer();
        let live = receiver.is_some() && dead.is_none();
        if !live && self.claim.block().is_removed() {
            return Some(removed(self.claim.block(), "send"));
        }
        if dead.is_some_and(|dead| dead == self.gone) {
            return None;
        }
        let been = self.claim.peer_epoch() != self.epoch;
        let error = match (receiver, dead) {
            (_, Some(dead)) => {
                if self.await_successor {
                    self.gone = dead;
                    return None;
                }
                Error::new(ErrorKind::PeerCrashed, "send").with_reason(format!(
                    "the receiver's process {} died, and the channel is full",
                    self.claim.peer_pid()
                ))
            }
            (None, _) if been && !self.await_successor => Error::new(ErrorKind::Closed, "send")
                .with_reason("the receiver has left, and the channel is full"),
            _ => return None,
        };
        Some(error.with_address(self.claim.block().region().name()))
    }

    #[inline]
    fn look(&mut self, need: usize) -> Looked {
        let Self { spin, producer, .. } = self;
        // A corrupt cursor ends the look, and is reported by the next stage.
        spin.look(Looks::SHARED, || producer.has_room(need).unwrap_or(true))
    }

    /// For which payload there has to be room, that what comes next can be staged: what is pending,
    /// or one of `len`, or its label.
    fn need(&self, len: usize, label: u64) -> usize {
        let (len, label) = match &self.pending {
            Some((payload, label)) => (payload.len(), *label),
            None => (len, label),
        };
        match self.labelled == label {
            true => len + SPARE,
            false => LABEL + SPARE,
        }
    }

    fn has_room(&mut self, len: usize) -> Result<bool, Error> {
        self.producer
            .has_room(len)
            .map_err(|corruption| self.corrupted(corruption))
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.closed {
            return Err(self.error(
                Error::new(ErrorKind::Closed, "send").with_reason("this sender was closed"),
            ));
        }
        if !self.claim.is_mine() {
            return Err(self.claim.not_mine("send"));
        }
        Ok(())
    }

    fn check_len(&self, len: usize) -> Result<(), Error> {
        let most = self.claim.block().max_message();
        if len as u64 <= most {
            return Ok(());
        }
        Err(self.error(
            Error::new(ErrorKind::LimitExceeded, "send")
                .with_detail(format!("{len} bytes"))
                .with_reason(format!("the channel takes messages of up to {most} bytes"))
                .with_remedy(
                    "send it in parts, or lay the channel with a larger `size` and `max-message`",
                ),
        ))
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
        let error = corrupted(self.claim.block(), "send", corruption);
        self.failed = Some(error.clone());
        error
    }

    pub(super) fn error(&self, error: Error) -> Error {
        error.with_address(self.claim.block().region().name())
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

    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
        self.turn.spend(len);
    }

    #[cold]
    fn ring(&mut self) {
        self.stats.rings += 1;
        self.claim.ring();
    }

    fn arm(&mut self, need: usize) {
        self.armed = true;
        // The receiver fences each release.
        self.producer.arm(self.producer.cursor_for(need), || ());
    }

    fn disarm(&mut self) {
        self.armed = false;
        self.producer.disarm();
    }
}

/// Takes in what the predecessor has left in the slot. Whether its death is to be told.
fn resume(
    slot: &Slot,
    producer: &mut Producer<RegionMemory>,
    died: bool,
) -> Result<bool, Corruption> {
    let load = |word: usize| slot[word].load(Ordering::Acquire);
    let found = Found {
        published: producer.position(),
        released: producer.refresh()?,
        opened: load(SLOT_OPENED),
        ended: load(SLOT_ENDED),
        told: load(SLOT_TOLD),
        died,
    };
    for mark in [SLOT_ENDED, SLOT_TOLD] {
        if recovery::is_stale(load(mark), found.published) {
            slot[mark].store(0, Ordering::Release);
        }
    }
    slot[SLOT_OPENED].store(found.published, Ordering::Release);
    Ok(found.must_tell())
}

pub(super) fn corrupted(block: &Block, operation: &'static str, corruption: Corruption) -> Error {
    // Zeros in place of what is gone look like something else.
    if let Err(error) = block.region().check_intact() {
        return error;
    }
    Error::new(ErrorKind::Corrupted, operation)
        .with_address(block.region().name())
        .with_reason(corruption.to_string())
        .with_remedy("something has overwritten it: remove it, and lay it anew")
}

/// What is to be said when nobody can come to the other end any more.
pub(super) fn removed(block: &Block, operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
        .with_address(block.region().name())
        .with_reason("the name was removed: who opens it now finds other memory, or none")
        .with_remedy("open it anew, at both ends; remove it only when nobody uses it")
}

/// Blocks the thread until it is rung, or for a while.
pub(super) fn block(word: &sinew_sync::Word, bell: u32) -> Result<(), Error> {
    match sinew_sync::blocking_wait(word, bell, Some(INTERVAL)) {
        Err(error) if !error.is_timed_out() => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves the channel to its parent.
        if !self.claim.is_mine() {
            return;
        }
        // One try for what the sink took: dropping cannot wait.
        let _blocked = self.stage_pending();
        self.leave(match self.crash_on_drop {
            true => FRAME_CRASH,
            false => FRAME_END,
        });
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("region", &self.claim.block().region().name())
            .field("published", &self.published())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
