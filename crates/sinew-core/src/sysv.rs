//! How the objects of System V IPC are found: sysvipc(7).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, sys};

/// Which SysV queue, semaphore set or shared memory to open.
///
/// A number becomes a [`Key`](Self::Key).
///
/// # Examples
///
/// ```
/// use sinew_core::sysv::Target;
///
/// assert_eq!(Target::from(0x5e1f).to_string(), "0x5e1f");
/// assert_eq!(Target::path("/etc/app.conf", 7).to_string(), "/etc/app.conf, project 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A new object that has no key (`IPC_PRIVATE`). Other processes open it by its id.
    Private,
    /// The object with this key. 0 is [`Private`](Self::Private).
    Key(i32),
    /// The object that the kernel has given this id, as ipcs(1) lists it.
    Id(i32),
    /// The object with the key that ftok(3) makes of a file, which must exist, and a number.
    Path {
        /// The file.
        path: PathBuf,
        /// From 1 to 255.
        project: u8,
    },
}

impl Target {
    /// The object with the key that ftok(3) makes of a file and a project number from 1 to 255.
    pub fn path(path: impl Into<PathBuf>, project: u8) -> Self {
        Self::Path {
            path: path.into(),
            project,
        }
    }
}

impl From<i32> for Target {
    fn from(key: i32) -> Self {
        Self::Key(key)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private | Self::Key(0) => f.write_str("IPC_PRIVATE"),
            Self::Key(key) => write!(f, "{key:#x}"),
            Self::Id(id) => write!(f, "id={id}"),
            Self::Path { path, project } => write!(f, "{}, project {project}", path.display()),
        }
    }
}

/// The key that ftok(3) makes of a file and a project number from 1 to 255.
///
/// # Errors
///
/// Those of stat(2), and [`InvalidInput`](ErrorKind::InvalidInput) for the number 0.
///
/// # Examples
///
/// ```
/// let key = sinew_core::sysv::ftok("/etc", 7)?;
/// assert_eq!(key.cast_unsigned() >> 24, 7);
/// # Ok::<(), sinew_core::Error>(())
/// ```
pub fn ftok(path: impl AsRef<Path>, project: u8) -> Result<i32, Error> {
    let path = path.as_ref();
    key_of_path(path, project).map_err(|error| error.with_address(path.display()))
}

fn key_of_path(path: &Path, project: u8) -> Result<i32, Error> {
    if project == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "ftok")
            .with_detail("project=0")
            .with_reason("the project number is zero")
            .with_remedy("use one from 1 to 255"));
    }
    sys::key_of_path(path, project).map_err(|error| {
        let error = Error::from_io("ftok", error);
        if error.errno() == Some(libc::ENOENT) {
            return error.with_remedy("create the file: its device and inode make the key");
        }
        error
    })
}
