//! Descriptors that come from elsewhere, whose open file descriptions others may share.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use sinew_core::{AsyncIo, Error, ErrorKind, take_inherited};
use tokio::io::Interest;

use crate::sys::{self, How};

/// How a descriptor is to be used.
pub(crate) enum Kind {
    Polled(OwnedFd, How),
    File(File),
}

/// Takes a descriptor that this process was started with: see [`Reader::inherited`](crate::Reader::inherited)
/// and [`Writer::inherited`](crate::Writer::inherited), which do it for one direction.
///
/// # Errors
///
/// As for [`take_inherited`].
pub fn inherited(number: i32) -> Result<OwnedFd, Error> {
    take_inherited(number, |_| true).map_err(|error| named(error, number))
}

/// Accepts a connection if `fd` is a socket that listens, and closes that socket then. Another
/// descriptor comes back as it is.
///
/// The socket is made non-blocking, in all processes that share it, since accept(2) has no flag for
/// one call.
///
/// # Errors
///
/// Those of accept(2) and epoll(7).
///
/// # Cancel safety
///
/// Not cancel safe: the descriptor is closed with the future.
pub async fn accepted(fd: OwnedFd) -> Result<OwnedFd, Error> {
    if !sys::is_listening(fd.as_fd()) {
        return Ok(fd);
    }
    sys::set_nonblocking(fd.as_fd()).map_err(|error| Error::from_io("fcntl", error))?;
    let listener = AsyncIo::with_interest(fd, Interest::READABLE)?;
    loop {
        let accepted = poll_fn(|cx| listener.poll_read_with(cx, |fd| sys::accept(fd.as_fd())));
        match accepted.await {
            Ok(peer) => return Ok(peer),
            // The peer has gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(Error::from_io("accept", error)),
        }
    }
}

pub(crate) fn named(error: Error, number: i32) -> Error {
    match error.address() {
        None => error.with_address(format_args!("fd:{number}")),
        Some(_) => error,
    }
}

/// Refuses a descriptor that is open for the other direction alone.
pub(crate) fn check_mode(
    fd: BorrowedFd<'_>,
    wrong: OFlags,
    direction: &'static str,
) -> Result<(), Error> {
    if !sys::is_only(fd, wrong).map_err(|error| Error::from_io("fcntl", error))? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "open")
        .with_reason(format!("the descriptor is not open for {direction}"))
        .with_remedy("redirect it the other way round"))
}

/// Finds a way to use `fd` without blocking, and without changing what others share.
pub(crate) fn classify(fd: OwnedFd, access: OFlags) -> Result<Kind, Error> {
    let failed = |error| Error::from_io("fstat", error);
    let file_type = sys::file_type(fd.as_fd()).map_err(failed)?;
    match file_type {
        FileType::RegularFile | FileType::BlockDevice => Ok(Kind::File(File::from(fd))),
        FileType::Directory => Err(Error::new(ErrorKind::InvalidInput, "open")
            .with_reason("it is a directory, which has no messages")
            .with_remedy("name a pipe, a file, a terminal or a socket")),
        FileType::Socket if sys::is_listening(fd.as_fd()) => {
            Err(Error::new(ErrorKind::InvalidInput, "open")
                .with_reason("it is a socket that listens, which has no messages")
                .with_remedy("give it to `pipe::accepted` first, or open an `fd:` address"))
        }
        FileType::Socket => Ok(Kind::Polled(fd, How::Socket)),
        _ if file_type == FileType::Fifo || sys::is_terminal(fd.as_fd()) => {
            // Even if `O_NONBLOCK` is set: who shares the description could take it away.
            match sys::reopen(fd.as_fd(), access | OFlags::NONBLOCK) {
                // In a new description, a hang-up that has happened would be none.
                Ok(own) if !sys::has_hung_up(fd.as_fd()).map_err(failed)? => {
                    Ok(Kind::Polled(own, How::NonBlocking))
                }
                // Without /proc, or where the pipe belongs to another user.
                _ => Ok(Kind::Polled(fd, How::AskFirst)),
            }
        }
        _ => {
            // Such as /dev/null, which epoll refuses, or a device of which opening anew is another.
            let probe = sys::duplicate(fd.as_fd()).map_err(failed)?;
            match AsyncIo::with_interest(probe, Interest::READABLE) {
                Ok(_) => Ok(Kind::Polled(fd, How::AskFirst)),
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    Ok(Kind::File(File::from(fd)))
                }
                Err(error) => Err(error),
            }
        }
    }
}
