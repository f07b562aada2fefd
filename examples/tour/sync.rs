//! Semaphores, a word, and a lock.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sinew::sync::{
    Event, Mutex, Region, Semaphore, SemaphoreOptions, WordOptions, WordSink, WordStream,
    WordValue, sysv,
};

use crate::second;
use crate::stage::{Error, Shown, Skipped, Span, Stage};

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "sem",
        shows: "units, of POSIX semaphores",
        first: |stage| Box::pin(posix_first(stage)),
        second: |name| Box::pin(posix_second(name)),
    },
    Stage {
        name: "sysvsem",
        shows: "units, of a SysV set of semaphores",
        first: |stage| Box::pin(sysv_first(stage)),
        second: |id| Box::pin(sysv_second(id)),
    },
    Stage {
        name: "futex",
        shows: "values of two words",
        first: |stage| Box::pin(futex_first(stage)),
        second: |path| Box::pin(futex_second(path)),
    },
    Stage {
        name: "mutex",
        shows: "data behind a lock, with events; then both count",
        first: |stage| Box::pin(mutex_first(stage)),
        second: |path| Box::pin(mutex_second(path)),
    },
];

/// What both kinds of semaphores can do.
trait Units {
    async fn take(&self) -> Result<(), Error>;
    fn try_take(&self) -> Result<bool, Error>;
    fn give(&self) -> Result<(), Error>;
    fn units(&self) -> Result<u32, Error>;
}

impl Units for Semaphore {
    async fn take(&self) -> Result<(), Error> {
        self.acquire().await?.forget();
        Ok(())
    }

    fn try_take(&self) -> Result<bool, Error> {
        let permit = self.try_acquire();
        Ok(permit.map(|permit| permit.forget()).is_some())
    }

    fn give(&self) -> Result<(), Error> {
        Ok(self.post()?)
    }

    fn units(&self) -> Result<u32, Error> {
        Ok(self.value())
    }
}

impl Units for sysv::Semaphore {
    async fn take(&self) -> Result<(), Error> {
        self.acquire().await?.forget();
        Ok(())
    }

    fn try_take(&self) -> Result<bool, Error> {
        let permit = self.try_acquire()?;
        Ok(permit.map(|permit| permit.forget()).is_some())
    }

    fn give(&self) -> Result<(), Error> {
        Ok(self.post()?)
    }

    fn units(&self) -> Result<u32, Error> {
        Ok(self.value()?.into())
    }
}

/// The units of the two directions, and one for the end of each of the two parts.
struct Sides<S> {
    there: S,
    back: S,
    end: S,
}

/// As many as may wait to be taken.
const MANY: u32 = 20_000;
/// Until there are fewer.
const PAUSE: Duration = Duration::from_micros(200);

