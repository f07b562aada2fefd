//! The helper thread that waits for room in full queues.
//!
//! The kernel can wait for room only by sending: when the call returns, the message is sent, and nobody can
//! take that back. A send that another thread makes is therefore never certain to be cancelled: its future
//! can be dropped after the message has gone and before it was told so. Here the message stays with its
//! future, which sends it by itself in the poll that says so; the helper looks whether there is room, soon
//! at first and then ever less often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};
use std::{io, thread};

use sinew_core::interrupt;

use crate::sys;

/// Between two looks: at first, and at most.
const SOON: Duration = Duration::from_micros(50);
const LATE: Duration = Duration::from_millis(10);
/// For how long a helper that nobody needs stays.
const LINGER: Duration = Duration::from_secs(1);
const STACK: usize = 128 << 10;

static NEXT: AtomicU64 = AtomicU64::new(0);
static ROOMS: Rooms = Rooms {
    state: Mutex::new(State {
        waiting: Vec::new(),
        helper: false,
    }),
    changed: Condvar::new(),
};

struct Rooms {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<Waiting>,
    helper: bool,
}

struct Waiting {
    sender: u64,
    queue: i32,
    size: usize,
    waker: Waker,
    next: Instant,
    interval: Duration,
}

/// A sender's part in it.
#[derive(Debug)]
pub(super) struct Room {
    sender: u64,
    waits: bool,
    /// The interval at which the last wait has ended, if the queue was found full again right after.
    interval: Duration,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            sender: NEXT.fetch_add(1, Ordering::Relaxed),
            waits: false,
            interval: SOON,
        }
    }

    /// Wakes when there is room for `size` bytes, or to see why it cannot be told.
    ///
    /// # Errors
    ///
    /// Where there is no helper and none can be started.
    pub(super) fn wait(&mut self, queue: i32, size: usize, waker: &Waker) -> io::Result<()> {
        let mut state = ROOMS.lock();
        if !state.helper {
            thread::Builder::new()
                .name("sinew-sysvmq".to_owned())
                .stack_size(STACK)
                .spawn(help)?;
            state.helper = true;
        }
        let known = state
            .waiting
            .iter_mut()
            .find(|one| one.sender == self.sender);
        match known {
            Some(one) => one.waker.clone_from(waker),
            None => {
                // Somebody else may have taken the room again and again: that must not become a spin.
                let interval = if self.waits {
                    longer(self.interval)
                } else {
                    SOON
                };
                self.interval = interval;
                state.waiting.push(Waiting {
                    sender: self.sender,
                    queue,
                    size,
                    waker: waker.clone(),
                    next: Instant::now() + interval,
                    interval,
                });
                ROOMS.changed.notify_one();
            }
        }
        self.waits = true;
        Ok(())
    }

    /// Whether the helper has not woken yet.
    pub(super) fn withdraw(&mut self) {
        if std::mem::take(&mut self.waits) {
            let mut state = ROOMS.lock();
            state.waiting.retain(|one| one.sender != self.sender);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longer(interval: Duration) -> Duration {
    (interval * 3 / 2).min(LATE)
}

/// Whether a send would not have to wait: there is room, or it fails, or that cannot be told.
fn is_ready(queue: i32, size: usize) -> bool {
    let Ok(status) = sys::status(queue) else {
        return true;
    };
    // As the kernel decides, `msg_fits_inqueue` of ipc/msg.c.
    let used = status.__msg_cbytes.saturating_add(size as u64);
    used <= status.msg_qbytes && status.msg_qnum < status.msg_qbytes
}

/// The helper thread.
fn help() {
    interrupt::block_signals();
    let mut wakers = Vec::new();
    let mut lingered = false;
    let mut state = ROOMS.lock();
    loop {
        let now = Instant::now();
        let mut until = now + LINGER;
        state.waiting.retain_mut(|one| {
            if one.next <= now {
                if is_ready(one.queue, one.size) {
                    wakers.push(one.waker.clone());
                    return false;
                }
                one.interval = longer(one.interval);
                one.next = now + one.interval;
            }
            until = until.min(one.next);
            true
        });
        if !wakers.is_empty() {
            drop(state);
            wakers.drain(..).for_each(Waker::wake);
            state = ROOMS.lock();
            continue;
        }
        if lingered && state.waiting.is_empty() {
            break;
        }
        let (guard, timeout) = ROOMS
            .changed
            .wait_timeout(state, until.saturating_duration_since(Instant::now()))
            .unwrap_or_else(PoisonError::into_inner);
        state = guard;
        lingered = timeout.timed_out() && state.waiting.is_empty();
    }
    state.helper = false;
}
