//! `sem:`, `sysvsem:` and `futex:` addresses.

use sinew_core::{Address, BoxSink, BoxStream, Error, Messages, Scheme};
use sinew_sync::{Semaphore, SemaphoreOptions, WordOptions, WordSink, WordStream, sysv};

use super::parameters::{exclusive, invalid, mode, named, target};

/// What all three have: one object, for both directions.
enum Opened {
    Posix(Semaphore),
    Sysv(sysv::Semaphore),
    Word(sinew_sync::Word),
}

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let opened = opened(address).await?;
    Ok((opened.sink(), opened.stream()))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    Ok(opened(address).await?.sink())
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    Ok(opened(address).await?.stream())
}

impl Opened {
    fn sink(&self) -> BoxSink {
        match self {
            Self::Posix(semaphore) => Box::pin(Messages::new(semaphore.clone().into_sink())),
            Self::Sysv(semaphore) => Box::pin(Messages::new(semaphore.clone().into_sink())),
            Self::Word(word) => Box::pin(Messages::new(WordSink::new(word.clone()))),
        }
    }

    fn stream(&self) -> BoxStream {
        match self {
            Self::Posix(semaphore) => Box::pin(Messages::new(semaphore.clone().into_stream())),
            Self::Sysv(semaphore) => Box::pin(Messages::new(semaphore.clone().into_stream())),
            Self::Word(word) => Box::pin(Messages::new(WordStream::new(word.clone()))),
        }
    }
}

async fn opened(address: &Address) -> Result<Opened, Error> {
    let opened = match address.scheme() {
        Scheme::Sem => posix(address).map(Opened::Posix),
        Scheme::SysvSem => sysv(address).await.map(Opened::Sysv),
        _ => word(address).map(Opened::Word),
    };
    opened.map_err(|error| named(error, address))
}

fn posix(address: &Address) -> Result<Semaphore, Error> {
    let mut options = SemaphoreOptions::new()
        .create(address.flag("create"))
        .exclusive(exclusive(address)?)
        .unlink(address.flag("unlink"));
    if let Some(mode) = mode(address)? {
        options = options.mode(mode);
    }
    if let Some(value) = address.parse_param("value")? {
        options = options.value(value);
    }
    match address.rest().to_str() {
        Some(name) => options.open(name),
        None => Err(invalid(
            address,
            "the name is not UTF-8",
            "choose another name",
        )),
    }
}

async fn sysv(address: &Address) -> Result<sysv::Semaphore, Error> {
    let index = address.semaphore_index().unwrap_or(0);
    let mut options = sysv::Options::new()
        .create(address.flag("create"))
        .exclusive(exclusive(address)?)
        .remove_on_drop(address.flag("remove"));
    if let Some(mode) = mode(address)? {
        options = options.mode(mode);
    }
    match address.parse_param::<u16>("count")? {
        Some(count) if count <= index => {
            return Err(invalid(
                address,
                format!("a set of {count} has no semaphore {index}: they are counted from 0"),
                "ask for more, or for another",
            ));
        }
        Some(count) => options = options.count(count),
        None => options = options.count(index.saturating_add(1)),
    }
    if let Some(value) = address.parse_param("value")? {
        options = options.value(value);
    }
    if let Some(timeout) = address.duration("timeout")? {
        options = options.init_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()));
    }
    let set = options.open(target(address, "set")?).await?;
    Ok(set.semaphore(index)?.undo(address.flag("undo")))
}

fn word(address: &Address) -> Result<sinew_sync::Word, Error> {
    let Some(path) = address.path() else {
        return Err(invalid(
            address,
            "it names no file",
            "write futex: and a path",
        ));
    };
    let mut options = WordOptions::new().create(address.flag("create"));
    if let Some(mode) = mode(address)? {
        options = options.mode(mode);
    }
    options.open(path, address.parse_param("offset")?.unwrap_or(0))
}
