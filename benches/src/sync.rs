//! The suite `sync`: semaphores, locks and words of shared memory.
//!
//! - `op/mutex`, `op/semaphore`: taken and given back by one, with nobody else there. The limit is the pair of
//!   atomic operations.
//! - `rtt/8/semaphore`, `rtt/8/event`: two processes that hand over to each other. The limit is a store and
//!   futex(2) with `FUTEX_WAKE` and `FUTEX_WAIT`.
//! - `op/wake-10`, `op/wake-10000`: from waking one of as many tasks, each of which waits for a word of its own, until it
//!   runs, on another CPU. The limit is a thread that waits with futex(2); `raw-waitv` is as many words, without Tokio, in
//!   threads that wait for 127 each with futex_waitv(2).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::ClockId;
use sinew_sync::{Backend, Driver, Event, Mutex, Region, Semaphore, Word, blocking_wait, wake};

use crate::Result;
use crate::case::{Case, Comparison, Side, Size, Suite, Wait};
use crate::limit::SUBJECT as LIMIT;
use crate::measure::Record;
use crate::runtime::current_thread;
use crate::session::Session;
use crate::sys::Mailbox;

pub(crate) const SUITE: Suite = Suite {
    name: "sync",
    cases,
    limit: |case| Some(case.name()),
    comparisons: &COMPARISONS,
};

const COMPARISONS: [Comparison; 3] = [
    Comparison {
        ours: ("sinew", "op/wake-10000"),
        theirs: ("sinew", "op/wake-10"),
    },
    Comparison {
        ours: ("sinew-waitv", "op/wake-10000"),
        theirs: ("sinew-waitv", "op/wake-10"),
    },
    Comparison {
        ours: ("raw-waitv", "op/wake-10000"),
        theirs: ("raw-waitv", "op/wake-10"),
    },
];

/// Pairs between two looks at the clock.
const BATCH: u32 = 256;
const PAGE: usize = 4096;
/// Where the second of two words or primitives lies.
const SECOND: usize = 1024;

fn cases() -> Vec<Case> {
    let alone: [(&str, &str, Side); 6] = [
        (LIMIT, "mutex", raw_mutex),
        ("sinew", "mutex", mutex),
        ("sinew-block", "mutex", blocking_mutex),
        (LIMIT, "semaphore", raw_semaphore),
        ("sinew", "semaphore", semaphore),
        ("sinew-block", "semaphore", blocking_semaphore),
    ];
    let between: [(&str, &str, Side, Side); 10] = [
        (LIMIT, "semaphore", raw_ask, raw_answer),
        ("sinew", "semaphore", semaphore_ask, semaphore_answer),
        ("sinew-park", "semaphore", semaphore_ask, semaphore_answer),
        ("sinew-waitv", "semaphore", semaphore_ask, semaphore_answer),
        ("sinew-block", "semaphore", blocking_ask, blocking_answer),
        (LIMIT, "event", raw_ask, raw_answer),
        ("sinew", "event", event_ask, event_answer),
        ("sinew-park", "event", event_ask, event_answer),
        ("sinew-waitv", "event", event_ask, event_answer),
        (
            "sinew-block",
            "event",
            blocking_event_ask,
            blocking_event_answer,
        ),
    ];
    let wakes: [(&str, &str, Side); 8] = [
        (LIMIT, "wake-10", raw_wake),
        ("sinew", "wake-10", wake_tasks),
        ("sinew-waitv", "wake-10", wake_tasks),
        ("raw-waitv", "wake-10", raw_waitv),
        (LIMIT, "wake-10000", raw_wake),
        ("sinew", "wake-10000", wake_tasks),
        ("sinew-waitv", "wake-10000", wake_tasks),
        ("raw-waitv", "wake-10000", raw_waitv),
    ];
    let alone = alone
        .into_iter()
        .map(|(subject, how, side)| Case::operation(subject, how, Wait::Spin, side));
    let between = between.into_iter().map(|(subject, how, ask, answer)| {
        Case::round_trip(subject, Size::WORD, how, Wait::Park, ask, answer)
    });
    let wakes = wakes
        .into_iter()
        .map(|(subject, how, side)| Case::operation(subject, how, Wait::Park, side));
    alone.chain(between).chain(wakes).collect()
}

fn raw_mutex(session: &mut Session) -> Result<Record> {
    let word = Region::anonymous(PAGE)?.view::<AtomicU64>(0)?;
    let mut operations = session.operations();
    while let Some(begun) = operations.begin() {
        for _ in 0..BATCH {
            let taken = word.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_err() || word.swap(0, Ordering::SeqCst) != 1 {
                return Err("somebody else is here".into());
            }
        }
        operations.end(begun, BATCH);
    }
    Ok(operations.finish())
}

