use crate::loom::sync::{AtomicU64, Ordering};

/// The word of a semaphore as glibc lays it out on 64-bit machines: the value in the low half, the number
/// of waiters in the high one.
///
/// A waiter waits while the low half is zero.
#[repr(C)]
#[derive(Debug)]
pub struct SemaphoreState {
    data: AtomicU64,
}

/// One waiter.
const WAITER: u64 = 1 << 32;
const VALUE: u64 = WAITER - 1;

impl Default for SemaphoreState {
    fn default() -> Self {
        Self::new(0)
    }
}

impl SemaphoreState {
    /// The largest value: glibc's `SEM_VALUE_MAX`.
    pub const MAX: u32 = i32::MAX as u32;

    /// A semaphore of this many units.
    pub fn new(value: u32) -> Self {
        Self {
            data: AtomicU64::new(u64::from(value)),
        }
    }

    /// The units that are to be had.
    #[inline]
    pub fn value(&self) -> u32 {
        (self.data.load(Ordering::Acquire) & VALUE) as u32
    }

    /// Those who wait, as far as they have said so.
    pub fn waiters(&self) -> u32 {
        (self.data.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Takes a unit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.take(1)
    }

    /// Declares a waiter, which must end with [`acquire_waiting`](Self::acquire_waiting) or
    /// [`leave`](Self::leave).
    pub fn enter(&self) {
        self.data.fetch_add(WAITER, Ordering::Relaxed);
    }

    /// Takes a unit if there is one, and with it the declaration back.
    pub fn acquire_waiting(&self) -> bool {
        self.take(1 + WAITER)
    }

    /// Takes the declaration back.
    pub fn leave(&self) {
        self.data.fetch_sub(WAITER, Ordering::Relaxed);
    }

    #[inline]
    fn take(&self, what: u64) -> bool {
        let mut data = self.data.load(Ordering::Relaxed);
        loop {
            if data & VALUE == 0 {
                return false;
            }
            match self.data.compare_exchange_weak(
                data,
                data.wrapping_sub(what),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(found) => data = found,
            }
        }
    }

    /// Gives a unit back. Whether a waiter must be woken, or `None` at the largest value.
    #[must_use = "true means that a waiter must be woken"]
    #[inline]
    pub fn post(&self) -> Option<bool> {
        let mut data = self.data.load(Ordering::Relaxed);
        loop {
            if data & VALUE >= u64::from(Self::MAX) {
                return None;
            }
            match self.data.compare_exchange_weak(
                data,
                data + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(data >= WAITER),
                Err(found) => data = found,
            }
        }
    }
}
