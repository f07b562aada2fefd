//! Looking after locks whose owners may have died, for all waiters of a runtime.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use sinew_core::AsyncIo;
use sinew_core::{thread, time};
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::sys::RingFd;

/// Between two looks. A death is to be found out within 100 ms.
pub(crate) const INTERVAL: Duration = Duration::from_millis(40);

type Check = Box<dyn Fn() -> bool + Send>;

/// One task that looks at all locks that are waited for, as long as there are any.
///
/// A timer for each waiter would do the same, and wake each of ten thousand waiters 25 times a second.
pub(crate) struct Sentinel {
    posts: Mutex<Posts>,
    runtime: Handle,
    /// Whether the runtime can wait for descriptors for sure. It need not have timers then.
    has_io: bool,
}

#[derive(Default)]
struct Posts {
    list: Vec<Arc<Watched>>,
    on_duty: bool,
}

/// What is looked at. Checks are called, and dropped, without the lock of the posts: they may do anything.
struct Watched {
    check: Mutex<Check>,
    alarm: Notify,
    is_over: AtomicBool,
}

impl Sentinel {
    pub(crate) fn new(runtime: Handle, has_io: bool) -> Self {
        Self {
            posts: Mutex::default(),
            runtime,
            has_io,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Posts> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `is_suspicious` looked at now and then, until the result is dropped.
    pub(crate) fn post(
        self: &Arc<Self>,
        is_suspicious: impl Fn() -> bool + Send + 'static,
    ) -> Post {
        let watched = Arc::new(Watched {
            check: Mutex::new(Box::new(is_suspicious)),
            alarm: Notify::new(),
            is_over: AtomicBool::new(false),
        });
        let is_first = {
            let mut posts = self.lock();
            posts.list.push(watched.clone());
            !std::mem::replace(&mut posts.on_duty, true)
        };
        if is_first {
            // After the lock: of a runtime that has ended, the task is dropped at once.
            self.runtime.spawn(watch(Duty {
                sentinel: self.clone(),
                is_over: false,
            }));
        }
        Post {
            sentinel: self.clone(),
            watched,
        }
    }
}

/// The duty of the one task, which ends with it however that ends.
struct Duty {
    sentinel: Arc<Sentinel>,
    is_over: bool,
}

impl Duty {
    /// What there is to look at; `None` if nothing is, and the duty is over.
    fn list(&mut self) -> Option<Vec<Arc<Watched>>> {
        let mut posts = self.sentinel.lock();
        if posts.list.is_empty() {
            posts.on_duty = false;
            self.is_over = true;
            return None;
        }
        Some(posts.list.clone())
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if !self.is_over {
            self.sentinel.lock().on_duty = false;
        }
    }
}

async fn watch(mut duty: Duty) {
    let timer = match duty.sentinel.has_io {
        true => Timer::new().ok(),
        false => None,
    };
    loop {
        let rested = match &timer {
            Some(timer) => timer.rest().await,
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if rested.is_err() {
            match time::sleep(INTERVAL) {
                Ok(rest) => rest.await,
                // A runtime without timers.
                Err(_) => {
                    let rest = || std::thread::sleep(INTERVAL);
                    let _rested = thread::run("sinew-watch", rest).await;
                }
            }
        }
        let Some(list) = duty.list() else { return };
        for watched in list {
            watched.look();
        }
    }
}

impl Watched {
    fn look(&self) {
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
        match catch_unwind(AssertUnwindSafe(&**check)) {
            Ok(true) => self.alarm.notify_one(),
            Ok(false) => {}
            Err(_) => {
                // The others are still looked after.
                self.is_over.store(true, Ordering::Release);
                tracing::error!(
                    "what a runtime was to look after panicked; it is looked after no more"
                );
            }
        }
    }
}

/// A timer that needs none of Tokio's.
struct Timer(AsyncIo<RingFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let interval = Timespec::try_from(INTERVAL).map_err(io::Error::other)?;
        let spec = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &spec)?;
        let fd =
            AsyncIo::with_interest(RingFd(fd), Interest::READABLE).map_err(io::Error::other)?;
        Ok(Self(fd))
    }

    /// Until the interval is over.
    async fn rest(&self) -> io::Result<()> {
        let expired = self.0.read_with(|fd| {
            let mut count = [0; 8];
            Ok(rustix::io::read(fd, &mut count)?)
        });
        expired.await.map(drop).map_err(io::Error::other)
    }
}

/// A lock that is looked after.
pub(crate) struct Post {
    sentinel: Arc<Sentinel>,
    watched: Arc<Watched>,
}

impl Post {
    /// Waits until the lock looks suspicious.
    pub(crate) async fn alarm(&self) {
        self.watched.alarm.notified().await;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.watched.is_over.store(true, Ordering::Release);
        let mut posts = self.sentinel.lock();
        let list = &mut posts.list;
        let at = list
            .iter()
            .position(|known| Arc::ptr_eq(known, &self.watched));
        let removed = at.map(|at| list.swap_remove(at));
        drop(posts);
        drop(removed);
    }
}

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinel").finish_non_exhaustive()
    }
}
