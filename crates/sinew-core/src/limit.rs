//! Limits of the process whose default answer is a signal.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Makes sure that a file may be made as long as this, bytes.
///
/// Beyond RLIMIT_FSIZE (getrlimit(2)), which is one for memory files as well, the kernel sends
/// SIGXFSZ, whose default action ends the process without a word.
///
/// # Errors
///
/// `EFBIG`, as the system call would say where the signal is ignored.
pub fn check_file_size(len: u64) -> Result<(), Errno> {
    match getrlimit(Resource::Fsize).current {
        Some(most) if len > most => Err(Errno::FBIG),
        _ => Ok(()),
    }
}