fn mutex(session: &mut Session) -> Result<Record> {
    current_thread(async {
        let mutex = Mutex::create(&Region::anonymous(PAGE)?, 0, 0_u64)?;
        let mut operations = session.operations();
        while let Some(begun) = operations.begin() {
            for _ in 0..BATCH {
                drop(mutex.lock().await.map_err(sinew_core::Error::from)?);
            }
            operations.end(begun, BATCH);
        }
        Ok(operations.finish())
    })
}

fn blocking_mutex(session: &mut Session) -> Result<Record> {
    let mutex = Mutex::create(&Region::anonymous(PAGE)?, 0, 0_u64)?;
    let mut operations = session.operations();
    while let Some(begun) = operations.begin() {
        for _ in 0..BATCH {
            drop(mutex.blocking_lock(None).map_err(sinew_core::Error::from)?);
        }
        operations.end(begun, BATCH);
    }
    Ok(operations.finish())
}

fn raw_semaphore(session: &mut Session) -> Result<Record> {
    let word = Region::anonymous(PAGE)?.view::<AtomicU64>(0)?;
    word.store(1, Ordering::SeqCst);
    let mut operations = session.operations();
    while let Some(begun) = operations.begin() {
        for _ in 0..BATCH {
            if word.fetch_sub(1, Ordering::Acquire) != 1
                || word.fetch_add(1, Ordering::Release) != 0
            {
                return Err("somebody else is here".into());
            }
        }
        operations.end(begun, BATCH);
    }
    Ok(operations.finish())
}

fn semaphore(session: &mut Session) -> Result<Record> {
    current_thread(async {
        let semaphore = Semaphore::create(&Region::anonymous(PAGE)?, 0, 1)?;
        let mut operations = session.operations();
        while let Some(begun) = operations.begin() {
            for _ in 0..BATCH {
                drop(semaphore.acquire().await?);
            }
            operations.end(begun, BATCH);
        }
        Ok(operations.finish())
    })
}

fn blocking_semaphore(session: &mut Session) -> Result<Record> {
    let semaphore = Semaphore::create(&Region::anonymous(PAGE)?, 0, 1)?;
    let mut operations = session.operations();
    while let Some(begun) = operations.begin() {
        for _ in 0..BATCH {
            drop(semaphore.blocking_acquire(None)?);
        }
        operations.end(begun, BATCH);
    }
    Ok(operations.finish())
}

/// What both processes of a hand-over see: where the payload goes, and what wakes.
fn shared(session: &mut Session, first: bool) -> Result<(Mailbox, Region)> {
    let len = session.len();
    if first {
        let memory = Mailbox::create(len)?;
        let (region, fd) = Region::memfd(PAGE)?;
        session.send_fds(&[memory.as_fd(), fd.as_fd()])?;
        return Ok((Mailbox::open(memory, len, true)?, region));
    }
    let [memory, fd] = session.recv_fds()?;
    Ok((
        Mailbox::open(memory, len, false)?,
        Region::from_memfd(fd.as_fd())?,
    ))
}

macro_rules! ask {
    ($session:ident, $mailbox:ident, $give:expr, $take:expr) => {{
        let mut trips = $session.trips();
        while let Some(stamp) = trips.begin() {
            $mailbox.put(stamp);
            $give;
            $take;
            trips.end($mailbox.take().ok_or("woken without a message")?)?;
        }
        Ok(trips.finish())
    }};
}

macro_rules! answer {
    ($session:ident, $mailbox:ident, $give:expr, $take:expr) => {{
        let mut echo = $session.echo();
        loop {
            $take;
            let reply = echo.read($mailbox.take().ok_or("woken without a message")?)?;
            $mailbox.put(reply);
            $give;
            if reply.is_last() {
                return Ok(echo.finish());
            }
        }
    }};
}

