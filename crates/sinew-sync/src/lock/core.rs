//! What mutex and rwlock have in common: one owner, who may die.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sinew_core::{Error, Home};
use sinew_memory::{Fate, Presence, Region, View};
use sinew_ring::sync::MutexState;

use super::error::timed_out;
use super::header;
use super::readers::Readers;
use super::sentinel::{INTERVAL, Post};
use crate::budget;
use crate::driver::{Driver, Word};
use crate::spin::SharedSpin;
use crate::sys::{self, Words};

const WORDS: usize = header::SIZE;
/// Where what follows begins: a cache line.
pub(super) const DATA: usize = 64;
const _: () = assert!(WORDS + size_of::<LockWords>() <= DATA);

/// What a region has of a lock, after the header.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct LockWords {
    state: MutexState,
    clean: AtomicU32,
    /// In place of padding.
    _reserved: AtomicU32,
}

impl LockWords {
    #[inline]
    fn clean(&self) -> Clean {
        Clean(self.clean.load(Ordering::Acquire))
    }
}

/// Whether the data are as an owner left them that freed the lock: the word that says so, of which
/// any value may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clean(u32);

impl Clean {
    pub(super) const YES: Self = Self(0);
    /// An owner has died, and nobody has looked at the data since.
    pub(super) const OWNER_DIED: Self = Self(1);
    /// The data were given up, as any other value says.
    pub(super) const POISONED: Self = Self(2);

    pub(super) fn is_poisoned(self) -> bool {
        self.0 > Self::OWNER_DIED.0
    }
}

/// The words of a lock in a region.
#[derive(Debug, Clone)]
pub(super) struct Core {
    words: View<Words<LockWords>>,
    turn: Word,
    /// Of a rwlock, whom a writer has to wait for as well.
    readers: Option<Readers>,
    spin: SharedSpin,
    presence: Presence,
}

/// Taken, and what was found.
#[derive(Debug)]
pub(super) struct Taken(pub(super) Clean);

