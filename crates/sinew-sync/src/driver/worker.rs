//! One thread of the pool.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use sinew_core::interrupt::{self, Interrupter};

use super::slot::{Outcome, Slot};
use crate::sys::{self, WaitList};

/// Words for one thread: 128, less the one by which it is told of news.
pub(super) const WORDS: usize = 127;
/// The time limit of futex(2) for one word. Without any, the call goes on after a signal.
const LONG: Duration = Duration::from_secs(3600);
/// A thread that has had nothing to wait for as long ends.
const IDLE: Duration = Duration::from_secs(5);

/// What a thread and the pool share.
#[derive(Debug)]
pub(super) struct Worker {
    /// Changed, and woken, when something came onto the desk of a thread that is asleep.
    news: AtomicU32,
    desk: Mutex<Desk>,
    /// For how many words the thread waits: [`WORDS`], or one, with futex(2).
    words: usize,
}

#[derive(Debug, Default)]
struct Desk {
    arrivals: Vec<Arc<Slot>>,
    departures: Vec<Arc<Slot>>,
    /// Waits that have arrived, and neither ended nor been cancelled.
    load: usize,
    /// The same, those included whose cancellation the thread has not seen yet.
    waits: usize,
    /// The thread does not look at the desk before there is news.
    asleep: bool,
    /// Calls a thread back from a word that it waits for with futex(2), which no news end.
    interrupter: Option<Interrupter>,
    /// With the runtime.
    shut_down: bool,
    /// The thread has ended or is about to.
    ended: bool,
}

impl Worker {
    /// Starts a thread that waits for a first word.
    pub(super) fn start(
        number: usize,
        slot: &Arc<Slot>,
        roomy: &Arc<AtomicUsize>,
        words: usize,
    ) -> std::io::Result<Arc<Self>> {
        let worker = Arc::new(Self {
            news: AtomicU32::new(0),
            desk: Mutex::new(Desk {
                arrivals: vec![slot.clone()],
                load: 1,
                waits: 1,
                ..Desk::default()
            }),
            words,
        });
        let thread = Thread {
            worker: worker.clone(),
            number,
            roomy: roomy.clone(),
            slots: Vec::new(),
            list: WaitList::new(),
            news: 0,
        };
        std::thread::Builder::new()
            .name("sinew-futex".to_owned())
            .spawn(move || thread.run())?;
        Ok(worker)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits under way; `None` if the thread has ended.
    pub(super) fn waits(&self) -> Option<usize> {
        let desk = self.desk();
        (!desk.ended).then_some(desk.waits)
    }

    /// False if this thread has no room.
    pub(super) fn offer(&self, slot: &Arc<Slot>) -> bool {
        let mut desk = self.desk();
        if desk.ended || desk.load >= self.words {
            return false;
        }
        desk.load += 1;
        desk.waits += 1;
        desk.arrivals.push(slot.clone());
        self.tell(desk);
        true
    }

    /// Of a wait that was given to this thread, and abandoned before it ended.
    pub(super) fn cancel(&self, slot: &Arc<Slot>) {
        let mut desk = self.desk();
        if desk.ended {
            return;
        }
        desk.load -= 1;
        let waiting = desk.arrivals.iter().position(|new| Arc::ptr_eq(new, slot));
        if let Some(at) = waiting {
            // It never was waited for.
            desk.arrivals.swap_remove(at);
            desk.waits -= 1;
            return;
        }
        desk.departures.push(slot.clone());
        self.tell(desk);
    }

    pub(super) fn shut_down(&self) {
        let mut desk = self.desk();
        desk.shut_down = true;
        self.tell(desk);
    }

    fn tell(&self, mut desk: MutexGuard<'_, Desk>) {
        if std::mem::take(&mut desk.asleep) {
            self.news.fetch_add(1, Ordering::Release);
            if let Some(interrupter) = &desk.interrupter {
                interrupter.start();
            }
            drop(desk);
            sys::wake(&self.news, 1);
        }
    }
}

/// The thread's own.
struct Thread {
    worker: Arc<Worker>,
    number: usize,
    roomy: Arc<AtomicUsize>,
    slots: Vec<Arc<Slot>>,
    /// The news, and then the words of the slots.
    list: WaitList,
    /// What the news were when the desk was clear.
    news: u32,
}

impl Thread {
    fn run(mut self) {
        if self.worker.words > 1 {
            return self.work();
        }
        interrupt::block_signals();
        match Interrupter::new() {
            Ok(interrupter) => {
                self.worker.desk().interrupter = Some(interrupter);
                self.work();
                self.worker.desk().interrupter = None;
            }
            Err(error) => {
                let errno = error.raw_os_error();
                {
                    let mut desk = self.worker.desk();
                    desk.ended = true;
                    self.slots.append(&mut desk.arrivals);
                }
                let errno = errno.unwrap_or_else(|| Errno::AGAIN.raw_os_error());
                self.end_all(Outcome::Failed(errno));
            }
        }
    }