/// Both ends of a hand-over, of which one `$make`s.
macro_rules! hand_over {
    ($ask:ident, $answer:ident, $make:expr, $attach:expr, |$own:ident, $peer:ident| $give:expr, $take:expr) => {
        fn $ask(session: &mut Session) -> Result<Record> {
            let (mut mailbox, region) = shared(session, true)?;
            let ($own, $peer) = ($make(&region, 0)?, $make(&region, SECOND)?);
            session.barrier()?;
            in_runtime(session.subject(), async {
                ask!(session, mailbox, $give, $take)
            })
        }

        fn $answer(session: &mut Session) -> Result<Record> {
            let (mut mailbox, region) = shared(session, false)?;
            session.barrier()?;
            let ($peer, $own) = ($attach(&region, 0)?, $attach(&region, SECOND)?);
            in_runtime(session.subject(), async {
                answer!(session, mailbox, $give, $take)
            })
        }
    };
}

/// On a runtime with the backend that the subject names: `sinew` looks before it waits, `sinew-park` waits at
/// once, with the same backend, `sinew-waitv` with the other one.
fn in_runtime<T>(subject: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let backend = match subject {
        "sinew-waitv" => Backend::Waitv,
        _ => Backend::Auto,
    };
    current_thread(async {
        let driver = Driver::start(backend)?;
        if matches!(subject, "sinew-park" | "sinew-waitv") {
            driver.set_spin_limit(Duration::ZERO);
        }
        work.await
    })
}

fn new_semaphore(region: &Region, offset: usize) -> Result<Semaphore> {
    Ok(Semaphore::create(region, offset, 0)?)
}

hand_over!(
    raw_ask,
    raw_answer,
    Region::view::<AtomicU32>,
    Region::view::<AtomicU32>,
    |own, peer| raw_give(&peer),
    raw_take(&own)?
);
hand_over!(
    semaphore_ask,
    semaphore_answer,
    new_semaphore,
    Semaphore::attach,
    |own, peer| peer.post()?,
    own.acquire().await?.forget()
);
hand_over!(
    blocking_ask,
    blocking_answer,
    new_semaphore,
    Semaphore::attach,
    |own, peer| peer.post()?,
    own.blocking_acquire(None)?.forget()
);
hand_over!(
    event_ask,
    event_answer,
    Event::create,
    Event::attach,
    |own, peer| peer.set(),
    {
        own.wait().await?;
        own.clear();
    }
);
hand_over!(
    blocking_event_ask,
    blocking_event_answer,
    Event::create,
    Event::attach,
    |own, peer| peer.set(),
    {
        own.blocking_wait(None)?;
        own.clear();
    }
);

fn raw_give(word: &Word) {
    word.store(1, Ordering::Release);
    wake(word, 1);
}

fn raw_take(word: &Word) -> Result<()> {
    while word.swap(0, Ordering::Acquire) == 0 {
        blocking_wait(word, 0, None)?;
    }
    Ok(())
}

/// What a wake-up is answered with: the time. Who waits for it sleeps, so that both CPUs are free for those who are to
/// wake up.
#[derive(Debug)]
struct Answers {
    origin: Instant,
    /// Nanoseconds from there, of the last answer; zero before.
    at: AtomicU64,
    asker: thread::Thread,
}

impl Answers {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            at: AtomicU64::new(0),
            asker: thread::current(),
        }
    }

    fn answer(&self) {
        let at = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.at.store(at, Ordering::Release);
        self.asker.unpark();
    }

    /// Waits for an answer, which must come: when it was given.
    fn wait(&self) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            match self.at.swap(0, Ordering::Acquire) {
                0 if begun.elapsed() > Duration::from_secs(10) => {
                    return Err("a wake-up was lost".into());
                }
                0 => thread::park_timeout(Duration::from_secs(1)),
                at => return Ok(self.origin + Duration::from_nanos(at)),
            }
        }
    }
}

/// The value that ends a waiter.
const END: u32 = u32::MAX;
/// For who was woken to be asleep again.
const PAUSE: Duration = Duration::from_micros(100);

fn raw_wake(session: &mut Session) -> Result<Record> {
    let word = Region::anonymous(PAGE)?.view::<AtomicU32>(0)?;
    let answers = Arc::new(Answers::new());
    let cpus = session.cpus();
    let waiter = thread::spawn({
        let (word, answers) = (word.clone(), Arc::clone(&answers));
        move || -> Result<()> {
            cpus.pin_second()?;
            let mut seen = 0;
            loop {
                match word.load(Ordering::Acquire) {
                    END => return Ok(()),
                    value if value != seen => {
                        seen = value;
                        answers.answer();
                    }
                    _ => blocking_wait(&word, seen, None)?,
                }
            }
        }
    });
    let record = wake_one_of(session, std::slice::from_ref(&word), &answers);
    word.store(END, Ordering::Release);
    wake(&word, 1);
    waiter.join().map_err(|_| "the waiter panicked")??;
    record
}