impl Core {
    pub(super) fn attach(
        region: &Region,
        offset: usize,
        readers: Option<Readers>,
    ) -> Result<Self, Error> {
        Ok(Self {
            words: region.view(offset + WORDS)?,
            turn: region.view(offset + WORDS + MutexState::TURN_OFFSET)?,
            readers,
            spin: SharedSpin::default(),
            presence: region.presence().clone(),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.words.region().name()
    }

    #[inline]
    pub(super) fn state(&self) -> &MutexState {
        &self.words.state
    }

    pub(super) fn spin(&self) -> &SharedSpin {
        &self.spin
    }

    pub(super) fn turn(&self) -> &Word {
        &self.turn
    }

    pub(super) fn set_clean(&self, clean: Clean) {
        self.words.clean.store(clean.0, Ordering::Release);
    }

    #[inline]
    pub(super) fn clean(&self) -> Clean {
        self.words.clean()
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Whether this process took what it holds by this word. A child that was forked since has
    /// another word, or none.
    #[inline]
    pub(super) fn is_mine(&self, owner: u64) -> bool {
        self.presence.is_mine(owner)
    }

    /// Whether this process has the lock.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.is_mine(self.state().owner())
    }

    /// Frees a lock that this process [has](Self::is_held).
    #[inline]
    pub(super) fn unlock(&self) {
        if self.state().unlock() {
            self.wake();
        }
    }

    /// After a reader has left.
    pub(super) fn wake_if_waiting(&self) {
        if self.state().pass() {
            self.wake();
        }
    }

    /// A mutex has one heir, a rwlock any number of readers.
    pub(super) fn wake(&self) {
        let count = match self.readers {
            None => 1,
            Some(_) => u32::MAX,
        };
        sys::wake(&self.turn, count);
    }

    /// Takes the lock if it is free, or if its owner is dead, which is looked at if so asked.
    fn try_take(&self, me: u64, look: bool) -> Result<Option<Taken>, Error> {
        match self.state().try_lock(me) {
            Ok(()) => return Ok(Some(Taken(self.clean()))),
            Err(holder) if !look || !self.is_dead(holder)? => return Ok(None),
            Err(holder) => {
                if self.state().take_from(holder, me).is_err() {
                    return Ok(None);
                }
            }
        }
        // Whatever happens to this process now, the next will know.
        if self.clean() == Clean::YES {
            self.set_clean(Clean::OWNER_DIED);
        }
        Ok(Some(Taken(self.clean())))
    }

    /// Whether an owner has died. It fails for one whose fate cannot be found out.
    pub(super) fn is_dead(&self, owner: u64) -> Result<bool, Error> {
        if owner == 0 {
            return Ok(false);
        }
        match self.presence.judge(owner) {
            Fate::Lives => Ok(false),
            Fate::Ended => Ok(true),
            Fate::Unknown => Err(self
                .presence
                .unknown("lock", owner)
                .with_address(self.name())),
        }
    }

    /// Whether a waiter has something to do that nobody will wake it for: the owner is dead, or
    /// cannot be judged, or the lock is free because a process died that had been woken for it.
    pub(super) fn is_suspicious(&self) -> bool {
        let holder = self.state().owner();
        holder == 0 || self.presence.judge(holder) != Fate::Lives
    }

    /// Takes a lock without readers, if it is free.
    #[inline]
    pub(super) fn take_at_once(&self) -> Option<Taken> {
        let me = self.presence.word()?;
        // Both words by one pointer: what is loaded after an atomic operation waits for it.
        let words: &LockWords = &self.words;
        words.state.try_lock(me).ok()?;
        Some(Taken(words.clean()))
    }

    pub(super) async fn take(&self) -> Result<Taken, Error> {
        let me = self.presence.enter()?;
        // Before it is taken: a future that is dropped here holds nothing.
        poll_fn(budget::poll).await;
        let taken = match self.try_take(me, false)? {
            Some(taken) => taken,
            None => self.take_slowly(me).await?,
        };
        // From here on it is held: dropped while waiting for readers, it is freed.
        let held = Held(self);
        if let Some(readers) = &self.readers {
            readers.wait_until_gone(self).await?;
        }
        held.keep();
        Ok(taken)
    }

    async fn take_slowly(&self, me: u64) -> Result<Taken, Error> {
        let driver = Driver::current()?;
        let taken = || match self.state().owner() {
            0 => self.try_take(me, false).transpose(),
            _ => None,
        };
        if let Some(taken) = self.spin.look(&driver, taken).await {
            return taken;
        }
        let _waiter = Waiter::new(self.state());
        let post: Post = driver.sentinel().post({
            let core = self.clone();
            move || core.is_suspicious()
        });
        let mut look = false;
        loop {
            let turn = self.state().turn();
            if let Some(taken) = self.try_take(me, look)? {
                return Ok(taken);
            }
            tokio::select! {
                biased;
                woken = driver.wait(&self.turn, turn) => {
                    woken?;
                    look = false;
                }
                () = post.alarm() => look = true,
            }
        }
    }

    pub(super) fn try_take_now(&self) -> Result<Option<Taken>, Error> {
        let me = self.presence.enter()?;
        let Some(taken) = self.try_take(me, true)? else {
            return Ok(None);
        };
        let held = Held(self);
        if let Some(readers) = &self.readers
            && !readers.are_gone()?
        {
            return Ok(None);
        }
        held.keep();
        Ok(Some(taken))
    }

    pub(super) fn blocking_take(&self, timeout: Option<Duration>) -> Result<Taken, Error> {
        let me = self.presence.enter()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let taken = match self.try_take(me, false)? {
            Some(taken) => taken,
            None => {
                let _waiter = Waiter::new(self.state());
                self.block(deadline, timeout, |look| {
                    self.try_take(me, look).transpose()
                })??
            }
        };
        let held = Held(self);
        if let Some(readers) = &self.readers {
            let _waiter = Waiter::new(self.state());
            self.block(deadline, timeout, |_| match readers.are_gone() {
                Ok(are_gone) => are_gone.then_some(Ok(())),
                Err(error) => Some(Err(error)),
            })??;
        }
        held.keep();
        Ok(taken)
    }

    /// Blocks the thread until `done` says something. It is asked to look at owners after each interval.
    pub(super) fn block<R>(
        &self,
        deadline: Option<Instant>,
        timeout: Option<Duration>,
        mut done: impl FnMut(bool) -> Option<R>,
    ) -> Result<R, Error> {
        let mut looked = Instant::now();
        loop {
            let turn = self.state().turn();
            // By the clock, since wake-ups and signals may end every wait before its time is up.
            let now = Instant::now();
            let look = now.saturating_duration_since(looked) >= INTERVAL;
            if look {
                looked = now;
            }
            if let Some(done) = done(look) {
                return Ok(done);
            }
            let mut span = INTERVAL.saturating_sub(now.saturating_duration_since(looked));
            if let (Some(deadline), Some(timeout)) = (deadline, timeout) {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(timed_out(self.name(), timeout));
                }
                span = span.min(left);
            }
            let _any = sys::wait(&self.turn, turn, Some(span));
        }
    }
}

/// A declared waiter, which takes its declaration back.
pub(super) struct Waiter<'a> {
    state: &'a MutexState,
    home: Home,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(state: &'a MutexState) -> Self {
        state.enter();
        Self {
            state,
            home: Home::here(),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.home.is_here() {
            self.state.leave();
        }
    }
}

/// Frees a lock that was taken, unless it is kept.
struct Held<'a>(&'a Core);

impl Held<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.0.is_held() {
            self.0.unlock();
        }
    }
}
