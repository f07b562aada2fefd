//! `exec:`, `fd:` and `fifo:` addresses.

use std::os::unix::process::CommandExt;

use std::os::fd::OwnedFd;

use sinew_core::{
    Address, BoxSink, BoxStream, Error, ErrorKind, Framing, MessageSink, MessageStream, Scheme,
};
use sinew_pipe::{Options, Reader, Writer, accepted, command, fifo, inherited};

use super::parameters::{invalid, named};

/// What `framing=` can be.
#[derive(Debug, Clone, Copy)]
enum Boundaries {
    Frames(Framing),
    Packets,
}

use Boundaries::{Frames, Packets};

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    match address.scheme() {
        Scheme::Exec => exec(address),
        Scheme::Fd => {
            let fd = descriptor(address).await?;
            let other = fd.try_clone();
            let other = other.map_err(|error| Error::from_io("fcntl", error))?;
            Ok((
                sink(
                    address,
                    Writer::from_fd(other).map_err(|error| named(error, address))?,
                )?,
                stream(
                    address,
                    Reader::from_fd(fd).map_err(|error| named(error, address))?,
                )?,
            ))
        }
        _ => Err(Error::new(ErrorKind::Unsupported, "open")
            .with_address(address)
            .with_reason("a FIFO has one direction")
            .with_remedy("open it to send or to receive, and use two FIFOs to do both")),
    }
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    match address.scheme() {
        Scheme::Exec => exec_sender(address),
        Scheme::Fd => {
            let writer = Writer::from_fd(descriptor(address).await?);
            sink(address, writer.map_err(|error| named(error, address))?)
        }
        _ => sink(
            address,
            fifo_options(address)?.writer(address.rest()).await?,
        ),
    }
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    match address.scheme() {
        Scheme::Exec => exec_receiver(address),
        Scheme::Fd => {
            let reader = Reader::from_fd(descriptor(address).await?);
            stream(address, reader.map_err(|error| named(error, address))?)
        }
        _ => stream(
            address,
            fifo_options(address)?.reader(address.rest()).await?,
        ),
    }
}

fn exec(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let mut command = command(address.rest())?;
    command.process_group(0);
    let (options, boundaries) = options(address)?;
    Ok(match boundaries {
        Frames(_) => {
            let (sender, receiver) = options.spawn(&mut command)?;
            (sender.into_box_sink(), receiver.into_box_stream())
        }
        Packets => {
            let (sender, receiver) = options.spawn_packets(&mut command)?;
            (sender.into_box_sink(), receiver.into_box_stream())
        }
    })
}

fn exec_sender(address: &Address) -> Result<BoxSink, Error> {
    let mut command = command(address.rest())?;
    command.process_group(0);
    let (options, boundaries) = options(address)?;
    Ok(match boundaries {
        Frames(_) => options.spawn_sender(&mut command)?.into_box_sink(),
        Packets => options.spawn_packet_sender(&mut command)?.into_box_sink(),
    })
}

fn exec_receiver(address: &Address) -> Result<BoxStream, Error> {
    let mut command = command(address.rest())?;
    command.process_group(0);
    let (options, boundaries) = options(address)?;
    Ok(match boundaries {
        Frames(_) => options.spawn_receiver(&mut command)?.into_box_stream(),
        Packets => options
            .spawn_packet_receiver(&mut command)?
            .into_box_stream(),
    })
}

fn sink(address: &Address, writer: Writer) -> Result<BoxSink, Error> {
    let (options, boundaries) = options(address)?;
    Ok(match boundaries {
        Frames(_) => options
            .sender_of(writer)
            .with_address(address)
            .into_box_sink(),
        Packets => options
            .packet_sender_of(writer)
            .map_err(|error| named(error, address))?
            .with_address(address)
            .into_box_sink(),
    })
}

fn stream(address: &Address, reader: Reader) -> Result<BoxStream, Error> {
    let (options, boundaries) = options(address)?;
    Ok(match boundaries {
        Frames(_) => options
            .receiver_of(reader)
            .with_address(address)
            .into_box_stream(),
        Packets => options
            .packet_receiver_of(reader)
            .map_err(|error| named(error, address))?
            .with_address(address)
            .into_box_stream(),
    })
}

fn options(address: &Address) -> Result<(Options, Boundaries), Error> {
    let boundaries = match address.get_str("framing") {
        None => Frames(Framing::Lines),
        Some("packet") => Packets,
        Some(word) => Frames(word.parse()?),
    };
    let mut options = Options::new();
    if let Frames(framing) = boundaries {
        options = options.framing(framing);
    }
    if let Some(bytes) = address.size("max-message")? {
        // What no memory can hold is no limit.
        options = options.max_message(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    Ok((options, boundaries))
}

fn fifo_options(address: &Address) -> Result<fifo::Options, Error> {
    let mut options = fifo::Options::new()
        .create(address.flag("create"))
        .unlink(address.flag("unlink"))
        .eof(match address.get_str("eof") {
            Some("reopen") => fifo::Eof::Reopen,
            Some("hold") => fifo::Eof::Hold,
            _ => fifo::Eof::End,
        });
    if let Some(mode) = address.mode("mode")? {
        if !address.flag("create") {
            return Err(invalid(
                address,
                "`mode` is for a FIFO that is made, and there is no `create`",
                "add `create`, or leave out `mode`",
            ));
        }
        options = options.mode(mode);
    }
    if let Some(timeout) = address.duration("timeout")? {
        options = options.timeout(timeout);
    }
    Ok(options)
}

/// The descriptor that was inherited, or the first connection of one that listens.
async fn descriptor(address: &Address) -> Result<OwnedFd, Error> {
    let fd = inherited(number(address)?)?;
    accepted(fd).await.map_err(|error| named(error, address))
}

fn number(address: &Address) -> Result<i32, Error> {
    let number = address.rest().to_str().and_then(|rest| rest.parse().ok());
    number.ok_or_else(|| invalid(address, "it is no number", "write one, such as fd:0"))
}
