//! How an end sleeps: until it is rung, or something has happened that nobody rings for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use sinew_core::Error;
use sinew_sync::{Driver, Wait, Watch, Word};
use tokio::runtime::{self, Handle};

/// How often a sleeper without a runtime looks up. A death is to be found out within 100 ms.
pub(super) const INTERVAL: Duration = Duration::from_millis(40);

#[derive(Default)]
pub(super) struct Rest {
    asleep: Option<Asleep>,
}

struct Asleep {
    bell: u32,
    /// Of which it is: nobody wakes it in another.
    runtime: Option<runtime::Id>,
    wait: Wait,
    alarm: Arc<Alarm>,
    _watch: Watch,
}

#[derive(Default)]
struct Alarm {
    waker: AtomicWaker,
    raised: AtomicBool,
}

impl Rest {
    /// Waits while `word` is `bell`, or until what `look` makes is true at one of its looks.
    pub(super) fn poll<L>(
        &mut self,
        cx: &mut Context<'_>,
        word: &Word,
        bell: u32,
        look: impl FnOnce() -> Result<L, Error>,
    ) -> Poll<Result<(), Error>>
    where
        L: Fn() -> bool + Send + 'static,
    {
        // Without one, the driver says so.
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        let asleep = match self.asleep.take() {
            Some(asleep) if asleep.bell == bell && asleep.runtime == runtime => asleep,
            _ => Asleep::new(runtime, word, bell, look()?)?,
        };
        let asleep = self.asleep.insert(asleep);
        asleep.alarm.waker.register(cx.waker());
        let woken = match asleep.alarm.raised.load(Ordering::Acquire) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut asleep.wait).poll(cx),
        };
        if woken.is_ready() {
            self.asleep = None;
        }
        woken
    }

    /// Ends a sleep that was begun.
    #[inline]
    pub(super) fn wake(&mut self) {
        if self.asleep.is_some() {
            self.asleep = None;
        }
    }
}

impl Asleep {
    fn new(
        runtime: Option<runtime::Id>,
        word: &Word,
        bell: u32,
        look: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let driver = Driver::current()?;
        let alarm = Arc::new(Alarm::default());
        let watch = driver.watch({
            let alarm = alarm.clone();
            move || {
                if look() && !alarm.raised.swap(true, Ordering::AcqRel) {
                    alarm.waker.wake();
                }
            }
        });
        Ok(Self {
            bell,
            runtime,
            wait: driver.wait(word, bell),
            alarm,
            _watch: watch,
        })
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("asleep", &self.asleep.is_some())
            .finish()
    }
}
