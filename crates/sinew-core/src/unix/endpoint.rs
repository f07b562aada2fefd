//! Where a Unix socket is.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{Endpoint, Error, ErrorKind};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

/// Where a Unix socket is: a path in the file system, or a name in the abstract namespace of this
/// network namespace.
///
/// A string that begins with `@` is an abstract name (`./@name` is a path).
///
/// A path has at most 107 bytes, a name at most 107 after the `@`. See [unix(7)].
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnixEndpoint {
    /// A socket in the file system, whose permissions say who may connect.
    Path(PathBuf),
    /// An abstract name, without permissions; gone with the process that bound it.
    Abstract(Vec<u8>),
}

/// Bytes of a path, or of a name after its zero.
const MOST: usize = 107;

impl UnixEndpoint {
    /// As system calls take it, in `operation`.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG` above 107 bytes, of kind [`InvalidInput`](ErrorKind::InvalidInput) for an empty
    /// path, `EINVAL` for one with a NUL.
    pub fn to_socket_addr(&self, operation: &'static str) -> Result<SocketAddrUnix, Error> {
        let (addr, len) = match self {
            UnixEndpoint::Path(path) => {
                if path.as_os_str().is_empty() {
                    return Err(Error::new(ErrorKind::InvalidInput, operation)
                        .with_reason("the path is empty"));
                }
                let len = path.as_os_str().len();
                // One more would fit, without the zero at its end that others rely on.
                let addr = if len > MOST {
                    Err(Errno::NAMETOOLONG)
                } else {
                    SocketAddrUnix::new(path)
                };
                (addr, len)
            }
            UnixEndpoint::Abstract(name) => (SocketAddrUnix::new_abstract_name(name), name.len()),
        };
        addr.map_err(|errno| {
            let error =
                Error::from_raw_os_error(operation, errno.raw_os_error()).with_address(self);
            if errno == Errno::NAMETOOLONG {
                return error
                    .with_detail(format!("{len} bytes"))
                    .with_reason(format!("a socket's address has at most {MOST}"))
                    .with_remedy("use a shorter path, or a relative one");
            }
            error
        })
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixEndpoint::Path(path) => path.display().fmt(f),
            UnixEndpoint::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

impl From<&Path> for UnixEndpoint {
    fn from(path: &Path) -> Self {
        match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => UnixEndpoint::Abstract(name.to_vec()),
            None => UnixEndpoint::Path(path.to_path_buf()),
        }
    }
}

impl From<PathBuf> for UnixEndpoint {
    fn from(path: PathBuf) -> Self {
        UnixEndpoint::from(path.as_path())
    }
}

impl From<&PathBuf> for UnixEndpoint {
    fn from(path: &PathBuf) -> Self {
        UnixEndpoint::from(path.as_path())
    }
}

impl From<&str> for UnixEndpoint {
    fn from(path: &str) -> Self {
        UnixEndpoint::from(Path::new(path))
    }
}

impl From<String> for UnixEndpoint {
    fn from(path: String) -> Self {
        UnixEndpoint::from(Path::new(&path))
    }
}

impl From<&String> for UnixEndpoint {
    fn from(path: &String) -> Self {
        UnixEndpoint::from(Path::new(path))
    }
}

impl From<Endpoint<'_>> for UnixEndpoint {
    fn from(endpoint: Endpoint<'_>) -> Self {
        match endpoint {
            Endpoint::Path(path) => UnixEndpoint::Path(path.to_path_buf()),
            Endpoint::Abstract(name) => UnixEndpoint::Abstract(name.to_vec()),
        }
    }
}
