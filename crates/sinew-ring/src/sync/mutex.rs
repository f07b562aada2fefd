use crate::loom::sync::{AtomicU32, AtomicU64, Ordering};

/// The words of a lock that knows who holds it.
///
/// A waiter declares itself, then looks at the lock, then waits while [`turn`](Self::turn) is what it was before that
/// look. Whoever unlocks frees the lock, then looks for waiters, and changes the turn if there are any. Both
/// looks come after a sequentially consistent change of what the other looks at: one of them sees it.
#[repr(C)]
#[derive(Debug)]
pub struct MutexState {
    /// Zero while free, otherwise the owner, as the caller chose to name it.
    owner: AtomicU64,
    turn: AtomicU32,
    waiters: AtomicU32,
}

impl Default for MutexState {
    fn default() -> Self {
        Self::new()
    }
}

impl MutexState {
    /// Where [`turn`](Self::turn) lies, bytes from the beginning.
    pub const TURN_OFFSET: usize = 8;

    /// A lock that is free.
    pub fn new() -> Self {
        Self {
            owner: AtomicU64::new(0),
            turn: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
        }
    }

    /// Who holds it; zero for nobody.
    #[inline]
    pub fn owner(&self) -> u64 {
        self.owner.load(Ordering::SeqCst)
    }

    /// Takes it if it is free.
    ///
    /// # Errors
    ///
    /// Who holds it.
    #[inline]
    pub fn try_lock(&self, owner: u64) -> Result<(), u64> {
        self.take_from(0, owner)
    }

    /// Takes it from an owner who is known to be dead, or from nobody.
    ///
    /// # Errors
    ///
    /// Who holds it, if that is another.
    #[inline]
    pub fn take_from(&self, from: u64, owner: u64) -> Result<(), u64> {
        self.owner
            .compare_exchange(from, owner, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
    }

    /// Declares a waiter, which must [`leave`](Self::leave).
    pub fn enter(&self) {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        full_barrier();
    }

    /// Takes the declaration back.
    pub fn leave(&self) {
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// The word that a waiter waits for: to be read before the look at the lock.
    pub fn turn(&self) -> u32 {
        self.turn.load(Ordering::SeqCst)
    }

    /// Frees it. True if a waiter must be woken.
    #[must_use = "true means that a waiter must be woken"]
    #[inline]
    pub fn unlock(&self) -> bool {
        // An exchange is a full barrier on its own.
        self.owner.swap(0, Ordering::SeqCst);
        full_barrier();
        self.pass()
    }

    /// Changes the turn if there are waiters, after something else that they wait for was changed with a
    /// sequentially consistent exchange. True if they must be woken.
    #[must_use = "true means that the waiters must be woken"]
    #[inline]
    pub fn pass(&self) -> bool {
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.turn.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// The model checker takes sequentially consistent operations for acquire and release; only a fence is more.
#[inline]
fn full_barrier() {
    #[cfg(loom)]
    crate::loom::sync::fence(Ordering::SeqCst);
}
