//! What the helper threads of a process share.
//!
//! A child that is forked has a copy of that, with none of the threads, and with locks that may be held for ever. It
//! leaves the copy alone, and begins with its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once, OnceLock};

use super::poller::Poller;
use super::watch::{Key, Watch};

pub(super) struct Shared {
    generation: usize,
    /// Those that wait for the same share a helper.
    pub(super) watches: Mutex<HashMap<Key, Arc<Watch>>>,
    /// Helper threads.
    pub(super) running: AtomicUsize,
    pub(super) poller: Poller,
    /// A child's.
    next: OnceLock<Box<Self>>,
}

static FIRST: LazyLock<Shared> = LazyLock::new(|| Shared::new(0));
/// How often this process and those that it comes from have forked since.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// This process's.
pub(super) fn current() -> &'static Shared {
    extern "C" fn begin_anew() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    static FORK: Once = Once::new();
    FORK.call_once(|| {
        if let Err(error) = sinew_core::at_fork(None, begin_anew) {
            tracing::error!(%error, "a child that is forked will rely on helpers that it does not have");
        }
    });
    let mut shared = &*FIRST;
    while !shared.is_current() {
        shared = shared
            .next
            .get_or_init(|| Box::new(Shared::new(shared.generation + 1)));
    }
    shared
}

impl Shared {
    fn new(generation: usize) -> Self {
        Self {
            generation,
            watches: Mutex::default(),
            running: AtomicUsize::new(0),
            poller: Poller::new(),
            next: OnceLock::new(),
        }
    }

    /// Whether it is this process's, and not one's from which it was forked.
    pub(super) fn is_current(&self) -> bool {
        self.generation >= GENERATION.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use futures::executor::block_on;
    use rustix::process::{WaitOptions, waitpid};

    use crate::sys::fork;
    use crate::sysv::{Options, Target};

    /// The parent waits already, so that the child has copies of a helper that it does not have.
    #[test]
    fn a_child_waits_with_helpers_of_its_own() {
        let options = Options::new().count(1).value(0).remove_on_drop(true);
        let set = block_on(options.open(Target::Private)).unwrap();
        let units = set.semaphore(0).unwrap();
        let begun = units.clone();
        let mut begun = Box::pin(begun.acquire());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(begun.as_mut().poll(&mut cx).is_pending());
        let mut inherited = Some(begun);

        let child = fork(|| {
            if let Some(inherited) = inherited.take() {
                block_on(inherited).unwrap().forget();
            }
            block_on(pin!(units.acquire())).unwrap().forget();
        });
        drop(inherited);
        for _ in 0..2 {
            // It is to wait for each.
            std::thread::sleep(Duration::from_millis(50));
            units.post().unwrap();
        }
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }
}
