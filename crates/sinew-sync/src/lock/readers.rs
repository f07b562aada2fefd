use std::sync::atomic::{AtomicU64, Ordering};

use sinew_core::Error;
use sinew_memory::{Fate, Presence, Region, View};

use super::core::{Core, Waiter};
use crate::driver::Driver;

/// The readers: a slot for each, with the word of its process, so that a reader's death is noticed.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    slots: View<[AtomicU64; Readers::MOST]>,
    presence: Presence,
}

impl Readers {
    /// Readers at a time; more wait.
    pub(super) const MOST: usize = 56;
    /// Bytes.
    pub(super) const SIZE: usize = Self::MOST * size_of::<u64>();

    pub(super) fn attach(region: &Region, offset: usize) -> Result<Self, Error> {
        Ok(Self {
            slots: region.view(offset)?,
            presence: region.presence().clone(),
        })
    }

    /// Takes a slot; `None` if all are taken by the living.
    pub(super) fn enter(&self, me: u64) -> Option<usize> {
        let take = |slot: &AtomicU64, from: u64| {
            slot.compare_exchange(from, me, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        if let Some(index) = self.slots.iter().position(|slot| take(slot, 0)) {
            return Some(index);
        }
        self.slots.iter().position(|slot| {
            let reader = slot.load(Ordering::SeqCst);
            self.presence.has_ended(reader) && take(slot, reader)
        })
    }

    pub(super) fn leave(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            slot.swap(0, Ordering::SeqCst);
        }
    }

    /// Whether nobody reads. The slots of the dead are freed: who only reads leaves nothing half done.
    /// It fails for a reader whose fate cannot be found out.
    pub(super) fn are_gone(&self) -> Result<bool, Error> {
        for slot in self.slots.iter() {
            let reader = slot.load(Ordering::SeqCst);
            if reader == 0 {
                continue;
            }
            let is_free = match self.presence.judge(reader) {
                Fate::Lives => false,
                Fate::Ended => slot
                    .compare_exchange(reader, 0, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok(),
                Fate::Unknown => {
                    let error = self.presence.unknown("lock", reader);
                    return Err(error.with_address(self.slots.region().name()));
                }
            };
            if !is_free {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn are_empty(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.load(Ordering::SeqCst) == 0)
    }

    pub(super) async fn wait_until_gone(&self, core: &Core) -> Result<(), Error> {
        if self.are_empty() {
            return Ok(());
        }
        let driver = Driver::current()?;
        let are_gone = || self.are_empty().then_some(());
        if core.spin().look(&driver, are_gone).await.is_some() {
            return Ok(());
        }
        let _waiter = Waiter::new(core.state());
        let post = driver.sentinel().post({
            let readers = self.clone();
            move || readers.are_gone().unwrap_or(true)
        });
        loop {
            let turn = core.state().turn();
            if self.are_gone()? {
                return Ok(());
            }
            tokio::select! {
                biased;
                woken = driver.wait(core.turn(), turn) => woken?,
                () = post.alarm() => {}
            }
        }
    }
}
