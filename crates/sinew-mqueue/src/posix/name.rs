use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use sinew_core::{Error, ErrorKind};

/// Checks that this is a name as mq_overview(7) wants it.
pub(super) fn check(name: &OsStr) -> Result<&[u8], Error> {
    let bytes = name.as_bytes();
    let shown = name.to_string_lossy();
    let invalid = |reason: &'static str, remedy: String| {
        Err(Error::new(ErrorKind::InvalidInput, "mq_open")
            .with_address(&shown)
            .with_reason(reason)
            .with_remedy(remedy))
    };
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return invalid(
            "the name must begin with a slash",
            format!("write /{shown}"),
        );
    };
    if matches!(rest, b"" | b"." | b"..") {
        return invalid(
            "this is not a name",
            "write a name after the slash".to_owned(),
        );
    }
    if rest.contains(&b'/') {
        return invalid("the name has a second slash", "replace it".to_owned());
    }
    if rest.contains(&0) {
        return invalid("there is a NUL in the name", "leave it out".to_owned());
    }
    Ok(bytes)
}

/// Removes the name of a queue. The queue itself lives on until the last process has closed it.
///
/// # Errors
///
/// Those of mq_unlink(3): `ENOENT` where there is none, `EACCES` for anybody but its owner and root.
///
/// # Examples
///
/// ```
/// let error = sinew_mqueue::posix::unlink("/sinew-no-such-queue").unwrap_err();
/// assert_eq!(error.errno_name(), Some("ENOENT"));
/// ```
pub fn unlink(name: impl AsRef<OsStr>) -> Result<(), Error> {
    let name = name.as_ref();
    let bytes = check(name)?;
    posixmq::remove_queue(bytes).map_err(|error| {
        let error = Error::from_io("mq_unlink", error).with_address(name.display());
        match error.errno() {
            Some(libc::ENOENT) => error.with_reason("there is no such queue"),
            Some(libc::EACCES) => error.with_reason("only its owner and root may"),
            _ => error,
        }
    })
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}
