use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fault::Fault;

/// `sun_path` of unix(7) has 108 bytes: a path needs one for its NUL, an abstract name for the leading
/// one.
const LONGEST: usize = 107;

/// Where a Unix socket is: the rest of a `shm:`, `unix:`, `unix-dgram:` or `unix-seqpacket:` address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint<'a> {
    /// In the file system, where the permissions of the file are the access control.
    Path(&'a Path),
    /// In the abstract namespace, where there are no permissions: `@name`. This is the name without the
    /// `@`, and can be any bytes.
    Abstract(&'a [u8]),
}

impl<'a> Endpoint<'a> {
    pub(super) fn of(rest: &'a [u8]) -> Self {
        match rest.strip_prefix(b"@") {
            Some(name) => Self::Abstract(name),
            None => Self::Path(Path::new(OsStr::from_bytes(rest))),
        }
    }
}

pub(super) fn check(rest: &[u8]) -> Result<(), Fault> {
    super::rest::home(rest)?;
    let (what, length) = match Endpoint::of(rest) {
        Endpoint::Abstract([]) => {
            return Err(Fault::new(1..1, "the abstract name is missing")
                .remedy("write it after the `@`, or `./@` for a path"));
        }
        Endpoint::Abstract(name) => ("abstract name", name.len()),
        Endpoint::Path(_) => ("path", rest.len()),
    };
    if length > LONGEST {
        return Err(Fault::new(
            0..rest.len(),
            format!("the {what} has {length} bytes, a socket's can have {LONGEST}"),
        )
        .remedy("use a shorter one"));
    }
    Ok(())
}
