//! How many messages have passed an end, counted across its processes.

use std::sync::atomic::Ordering;

use super::block::{SLOT_TALLY, Slot};
use super::recovery;

/// Two pairs of a cursor and a count. The pair for a cursor is written before the cursor moves there, over the one that is not
/// the current cursor's: so whenever the process dies, one of them says the truth.
#[derive(Debug)]
pub(super) struct Tally {
    slot: Slot,
    current: usize,
    count: u64,
}

impl Tally {
    /// The count at `cursor`; `None` if neither pair is of it.
    pub(super) fn resume(slot: Slot, cursor: u64) -> Option<Self> {
        let pair = |pair| (load(&slot, pair, 0), load(&slot, pair, 1));
        let (current, count) = recovery::count_at([pair(0), pair(1)], cursor)?;
        Some(Self {
            count,
            current,
            slot,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// To be called before the cursor moves to `cursor`, by which `more` messages pass.
    #[inline]
    pub(super) fn prepare(&self, cursor: u64, more: u64) {
        let at = SLOT_TALLY + 2 * (1 - self.current);
        let words = &*self.slot;
        words[at].store(cursor, Ordering::Relaxed);
        words[at + 1].store(self.count.wrapping_add(more), Ordering::Relaxed);
    }

    /// To be called after it has.
    #[inline]
    pub(super) fn settle(&mut self, more: u64) {
        self.current = 1 - self.current;
        self.count = self.count.wrapping_add(more);
    }
}

fn load(slot: &Slot, pair: usize, word: usize) -> u64 {
    slot[SLOT_TALLY + 2 * pair + word].load(Ordering::Relaxed)
}
