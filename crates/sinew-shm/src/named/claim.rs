//! Who has an end.

use std::sync::atomic::{AtomicU32, Ordering};

use sinew_core::{Error, ErrorKind};
use sinew_sync::{Process, Word};

use super::block::{Block, Role, SLOT_ENDED, SLOT_EPOCH, SLOT_HOLDER, SLOT_OPENED, Slot};
use super::recovery;

/// An end that this process has, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    block: Block,
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
    /// Takes an end that nobody has, or that a process had which has died: then that is the second value.
    /// The error calls the present holder `holder`.
    pub(super) fn new(
        block: Block,
        role: Role,
        holder: &str,
    ) -> Result<(Self, Option<Process>), Error> {
        let me = Process::current()?.to_word();
        let slot = block.slot(role)?;
        let peer = block.slot(role.other())?;
        let (bell, peer_bell) = (block.bell(role)?, block.bell(role.other())?);
        let predecessor = take(&slot, me, holder, block.region().name())?;
        let epoch = slot[SLOT_EPOCH]
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1);
        let claim = Self {
            block,
            me,
            epoch,
            after: 0,
            given_back: false,
            slot,
            peer,
            bell,
            peer_bell,
        };
        // The predecessor may have died before it came to ring.
        claim.ring();
        Ok((claim, predecessor))
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

    /// Who has the other end.
    pub(super) fn peer(&self) -> Option<Process> {
        match self.peer[SLOT_HOLDER].load(Ordering::Acquire) {
            0 => None,
            holder => Some(Process::from_word(holder)),
        }
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
    pub(super) fn bury(&self, dead: Process) -> bool {
        self.peer[SLOT_HOLDER]
            .compare_exchange(dead.to_word(), 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the end back, once.
    pub(super) fn give_back(&mut self) {
        if std::mem::replace(&mut self.given_back, true) {
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
    pub(super) fn leave_to_tell(&mut self, dead: Process) {
        self.after = dead.to_word();
    }
}

fn take(slot: &Slot, me: u64, who: &str, name: &str) -> Result<Option<Process>, Error> {
    loop {
        let holder = slot[SLOT_HOLDER].load(Ordering::Acquire);
        let process = Process::from_word(holder);
        if holder != 0 && !process.has_ended() {
            let pid = process.pid();
            return Err(Error::new(ErrorKind::Refused, "open")
                .with_address(name)
                .with_reason(format!("a {who} is already attached: pid {pid}"))
                .with_remedy("end it first: there is one at a time"));
        }
        let taken =
            slot[SLOT_HOLDER].compare_exchange(holder, me, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_ok() {
            return Ok((holder != 0).then_some(process));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back();
    }
}
