//! What the program needs of the system before it begins.

use std::io;
use std::os::fd::AsFd;

use crate::failure::Failure;

/// Descriptors that the program has open besides those of what it opens: epoll, eventfd, the pair
/// through which Tokio hears of signals, and copies of the standard streams.
const DESCRIPTORS: usize = 12;

/// Makes sure that there are enough descriptors left. Without them, Tokio would panic.
pub(crate) fn check() -> Result<(), Failure> {
    let stderr = io::stderr();
    let probes: io::Result<Vec<_>> = (0..DESCRIPTORS)
        .map(|_| stderr.as_fd().try_clone_to_owned())
        .collect();
    match probes {
        Err(error) => Err(Failure::io("fcntl", error)),
        Ok(_) => Ok(()),
    }
}
