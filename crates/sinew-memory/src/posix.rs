//! POSIX shared memory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sinew_core::{Error, ErrorKind};

use crate::file::{Spec, options};
use crate::memfd::system;
use crate::region::Region;

/// Where the C library keeps it: shm_overview(7).
const DIRECTORY: &str = "/dev/shm";
/// `NAME_MAX`.
const NAME_LONGEST: usize = 255;

/// How POSIX shared memory is opened: a builder.
///
/// It outlives those who use it, until it is removed or the system goes down. It is what `shm_open` and
/// Python's `posix_ipc` have under the same name.
///
/// # Examples
///
/// ```
/// use sinew_memory::PosixShm;
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let name = format!("/sinew-doc-{}", std::process::id());
/// let region = PosixShm::new(&name)
///     .exclusive(true)
///     .size(4096)
///     .mode(0o660)
///     .unlink_on_drop(true)
///     .open()?;
/// region.write(0, b"hello")?;
///
/// let other = PosixShm::new(&name).open()?;
/// assert_eq!(&other.load::<[u8; 5]>(0)?, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "shm_open")]
pub struct PosixShm {
    name: OsString,
    pub(crate) spec: Spec,
}

impl PosixShm {
    /// The memory of this name: a slash, and up to 254 bytes without another.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            spec: Spec::default(),
        }
    }

    options!(unlink_on_drop, "the name");

    /// Opens and maps it.
    ///
    /// # Errors
    ///
    /// As for [`MappedFile::open`](crate::MappedFile::open), and of kind [`InvalidInput`](ErrorKind::InvalidInput)
    /// for a name that cannot be. `ENOSPC` if /dev/shm is full: it is often small in a container.
    pub fn open(&self) -> Result<Region, Error> {
        let path = path(&self.name)?;
        self.spec
            .open(&path, &self.name.display(), "shm_open", OFlags::NOFOLLOW)
            .map_err(|error| match error.errno() {
                Some(errno) if errno == rustix::io::Errno::NOSPC.raw_os_error() => {
                    error.with_remedy("free space in /dev/shm, or mount it larger")
                }
                _ => error,
            })
    }

    /// Removes a name. Those who have the memory keep it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EACCES`, `EPERM`.
    #[doc(alias = "shm_unlink")]
    pub fn unlink(name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = name.as_ref();
        rustix::fs::unlink(path(name)?)
            .map_err(|errno| system("shm_unlink", errno).with_address(name.display()))
    }
}

fn path(name: &OsStr) -> Result<PathBuf, Error> {
    let invalid = |reason: &'static str, remedy: &'static str| {
        Err(Error::new(ErrorKind::InvalidInput, "shm_open")
            .with_address(name.display())
            .with_reason(reason)
            .with_remedy(remedy))
    };
    let Some(bare) = name.as_bytes().strip_prefix(b"/") else {
        return invalid("the name does not begin with a slash", "add it");
    };
    if bare.contains(&b'/') || bare.contains(&0) || matches!(bare, b"" | b"." | b"..") {
        return invalid(
            "after the slash come one byte or more, without another slash or a NUL",
            "choose such a name",
        );
    }
    if name.len() > NAME_LONGEST {
        return invalid("the name is longer than 255 bytes", "shorten it");
    }
    Ok(Path::new(DIRECTORY).join(OsStr::from_bytes(bare)))
}
