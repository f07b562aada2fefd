//! `posixshm:`, `sysvshm:` and `mmap:` addresses.

use sinew_core::{Address, BoxSink, BoxStream, Error, Messages, Scheme};
use sinew_memory::{MappedFile, PosixShm, SysvShm};
use sinew_shm::Wait;
use sinew_shm::named::{Options, Place};

use super::parameters::{exclusive, invalid, mode, named, target};

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let (options, place) = (options(address)?, place(address)?);
    let opened = match address.flag("listen") {
        true => options.open_server(place).await,
        false => options.open_client(place).await,
    };
    let (sender, receiver) = opened.map_err(|error| named(error, address))?;
    Ok((
        Box::pin(Messages::new(sender)),
        Box::pin(Messages::new(receiver)),
    ))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    check_one_direction(address)?;
    let sender = options(address)?.open_sender(place(address)?).await;
    Ok(Box::pin(Messages::new(
        sender.map_err(|error| named(error, address))?,
    )))
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    check_one_direction(address)?;
    let receiver = options(address)?.open_receiver(place(address)?).await;
    Ok(Box::pin(Messages::new(
        receiver.map_err(|error| named(error, address))?,
    )))
}

fn check_one_direction(address: &Address) -> Result<(), Error> {
    match address.flag("listen") {
        false => Ok(()),
        true => Err(invalid(
            address,
            "`listen` is for both directions, and this end has one",
            "leave it out, or open both directions",
        )),
    }
}

fn options(address: &Address) -> Result<Options, Error> {
    let options = Options::new().crash_on_drop(true);
    let mut options = options.wait(match address.get_str("wait") {
        Some("park") => Wait::Park,
        Some("spin") => Wait::Spin,
        _ => Wait::Adaptive,
    });
    if let Some(bytes) = address.size("size")? {
        options = options.capacity(bytes);
    }
    if let Some(bytes) = address.size("max-message")? {
        options = options.max_message(bytes);
    }
    if let Some(uid) = address.parse_param::<u32>("allow-uid")? {
        options = options.allow_uid(uid);
    }
    if let Some(timeout) = address.duration("timeout")? {
        options = options.timeout(timeout);
    }
    Ok(options)
}

/// The builders have the same methods, and no type in common.
macro_rules! configure {
    ($address:expr, $builder:expr) => {{
        let builder = $builder
            .create($address.flag("create"))
            .exclusive(exclusive($address)?);
        match mode($address)? {
            Some(mode) => builder.mode(mode).into(),
            None => builder.into(),
        }
    }};
}

fn place(address: &Address) -> Result<Place, Error> {
    Ok(match address.scheme() {
        Scheme::PosixShm => configure!(address, posix(address)),
        Scheme::SysvShm => configure!(address, sysv(address)?),
        _ => configure!(address, file(address)),
    })
}

fn posix(address: &Address) -> PosixShm {
    PosixShm::new(address.rest()).unlink_on_drop(address.flag("unlink"))
}

fn sysv(address: &Address) -> Result<SysvShm, Error> {
    Ok(SysvShm::new(target(address, "segment")?).remove_on_drop(address.flag("remove")))
}

fn file(address: &Address) -> MappedFile {
    MappedFile::new(address.rest()).remove_on_drop(address.flag("unlink"))
}
