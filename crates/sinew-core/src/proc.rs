//! What fails without /proc.

use std::path::Path;

use rustix::io::Errno;

use crate::Error;

/// Names /proc in an `ENOENT` of a call that goes through `/proc/self/fd`, where that is missing.
/// The error is about a path that may well be there.
#[must_use]
pub fn explain_proc(error: Error) -> Error {
    let missing =
        error.errno() == Some(Errno::NOENT.raw_os_error()) && !Path::new("/proc/self/fd").exists();
    if !missing {
        return error;
    }
    error
        .with_reason("/proc is not mounted, and this goes through /proc/self/fd")
        .with_remedy("mount /proc in this namespace or chroot")
}
