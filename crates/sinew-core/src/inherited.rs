//! Descriptors that this process was started with. All of Sinew takes them here.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags};

use crate::{Error, ErrorKind, sys};

const REDIRECT: &str = "redirect it when starting the process, as in `3< file`";

/// The numbers that were taken.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes a descriptor that this process was started with, by its number, if `is_right` says that it
/// is the one that is meant.
///
/// From 3 on the number itself is taken, once, and is close-on-exec from then on. The standard
/// streams, 0 to 2, are duplicated, since the program goes on using them.
///
/// What Rust's standard library opens is close-on-exec. So a descriptor that is not close-on-exec
/// is taken for an inherited one, and one that is belongs to some part of the program and is
/// refused. A program that takes this flag off one of its own descriptors must not name that
/// descriptor here, or in an `fd:` address.
///
/// # Errors
///
/// `EBADF` if it is not open; of kind [`InvalidInput`](ErrorKind::InvalidInput) if it is
/// close-on-exec, was taken before, or is not the one that is meant.
pub fn take_inherited(
    number: RawFd,
    is_right: impl FnOnce(BorrowedFd<'_>) -> bool,
) -> Result<OwnedFd, Error> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let fd = sys::take_inherited(number, |fd, flags| {
        let refused = |reason: &'static str, remedy: &'static str| {
            Err(Error::new(ErrorKind::InvalidInput, "open")
                .with_reason(reason)
                .with_remedy(remedy))
        };
        if number <= 2 || !flags.contains(FdFlags::CLOEXEC) {
            return match is_right(fd) {
                true => Ok(()),
                false => refused(
                    "the descriptor is another than the one that was announced",
                    "check how the process is started",
                ),
            };
        }
        if taken.contains(&number) {
            return refused(
                "the descriptor was taken before",
                "take it once, and share what was made of it",
            );
        }
        refused(
            "the process was not started with that descriptor: the program has opened it itself",
            REDIRECT,
        )
    });
    let fd = fd.map_err(|error| {
        if error.errno() != Some(Errno::BADF.raw_os_error()) {
            return error;
        }
        error
            .with_kind(ErrorKind::InvalidInput)
            .with_reason("the descriptor is not open")
            .with_remedy(REDIRECT)
    })?;
    taken.insert(number);
    Ok(fd)
}

/// Whether [`take_inherited`] has taken this number, be it closed by now or not.
pub fn is_taken(number: RawFd) -> bool {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    taken.contains(&number)
}
