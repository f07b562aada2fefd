//! Looking after locks whose owners may have died, for all waiters of a runtime.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Between two looks. A death is to be found out within 100 ms.
pub(crate) const INTERVAL: Duration = Duration::from_millis(40);

type Check = Box<dyn Fn() -> bool + Send>;

/// One task that looks at all locks that are waited for, as long as there are any.
///
/// A timer for each waiter would do the same, and wake each of ten thousand waiters 25 times a second.
#[derive(Default)]
pub(crate) struct Sentinel {
    posts: Mutex<Posts>,
}

#[derive(Default)]
struct Posts {
    list: Vec<(u64, Check, Arc<Notify>)>,
    last: u64,
    on_duty: bool,
}

impl Sentinel {
    /// Has `is_suspicious` looked at now and then, until the result is dropped.
    pub(crate) fn post(
        self: &Arc<Self>,
        is_suspicious: impl Fn() -> bool + Send + 'static,
    ) -> Post {
        let alarm = Arc::new(Notify::new());
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.last += 1;
        let key = posts.last;
        posts
            .list
            .push((key, Box::new(is_suspicious), alarm.clone()));
        if !std::mem::replace(&mut posts.on_duty, true) {
            tokio::spawn(self.clone().watch());
        }
        Post {
            sentinel: self.clone(),
            key,
            alarm,
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
            if posts.list.is_empty() {
                posts.on_duty = false;
                return;
            }
            for (_, is_suspicious, alarm) in &posts.list {
                if is_suspicious() {
                    alarm.notify_one();
                }
            }
        }
    }
}

/// A lock that is looked after.
pub(crate) struct Post {
    sentinel: Arc<Sentinel>,
    key: u64,
    alarm: Arc<Notify>,
}

impl Post {
    /// Waits until the lock looks suspicious.
    pub(crate) async fn alarm(&self) {
        self.alarm.notified().await;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut posts = self
            .sentinel
            .posts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = posts.list.iter().position(|(key, ..)| *key == self.key) {
            drop(posts.list.swap_remove(at));
        }
    }
}

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinel").finish_non_exhaustive()
    }
}
