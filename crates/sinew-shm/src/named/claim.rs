//! Who has an end.

use std::sync::atomic::{AtomicU32, Ordering};

use sinew_core::{Error, ErrorKind};
use sinew_memory::{Fate, Presence};
use sinew_sync::Word;

use super::block::{Block, Role, SLOT_ENDED, SLOT_EPOCH, SLOT_HOLDER, SLOT_OPENED, SLOT_PID, Slot};
use super::recovery;

/// An end that this process has, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    block: Block,
    presence: Presence,
    me: u64,
    epoch: u64,
    /// What takes this process's place when it goes: nobody, or somebody whose death is still to be told.
    after: u64,
    given_back: bool,
    slot: Slot,
    peer: Slot,
    bell: Word,
    peer_bell: Word,
}

impl Claim {
    /// Takes an end that nobody has, or that a process had which has died: then the second value is
    /// its word. The error calls the present holder `holder`.
    pub(super) fn new(
        block: Block,
        role: Role,
        holder: &str,
    ) -> Result<(Self, Option<u64>), Error> {
        let presence = block.region().presence().clone();
        let me = presence.enter()?;
        let slot = block.slot(role)?;
        let peer = block.slot(role.other())?;
        let (bell, peer_bell) = (block.bell(role)?, block.bell(role.other())?);
        let predecessor = take(&slot, &presence, me, holder, block.region().name())?;
        slot[SLOT_PID].store(u64::from(std::process::id()), Ordering::Relaxed);
        let epoch = slot[SLOT_EPOCH]
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1);
        let mut claim = Self {
            block,
            presence,
            me,
            epoch,
            after: 0,
            given_back: false,
            slot,
            peer,
            bell,
            peer_bell,
        };
        // After this end was taken: of two that cannot see each other, one finds the other here.
        if let Some(error) = claim.peer_is_hidden() {
            claim.after = predecessor.unwrap_or_default();
            return Err(error);
        }
        // The predecessor may have died before it came to ring.
        claim.ring();
        Ok((claim, predecessor))
    }

    /// Why this process cannot share the channel with the one at the other end.
    fn peer_is_hidden(&self) -> Option<Error> {
        let peer = self.peer[SLOT_HOLDER].load(Ordering::SeqCst);
        let is_hidden = peer != 0 && self.presence.judge(peer) == Fate::Unknown;
        is_hidden.then(|| {
            let error = self.presence.unknown("open", peer);
            error.with_address(self.block.region().name())
        })
    }

    /// Whether this is the process that took the end, and not a child that was forked since.
    #[inline]
    pub(super) fn is_mine(&self) -> bool {
        self.presence.is_mine(self.me)
    }

    /// What a child is told that uses a copy of its parent's end.
    #[cold]
    pub(super) fn not_mine(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Refused, operation)
            .with_address(self.block.region().name())
            .with_reason("the process that forked this one has this end of the channel")
            .with_remedy("use it there alone, or close it there and open it here")
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }

    /// How often this end was taken, this time included.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What this end waits for.
    pub(super) fn bell(&self) -> &Word {
        &self.bell
    }

    /// Wakes the other end.
    pub(super) fn ring(&self) {
        let word: &AtomicU32 = &self.peer_bell;
        word.fetch_add(1, Ordering::SeqCst);
        sinew_sync::wake(&self.peer_bell, u32::MAX);
    }

    /// The word of the process that has the other end.
    pub(super) fn peer(&self) -> Option<u64> {
        match self.peer[SLOT_HOLDER].load(Ordering::Acquire) {
            0 => None,
            holder => Some(holder),
        }
    }

    /// The same, if that process has ended.
    pub(super) fn dead_peer(&self) -> Option<u64> {
        self.peer().filter(|peer| self.presence.has_ended(*peer))
    }

    /// The pid, in its own namespace, of the process that has the other end, or had it last.
    pub(super) fn peer_pid(&self) -> u32 {
        pid(&self.peer)
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// How often the other end was taken.
    pub(super) fn peer_epoch(&self) -> u64 {
        self.peer[SLOT_EPOCH].load(Ordering::Acquire)
    }

    /// Whether the dead sender at the other end had been closed, where all up to `cursor` was
    /// published.
    pub(super) fn peer_was_closed(&self, cursor: u64) -> bool {
        let [ended, opened] =
            [SLOT_ENDED, SLOT_OPENED].map(|word| self.peer[word].load(Ordering::Acquire));
        recovery::was_closed(ended, opened, cursor)
    }

    /// The slot of the other end, to be watched.
    pub(super) fn peer_slot(&self) -> &Slot {
        &self.peer
    }

    /// Buries a dead process at the other end. False if it has a successor, who will tell.
    pub(super) fn bury(&self, dead: u64) -> bool {
        self.peer[SLOT_HOLDER]
            .compare_exchange(dead, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the end back, once. In a child that was forked since it does nothing.
    pub(super) fn give_back(&mut self) {
        if std::mem::replace(&mut self.given_back, true) || !self.is_mine() {
            return;
        }
        let _ours = self.slot[SLOT_HOLDER].compare_exchange(
            self.me,
            self.after,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        self.ring();
    }

    /// Leaves the death of a predecessor to be told by a successor.
    pub(super) fn leave_to_tell(&mut self, dead: u64) {
        self.after = dead;
    }
}

fn pid(slot: &Slot) -> u32 {
    u32::try_from(slot[SLOT_PID].load(Ordering::Relaxed)).unwrap_or_default()
}

fn take(
    slot: &Slot,
    presence: &Presence,
    me: u64,
    who: &str,
    name: &str,
) -> Result<Option<u64>, Error> {
    loop {
        let holder = slot[SLOT_HOLDER].load(Ordering::Acquire);
        if holder != 0 {
            match presence.judge(holder) {
                Fate::Ended => {}
                Fate::Lives => {
                    return Err(Error::new(ErrorKind::Refused, "open")
                        .with_address(name)
                        .with_reason(format!("a {who} is already attached: pid {}", pid(slot)))
                        .with_remedy("end it first: there is one at a time"));
                }
                _ => return Err(presence.unknown("open", holder).with_address(name)),
            }
        }
        let taken =
            slot[SLOT_HOLDER].compare_exchange(holder, me, Ordering::SeqCst, Ordering::Acquire);
        if taken.is_ok() {
            return Ok((holder != 0).then_some(holder));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back();
    }
}
