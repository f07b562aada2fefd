use crate::loom::sync::{AtomicU32, Ordering};

/// The word of an event: the lowest bit says whether it is set, the others count how often it was.
///
/// A waiter waits while the word is what it was. It goes on when the event is set, or has been set since it
/// began to wait, so that setting and clearing at once wakes everybody.
#[repr(C)]
#[derive(Debug)]
pub struct EventState {
    word: AtomicU32,
}

const SET: u32 = 1;

impl Default for EventState {
    fn default() -> Self {
        Self::new()
    }
}

impl EventState {
    /// An event that is not set.
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// The word that a waiter waits for.
    #[inline]
    pub fn word(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word() & SET != 0
    }

    /// Whether a waiter that began when the word was `since` may go on.
    #[inline]
    pub fn is_over(&self, since: u32) -> bool {
        let word = self.word();
        word & SET != 0 || word >> 1 != since >> 1
    }

    /// Sets it. All waiters must be woken if it was not set.
    #[must_use = "true means that all waiters must be woken"]
    pub fn set(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            // Also when it is set, so that the next who looks sees all that came before.
            let next = match word & SET {
                0 => word.wrapping_add(2) | SET,
                _ => word,
            };
            match self
                .word
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return word & SET == 0,
                Err(found) => word = found,
            }
        }
    }

    /// Clears it.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }
}
