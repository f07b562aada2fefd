//! The one place that chooses between the real primitives and the model checker's.

#[cfg(not(loom))]
pub(crate) mod sync {
    #[cfg(feature = "alloc")]
    pub(crate) use alloc::sync::Arc;
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

#[cfg(loom)]
pub(crate) mod sync {
    #[cfg(feature = "alloc")]
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

#[cfg(all(not(loom), feature = "alloc"))]
pub(crate) mod cell {
    /// A cell with the model checker's interface.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(all(loom, feature = "alloc"))]
pub(crate) use loom::cell;