impl<S: Units> Sides<S> {
    /// Round trips, then one way; each unit of that comes back at the end.
    async fn first(&self) -> Result<Shown, Error> {
        let mut shown = Shown::default();
        let span = Span::begin();
        while span.goes_on() {
            let begun = Instant::now();
            self.there.give()?;
            self.back.take().await?;
            shown.round_trip(begun.elapsed());
        }
        self.end.give()?;
        self.there.give()?;

        let mut count = 0;
        let span = Span::begin();
        let begun = Instant::now();
        while span.goes_on() {
            self.there.give()?;
            count += 1;
            while count % 256 == 0 && self.there.units()? > MANY {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.end.give()?;
        self.there.give()?;
        self.back.take().await?;
        shown.one_way(count, begun.elapsed());
        for _ in 1..count {
            self.back.take().await?;
        }
        if self.there.units()? != 0 || self.back.units()? != 0 {
            return Err("there are more units than were given".into());
        }
        Ok(shown)
    }

    async fn second(&self) -> Result<(), Error> {
        loop {
            self.there.take().await?;
            if self.end.try_take()? {
                break;
            }
            self.back.give()?;
        }
        let mut count = 0_u64;
        loop {
            self.there.take().await?;
            count += 1;
            if self.end.try_take()? {
                // All were given before that.
                while self.there.try_take()? {
                    count += 1;
                }
                break;
            }
        }
        for number in 1..count {
            self.back.give()?;
            while number % 256 == 0 && self.back.units()? > MANY {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

fn posix(options: &SemaphoreOptions, name: &str) -> Result<Sides<Semaphore>, Error> {
    let open = |side| options.open(&format!("{name}-{side}"));
    let sides = (open("there"), open("back"), open("end"));
    match sides {
        (Ok(there), Ok(back), Ok(end)) => Ok(Sides { there, back, end }),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(skipped(error)),
    }
}

async fn posix_first(stage: &'static Stage) -> Result<Shown, Error> {
    let name = format!("/sinew-tour-{}", std::process::id());
    let sides = posix(&SemaphoreOptions::new().exclusive(true).unlink(true), &name)?;
    let child = second::command(stage, &name)?.spawn()?;
    let shown = sides.first().await?;
    second::end(child).await?;
    Ok(shown)
}

async fn posix_second(name: String) -> Result<(), Error> {
    posix(&SemaphoreOptions::new(), &name)?.second().await
}

fn sides(set: &sysv::Set) -> Result<Sides<sysv::Semaphore>, Error> {
    Ok(Sides {
        there: set.semaphore(0)?,
        back: set.semaphore(1)?,
        end: set.semaphore(2)?,
    })
}

async fn sysv_first(stage: &'static Stage) -> Result<Shown, Error> {
    let options = sysv::Options::new().count(3).remove_on_drop(true);
    let set = options.open(sysv::Target::Private).await.map_err(skipped)?;
    let child = second::command(stage, set.id().to_string())?.spawn()?;
    let shown = sides(&set)?.first().await?;
    second::end(child).await?;
    Ok(shown)
}

async fn sysv_second(id: String) -> Result<(), Error> {
    let target = sysv::Target::Id(id.parse()?);
    sides(&sysv::Options::new().open(target).await?)?
        .second()
        .await
}

/// A file that goes with the value.
struct Memory(PathBuf);

impl Memory {
    fn new(what: &str) -> Result<Self, Error> {
        let memory = Self(format!("/dev/shm/sinew-tour-{what}-{}", std::process::id()).into());
        File::create_new(&memory.0)?.set_len(4096)?;
        Ok(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _removed_before = std::fs::remove_file(&self.0);
    }
}

async fn futex_first(stage: &'static Stage) -> Result<Shown, Error> {
    let memory = Memory::new("word")?;
    let there = WordOptions::new().open(&memory.0, 0)?;
    let back = WordOptions::new().open(&memory.0, 64)?;
    let (mut sink, mut stream) = (WordSink::new(there), WordStream::new(back));
    let child = second::command(stage, &memory.0)?.spawn()?;
    let mut shown = Shown::default();
    let span = Span::begin();
    let begun = Instant::now();
    let mut number = 0;
    while span.goes_on() {
        number += 1;
        let begun = Instant::now();
        sink.send(number).await?;
        let answer = stream.recv().await?;
        shown.round_trip(begun.elapsed());
        if answer != Some(WordValue(!number)) {
            return Err(format!("the answer to {number} is {answer:?}").into());
        }
    }
    shown.one_way(0, begun.elapsed());
    shown.rate = f64::from(number) * 2.0 / begun.elapsed().as_secs_f64();
    shown.detail = "one at a time, since values that nobody looks at merge".to_owned();
    sink.send(u32::MAX).await?;
    second::end(child).await?;
    Ok(shown)
}

async fn futex_second(path: String) -> Result<(), Error> {
    let there = WordOptions::new().open(&path, 0)?;
    let back = WordOptions::new().open(&path, 64)?;
    // The first may have been stored before.
    let (mut sink, mut stream) = (WordSink::new(back), WordStream::since(there, 0));
    for number in 1.. {
        match stream.recv().await? {
            Some(WordValue(u32::MAX)) => break,
            Some(WordValue(value)) if value == number => sink.send(!value).await?,
            other => return Err(format!("{other:?} instead of {number}").into()),
        }
    }
    Ok(())
}

/// A number with its opposite, how often each has counted, and whether that is over.
type Data = [u64; 5];

struct Locked {
    data: Mutex<Data>,
    there: Event,
    back: Event,
}

impl Locked {
    fn new(memory: &PathBuf, is_first: bool) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(memory)?;
        let region = Region::from_file(file.as_fd(), 4096, "the tour's memory")?;
        let (data, there, back) = match is_first {
            true => (
                Mutex::create(&region, 0, [0; 5])?,
                Event::create(&region, 1024)?,
                Event::create(&region, 2048)?,
            ),
            false => (
                Mutex::attach(&region, 0)?,
                Event::attach(&region, 1024)?,
                Event::attach(&region, 2048)?,
            ),
        };
        Ok(Self { data, there, back })
    }
}

async fn mutex_first(stage: &'static Stage) -> Result<Shown, Error> {
    let memory = Memory::new("lock")?;
    let Locked { data, there, back } = Locked::new(&memory.0, true)?;
    let child = second::command(stage, &memory.0)?.spawn()?;
    let mut shown = Shown::default();
    let span = Span::begin();
    let mut number = 0;
    while span.goes_on() {
        number += 1;
        let begun = Instant::now();
        data.lock().await.map_err(sinew::Error::from)?[0] = number;
        there.set();
        back.wait().await?;
        back.clear();
        let answer = data.lock().await.map_err(sinew::Error::from)?[1];
        shown.round_trip(begun.elapsed());
        if answer != !number {
            return Err(format!("the answer to {number} is {answer}").into());
        }
    }
    data.lock().await.map_err(sinew::Error::from)?[0] = 0;
    there.set();
    let mut count = 0;
    let span = Span::begin();
    let begun = Instant::now();
    while span.goes_on() {
        let mut data = data.lock().await.map_err(sinew::Error::from)?;
        data[2] += 1;
        data[4] += 1;
        count += 1;
    }
    data.lock().await.map_err(sinew::Error::from)?[0] = 1;
    let took = begun.elapsed();
    second::end(child).await?;
    let [_, _, ours, theirs, both] = *data.lock().await.map_err(sinew::Error::from)?;
    if ours != count || ours + theirs != both {
        return Err(format!("{ours} and {theirs} are not {both}").into());
    }
    shown.one_way(both, took);
    Ok(shown)
}

async fn mutex_second(path: String) -> Result<(), Error> {
    let Locked { data, there, back } = Locked::new(&path.into(), false)?;
    loop {
        there.wait().await?;
        there.clear();
        let mut data = data.lock().await.map_err(sinew::Error::from)?;
        if data[0] == 0 {
            break;
        }
        data[1] = !data[0];
        drop(data);
        back.set();
    }
    loop {
        let mut data = data.lock().await.map_err(sinew::Error::from)?;
        if data[0] == 1 {
            return Ok(());
        }
        data[3] += 1;
        data[4] += 1;
    }
}

/// Where the system has none of it, that is no failure.
fn skipped(error: sinew::Error) -> Error {
    match error.kind() {
        sinew::ErrorKind::Unsupported => Skipped(error.to_string()).into(),
        _ => error.into(),
    }
}