/// Words that a thread waits for at once.
const GROUP: usize = 127;

fn raw_waitv(session: &mut Session) -> Result<Record> {
    let (words, answers) = (words_of(session)?, Arc::new(Answers::new()));
    let cpus = session.cpus();
    let waiters: Vec<_> = words
        .chunks(GROUP)
        .map(|group| {
            let (group, answers) = (group.to_vec(), Arc::clone(&answers));
            thread::spawn(move || -> Result<()> {
                cpus.pin_second()?;
                wait_for_any(&group, &answers)
            })
        })
        .collect();
    let record = wake_one_of(session, &words, &answers);
    end_all(&words);
    for waiter in waiters {
        waiter.join().map_err(|_| "a waiter panicked")??;
    }
    record
}

fn wait_for_any(words: &[Word], answers: &Answers) -> Result<()> {
    let mut waits: Vec<_> = words
        .iter()
        .map(|word| {
            let mut wait = futex::Wait::new();
            wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let look = |index: usize, wait: &mut futex::Wait| {
        let value = words
            .get(index)
            .map_or(0, |word| word.load(Ordering::Acquire));
        if u64::from(value) != wait.val {
            wait.val = u64::from(value);
            answers.answer();
        }
        value
    };
    loop {
        let flags = futex::WaitvFlags::empty();
        let last = match futex::waitv(&waits, flags, None, ClockId::Monotonic) {
            Ok(index) => waits.get_mut(index).map(|wait| look(index, wait)),
            Err(Errno::AGAIN | Errno::INTR) => {
                let waits = waits.iter_mut().enumerate();
                waits.map(|(index, wait)| look(index, wait)).last()
            }
            Err(errno) => return Err(errno.into()),
        };
        if last == Some(END) {
            return Ok(());
        }
    }
}

fn words_of(session: &Session) -> Result<Vec<Word>> {
    let count = match session.how() {
        "wake-10" => 10,
        _ => 10_000,
    };
    let region = Region::anonymous(64 * count)?;
    let words = (0..count).map(|index| region.view(64 * index));
    Ok(words.collect::<std::result::Result<_, _>>()?)
}

fn end_all(words: &[Word]) {
    for word in words {
        word.store(END, Ordering::Release);
        wake(word, 1);
    }
}

fn wake_tasks(session: &mut Session) -> Result<Record> {
    let words = words_of(session)?;
    let count = words.len();
    let answers = Arc::new(Answers::new());
    let (tell, told) = std::sync::mpsc::channel();
    let subject = session.subject();
    let cpus = session.cpus();
    let waiters = thread::spawn({
        let (words, answers) = (words.clone(), Arc::clone(&answers));
        move || {
            cpus.pin_second()?;
            in_runtime(subject, async {
                let tasks: Vec<_> = words
                    .into_iter()
                    .map(|word| tokio::spawn(wait_for(word, Arc::clone(&answers))))
                    .collect();
                let driver = Driver::current()?;
                while driver.stats().waits < count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tell.send(driver.stats())?;
                for task in tasks {
                    task.await??;
                }
                Ok(())
            })
        }
    });
    let stats = told.recv()?;
    // What the waits take: one ring, or a thread for each 127.
    if stats.rings > 1 || stats.threads > count.div_ceil(127) || stats.rings + stats.threads == 0 {
        return Err(format!("{stats:?}").into());
    }
    let record = wake_one_of(session, &words, &answers);
    end_all(&words);
    waiters.join().map_err(|_| "the waiters panicked")??;
    record
}

async fn wait_for(word: Word, answers: Arc<Answers>) -> Result<()> {
    let driver = Driver::current()?;
    let mut seen = 0;
    loop {
        match word.load(Ordering::Acquire) {
            END => return Ok(()),
            value if value != seen => {
                seen = value;
                answers.answer();
            }
            _ => driver.wait(&word, seen).await?,
        }
    }
}

fn wake_one_of(session: &Session, words: &[Word], answers: &Answers) -> Result<Record> {
    let mut operations = session.operations();
    let mut choice = 0_usize;
    loop {
        thread::sleep(PAUSE);
        let Some(begun) = operations.begin() else {
            return Ok(operations.finish());
        };
        // Far from the last one, and each in its turn.
        choice = (choice + 7919) % words.len();
        let Some(word) = words.get(choice) else {
            return Err("there are no words".into());
        };
        word.fetch_add(1, Ordering::Release);
        wake(word, 1);
        operations.end_at(begun, answers.wait()?, 1);
    }
}
