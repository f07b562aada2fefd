//! Telling a process from the children that it forks.
//!
//! A child of fork(2) has a copy of every value of its parent, and runs the destructors of those
//! that it drops. A destructor that removes a name, gives a lock back or ends a channel would do so
//! for the parent, which still uses the thing. So such a value remembers its [`Home`], and its
//! destructor does nothing elsewhere.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// Zero before [`Home::here`] was called; then one, and one more in each child that is forked.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The process in which a value was made.
///
/// A child that is forked is another process, before and after its parent has ended. A child of
/// vfork(2) or posix_spawn(3) runs no destructors before it executes another program, and a process
/// that was made with clone(2) or `_Fork` directly, which call no handlers of pthread_atfork(3), is
/// taken for its parent.
///
/// # Examples
///
/// ```
/// use sinew_core::Home;
///
/// struct Named(std::path::PathBuf, Home);
///
/// impl Drop for Named {
///     fn drop(&mut self) {
///         if self.1.is_here() {
///             let _gone_before = std::fs::remove_file(&self.0);
///         }
///     }
/// }
/// # drop(Named("/nonexistent".into(), Home::here()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home(u64);

impl Home {
    /// Returns this process.
    #[inline]
    pub fn here() -> Self {
        match GENERATION.load(Ordering::Relaxed) {
            0 => Self(first()),
            generation => Self(generation),
        }
    }

    /// Returns whether this process is the one in which the value was made.
    #[inline]
    pub fn is_here(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }
}

#[cold]
fn first() -> u64 {
    extern "C" fn move_out() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // It fails for want of a few bytes of memory only, and the process ends at its next
        // allocation then.
        sys::at_fork(None, move_out).unwrap_or_default();
        GENERATION.fetch_add(1, Ordering::Relaxed);
    });
    GENERATION.load(Ordering::Relaxed)
}
