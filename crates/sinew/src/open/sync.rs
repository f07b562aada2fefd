//! `sem:`, `sysvsem:` and `futex:` addresses.

use std::fmt::Display;

use sinew_core::{Address, BoxSink, BoxStream, Error, ErrorKind, Messages, Scheme, SysvTarget};
use sinew_sync::{Semaphore, SemaphoreOptions, WordOptions, WordSink, WordStream, sysv};

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
    let set = options.open(target(address)?).await?;
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

fn target(address: &Address) -> Result<sysv::Target, Error> {
    let project = address.parse_param::<u8>("project")?;
    let target = match address.sysv_target() {
        Some(SysvTarget::Path(path)) => return Ok(sysv::Target::path(path, project.unwrap_or(1))),
        Some(SysvTarget::Key(key)) => sysv::Target::Key(key),
        Some(SysvTarget::Id(id)) => sysv::Target::Id(id),
        _ => {
            return Err(invalid(
                address,
                "it names no set",
                "write sysvsem: and a key such as 0x5e1f, `id=` and a number, or an absolute path",
            ));
        }
    };
    match project {
        None => Ok(target),
        Some(_) => Err(invalid(
            address,
            "`project` is for a path, and this is none",
            "leave it out",
        )),
    }
}

fn exclusive(address: &Address) -> Result<bool, Error> {
    if address.flag("exclusive") && !address.flag("create") {
        return Err(invalid(
            address,
            "`exclusive` is for what is made, and this is opened",
            "add `create`, or leave it out",
        ));
    }
    Ok(address.flag("exclusive"))
}

fn mode(address: &Address) -> Result<Option<u32>, Error> {
    let mode = address.mode("mode")?;
    match mode.filter(|mode| mode & !0o777 != 0) {
        None => Ok(mode),
        Some(mode) => Err(invalid(
            address,
            format!("the mode {mode:o} has more than permission bits"),
            format!("write {:o}", mode & 0o777),
        )),
    }
}

fn invalid(address: &Address, reason: impl Display, remedy: impl Display) -> Error {
    Error::new(ErrorKind::InvalidAddress, "open")
        .with_address(address)
        .with_reason(reason.to_string())
        .with_remedy(remedy.to_string())
}

/// Names the address in errors that know only themselves.
fn named(error: Error, address: &Address) -> Error {
    match error.address() {
        Some(_) => error,
        None => error.with_address(address),
    }
}
