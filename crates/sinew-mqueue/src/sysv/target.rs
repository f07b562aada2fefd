use std::fmt;
use std::path::PathBuf;

/// Which queue to open.
///
/// A number becomes a [`Key`](Self::Key).
///
/// # Examples
///
/// ```
/// use sinew_mqueue::sysv::Target;
///
/// assert_eq!(Target::from(0x5e1f).to_string(), "0x5e1f");
/// assert_eq!(Target::path("/etc/app.conf", 7).to_string(), "/etc/app.conf, project 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A new queue that has no key (`IPC_PRIVATE`). Other processes open it by its id.
    Private,
    /// The queue with this key. 0 is [`Private`](Self::Private).
    Key(i32),
    /// The queue that the kernel has given this id, as ipcs(1) lists it.
    Id(i32),
    /// The queue with the key that ftok(3) makes of a file, which must exist, and a number.
    #[non_exhaustive]
    Path {
        /// The file.
        path: PathBuf,
        /// From 1 to 255.
        project: u8,
    },
}

impl Target {
    /// The queue with the key that ftok(3) makes of a file and a project number from 1 to 255.
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
