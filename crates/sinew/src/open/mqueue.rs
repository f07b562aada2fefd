//! `mq:` and `sysvmq:` addresses.

use sinew_core::{Address, BoxSink, BoxStream, Error, Messages, Scheme};
use sinew_mqueue::{posix, sysv};

use super::parameters::{exclusive, mode, named, target};

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let (sink, stream): (BoxSink, BoxStream) = match address.scheme() {
        Scheme::Mq => {
            let opened = posix_options(address)?.open(address.rest());
            let (sender, receiver) = opened.map_err(|error| named(error, address))?.split();
            (
                Box::pin(Messages::new(sender)),
                Box::pin(Messages::new(receiver)),
            )
        }
        _ => {
            let opened = sysv_options(address)?.open(target(address, "queue")?);
            let (sender, receiver) = opened.map_err(|error| named(error, address))?.split();
            (
                Box::pin(Messages::new(sender)),
                Box::pin(Messages::new(receiver)),
            )
        }
    };
    Ok((sink, stream))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    Ok(match address.scheme() {
        Scheme::Mq => {
            let sender = posix_options(address)?.open_sender(address.rest());
            Box::pin(Messages::new(
                sender.map_err(|error| named(error, address))?,
            ))
        }
        _ => {
            let sender = sysv_options(address)?.open_sender(target(address, "queue")?);
            Box::pin(Messages::new(
                sender.map_err(|error| named(error, address))?,
            ))
        }
    })
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    Ok(match address.scheme() {
        Scheme::Mq => {
            let receiver = posix_options(address)?.open_receiver(address.rest());
            Box::pin(Messages::new(
                receiver.map_err(|error| named(error, address))?,
            ))
        }
        _ => {
            let receiver = sysv_options(address)?.open_receiver(target(address, "queue")?);
            Box::pin(Messages::new(
                receiver.map_err(|error| named(error, address))?,
            ))
        }
    })
}

fn posix_options(address: &Address) -> Result<posix::Options, Error> {
    let mut options = posix::Options::new()
        .create(address.flag("create"))
        .exclusive(exclusive(address)?)
        .unlink_on_drop(address.flag("unlink"));
    if let Some(mode) = mode(address)? {
        options = options.mode(mode);
    }
    if let Some(count) = address.parse_param("maxmsg")? {
        options = options.max_messages(count);
    }
    if let Some(bytes) = address.size("msgsize")? {
        // What no memory can hold is above the kernel's limit, which says so.
        options = options.message_size(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    if let Some(priority) = address.parse_param("prio")? {
        options = options.priority(priority);
    }
    Ok(options)
}

fn sysv_options(address: &Address) -> Result<sysv::Options, Error> {
    let mut options = sysv::Options::new()
        .create(address.flag("create"))
        .exclusive(exclusive(address)?)
        .remove_on_drop(address.flag("remove"));
    if let Some(mode) = mode(address)? {
        options = options.mode(mode);
    }
    if let Some(bytes) = address.size("max-message")? {
        options = options.max_message(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let (select, kind) = match (
        address.parse_param::<i64>("type")?,
        address.parse_param("except")?,
    ) {
        (Some(kind @ 1..), _) => (sysv::Select::Equal(kind), kind),
        (Some(0), _) => (sysv::Select::Any, 1),
        // What is sent with the default is what this address receives.
        (Some(most), _) => (sysv::Select::UpTo(-most), 1),
        (None, Some(kind)) => (sysv::Select::Except(kind), if kind == 1 { 2 } else { 1 }),
        (None, None) => (sysv::Select::Any, 1),
    };
    Ok(options.select(select).kind(kind))
}
