//! `posixshm:`, `sysvshm:` and `mmap:` addresses.

use sinew_core::{Address, BoxSink, BoxStream, Error, Messages, Scheme};
use sinew_memory::{MappedFile, PosixShm, SysvShm};
use sinew_shm::Wait;
use sinew_shm::named::{Options, Place};

use super::parameters::{exclusive, mode, named, target};

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let opened = options(address)?.open(place(address)?).await;
    let (sender, receiver) = opened.map_err(|error| named(error, address))?;
    Ok((
        Box::pin(Messages::new(sender)),
        Box::pin(Messages::new(receiver)),
    ))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    let sender = options(address)?.open_sender(place(address)?).await;
    Ok(Box::pin(Messages::new(
        sender.map_err(|error| named(error, address))?,
    )))
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    let receiver = options(address)?.open_receiver(place(address)?).await;
    Ok(Box::pin(Messages::new(
        receiver.map_err(|error| named(error, address))?,
    )))
}

fn options(address: &Address) -> Result<Options, Error> {
    let mut options = Options::new().wait(match address.get_str("wait") {
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
    if let Some(timeout) = address.duration("timeout")? {
        options = options.timeout(timeout);
    }
    Ok(options)
}

/// The builders have the same methods, and no type in common.
macro_rules! configure {
    ($address:expr, $builder:expr, $remove:ident, $key:literal) => {{
        let builder = $builder
            .create($address.flag("create"))
            .exclusive(exclusive($address)?)
            .$remove($address.flag($key));
        match mode($address)? {
            Some(mode) => builder.mode(mode).into(),
            None => builder.into(),
        }
    }};
}

fn place(address: &Address) -> Result<Place, Error> {
    Ok(match address.scheme() {
        Scheme::PosixShm => {
            let shm = PosixShm::new(address.rest());
            configure!(address, shm, unlink_on_drop, "unlink")
        }
        Scheme::SysvShm => {
            let shm = SysvShm::new(target(address, "segment")?);
            configure!(address, shm, remove_on_drop, "remove")
        }
        _ => {
            let file = MappedFile::new(address.rest());
            configure!(address, file, remove_on_drop, "unlink")
        }
    })
}