    /// Waits for the words, or for news. The index in the list of what was woken.
    fn wait(&self, idle: Option<Duration>) -> Result<usize, Errno> {
        if self.worker.words > 1 {
            return self.list.wait(idle);
        }
        match self.slots.first() {
            Some(slot) => sys::wait(&slot.word, slot.expected, Some(LONG)).map(|()| 1),
            None => sys::wait(&self.worker.news, self.news, idle).map(|()| 0),
        }
    }

    fn work(&mut self) {
        self.list.push(&self.worker.news, 0);
        while self.clear_desk() {
            let idle = self.slots.is_empty().then_some(IDLE);
            match self.wait(idle) {
                // The kernel names the last of those that were woken: with the first, no other was.
                Ok(0) | Err(Errno::INTR) => {}
                Ok(woken) => {
                    self.end(woken - 1, Outcome::Woken);
                    // Who was woken often waits again at once: that comes onto the desk before the next look at it
                    // if it runs first, and saves beginning all waits twice.
                    std::thread::yield_now();
                }
                // The kernel does not say which. Words that were woken together with the one that it named
                // are found here too, since they have changed.
                Err(Errno::AGAIN) => self.end_changed(),
                Err(Errno::TIMEDOUT) => {
                    if self.end_if_idle() {
                        return;
                    }
                }
                // The memory of a word is gone, such as that of a file which was truncated: the others go on.
                Err(Errno::FAULT) if self.end_faulty() => {}
                // Out of memory: everybody is told, rather than one chosen wrongly.
                Err(errno) => self.end_all(Outcome::Failed(errno.raw_os_error())),
            }
        }
        self.end_all(Outcome::ShutDown);
    }

    /// Does what there is to do before the thread sleeps; false when the runtime ends.
    fn clear_desk(&mut self) -> bool {
        loop {
            let (arrivals, departures) = {
                let mut desk = self.worker.desk();
                if let Some(interrupter) = &desk.interrupter {
                    interrupter.stop();
                }
                if desk.shut_down {
                    desk.ended = true;
                    self.slots.append(&mut desk.arrivals);
                    return false;
                }
                if desk.arrivals.is_empty() && desk.departures.is_empty() {
                    // From here on whatever comes changes the news.
                    desk.asleep = true;
                    self.news = self.worker.news.load(Ordering::Acquire);
                    self.list.expect_first(self.news);
                    return true;
                }
                (
                    std::mem::take(&mut desk.arrivals),
                    std::mem::take(&mut desk.departures),
                )
            };
            for slot in arrivals {
                self.list.push(&slot.word, slot.expected);
                self.slots.push(slot);
            }
            for slot in departures {
                self.dismiss(&slot);
            }
        }
    }

    /// Ends a wait that was cancelled, if it has not ended by itself.
    fn dismiss(&mut self, slot: &Arc<Slot>) {
        let at = self.slots.iter().position(|known| Arc::ptr_eq(known, slot));
        let Some(at) = at else { return };
        // The word may have been woken when it was changed.
        match slot.has_changed() {
            true => self.end(at, Outcome::Woken),
            false => self.end(at, Outcome::Changed),
        }
    }

    /// Ends a wait. A wake-up that nobody sees is passed on.
    fn end(&mut self, at: usize, outcome: Outcome) {
        self.list.swap_remove(at + 1);
        let slot = self.slots.swap_remove(at);
        {
            let mut desk = self.worker.desk();
            desk.waits -= 1;
            // It is awake, and looks at the desk before it sleeps again.
            desk.asleep = false;
        }
        self.roomy.store(self.number, Ordering::Relaxed);
        self.complete(&slot, outcome);
    }

    fn complete(&self, slot: &Slot, outcome: Outcome) {
        // Before whoever is woken asks for room.
        let ended = slot.complete_with(outcome, || self.worker.desk().load -= 1);
        if !ended && outcome == Outcome::Woken {
            sys::wake(&slot.word, 1);
        }
    }

    fn end_changed(&mut self) {
        for at in (0..self.slots.len()).rev() {
            if self.slots.get(at).is_some_and(|slot| slot.has_changed()) {
                self.end(at, Outcome::Woken);
            }
        }
    }

    /// Ends the waits for words that the kernel cannot read. False if there is none.
    fn end_faulty(&mut self) -> bool {
        let mut found = false;
        for at in (0..self.slots.len()).rev() {
            let Some(slot) = self.slots.get(at) else {
                continue;
            };
            // It ends at once, whatever the word is. The word is not touched here, which would put zeros in its place.
            let mut list = WaitList::new();
            list.push(&slot.word, !slot.expected);
            match list.wait(Some(Duration::ZERO)) {
                Err(Errno::FAULT) => {
                    found = true;
                    self.end(at, Outcome::Failed(Errno::FAULT.raw_os_error()));
                }
                // Just then.
                Ok(_) => self.end(at, Outcome::Woken),
                Err(_) => {}
            }
        }
        found
    }

    fn end_all(&mut self, outcome: Outcome) {
        self.list.truncate(1);
        let slots = std::mem::take(&mut self.slots);
        self.worker.desk().waits -= slots.len();
        for slot in slots {
            self.complete(&slot, outcome);
        }
    }

    fn end_if_idle(&mut self) -> bool {
        let mut desk = self.worker.desk();
        desk.ended = desk.waits == 0;
        desk.ended
    }
}
