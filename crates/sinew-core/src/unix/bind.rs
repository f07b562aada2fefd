//! Binding a path, also over what a dead owner left.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::UnixEndpoint;
use super::lock::{Lock, Unlocked};
use crate::{Error, Home};

/// The path of a bound socket, removed on drop unless something else is there by then. To be dropped
/// before the socket: as long as that lives, nobody else takes the path.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
    home: Home,
}

fn system(operation: &'static str, errno: Errno, address: &dyn std::fmt::Display) -> Error {
    Error::from_raw_os_error(operation, errno.raw_os_error()).with_address(address)
}

/// Makes sockets of one kind, and says whether they listen.
struct Maker<'a, F> {
    socket: &'a F,
    backlog: Option<i32>,
}

/// Binds a socket that `socket` makes to a path or an abstract name, and listens where a `backlog`
/// is given.
///
/// A path gets exactly the permissions `mode`, or what the umask leaves of 0777. Between bind(2)
/// and chmod(2) it has fewer, never more.
///
/// A socket file that no socket is bound to any more is replaced. The path of a live socket is
/// never taken. Of several processes that bind one path at the same time, one succeeds: each holds
/// a lock on the file `.NAME.sinew-lock` beside the path while it looks and binds, and removes that
/// file afterwards. A process that is killed in between leaves this empty file, which the next one
/// uses. Where the file cannot be made, a free path is bound all the same.
///
/// The lock is between processes that call this function. unlink(2) takes a name: a program that
/// removes the dead socket and binds one of its own between two system calls of this function is
/// not excluded.
///
/// `socket` must make sockets in non-blocking mode.
///
/// # Errors
///
/// `EADDRINUSE` if a live socket is there, or if another process is binding the path; `EEXIST` if
/// something else is there; `ENAMETOOLONG` above 107 bytes; `ENOENT` without the directory;
/// `EACCES` without permission to write to it.
pub fn bind_unix<F>(
    endpoint: &UnixEndpoint,
    mode: Option<u32>,
    backlog: Option<i32>,
    socket: F,
) -> Result<(OwnedFd, Option<BoundPath>), Error>
where
    F: Fn() -> Result<OwnedFd, Error>,
{
    let maker = Maker {
        socket: &socket,
        backlog,
    };
    match endpoint {
        UnixEndpoint::Path(path) => {
            let (socket, path) = maker.bind_path(endpoint, path, mode)?;
            Ok((socket, Some(path)))
        }
        UnixEndpoint::Abstract(_) => {
            let socket = maker
                .bind_at(endpoint, None)
                .map_err(|error| maker.explain(error))?;
            maker.listen(endpoint, &socket)?;
            Ok((socket, None))
        }
    }
}

impl<F: Fn() -> Result<OwnedFd, Error>> Maker<'_, F> {
    fn what(&self) -> &'static str {
        match self.backlog {
            Some(_) => "live listener",
            None => "live socket",
        }
    }

    /// Adds the reason to an `EADDRINUSE` of bind(2).
    fn explain(&self, error: Error) -> Error {
        if error.errno() != Some(Errno::ADDRINUSE.raw_os_error()) {
            return error;
        }
        error
            .with_reason(format!("a {} has it", self.what()))
            .with_remedy("end the process that has it, or choose another address")
    }

    fn bind_at(&self, endpoint: &UnixEndpoint, mode: Option<u32>) -> Result<OwnedFd, Error> {
        let addr = endpoint.to_socket_addr("bind")?;
        let socket = (self.socket)().map_err(|error| error.with_address(endpoint))?;
        if let Some(mode) = mode {
            // Never more than asked for, not even for a moment; the umask may take some away.
            rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))
                .map_err(|errno| system("fchmod", errno, endpoint))?;
        }
        rustix::net::bind(&socket, &addr).map_err(|errno| system("bind", errno, endpoint))?;
        Ok(socket)
    }

    fn bind_path(
        &self,
        endpoint: &UnixEndpoint,
        path: &Path,
        mode: Option<u32>,
    ) -> Result<(OwnedFd, BoundPath), Error> {
        let addr = endpoint.to_socket_addr("bind")?;
        // Held until this returns.
        let lock = match Lock::acquire(path) {
            Err(Unlocked::Held(file)) => {
                return Err(system("bind", Errno::ADDRINUSE, endpoint)
                    .with_reason(format!(
                        "a {} is being bound there: another process holds the lock {}",
                        self.what(),
                        file.display()
                    ))
                    .with_remedy("let one process bind it, or choose another path"));
            }
            other => other,
        };
        let socket = match self.bind_at(endpoint, mode) {
            Err(error) if error.errno() == Some(Errno::ADDRINUSE.raw_os_error()) => {
                self.remove_dead(endpoint, path, &addr, lock.as_ref().err())?;
                self.bind_at(endpoint, mode)
            }
            result => result,
        }
        .map_err(|error| self.explain(of_directory(error, path)))?;
        let bound = BoundPath::new(path).map_err(|error| error.with_address(endpoint))?;
        bound
            .set_mode(mode)
            .map_err(|error| error.with_address(endpoint))?;
        self.listen(endpoint, &socket)?;
        Ok((socket, bound))
    }

    fn listen(&self, endpoint: &UnixEndpoint, socket: &OwnedFd) -> Result<(), Error> {
        match self.backlog {
            Some(backlog) => rustix::net::listen(socket, backlog)
                .map_err(|errno| system("listen", errno, endpoint)),
            None => Ok(()),
        }
    }

    /// Removes a socket file that no socket is bound to. An error if something else is there.
    fn remove_dead(
        &self,
        endpoint: &UnixEndpoint,
        path: &Path,
        addr: &SocketAddrUnix,
        unlocked: Option<&Unlocked>,
    ) -> Result<(), Error> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => self.refuse_live(endpoint, addr)?,
            Ok(_) => {
                return Err(system("bind", Errno::EXIST, endpoint)
                    .with_reason("something that is no socket is there")
                    .with_remedy("remove it, or choose another path"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::from_io("lstat", error).with_address(endpoint)),
        }
        if let Some(unlocked) = unlocked {
            return Err(system("bind", Errno::ADDRINUSE, endpoint)
                .with_reason(format!(
                    "an ended process has left a socket there, which is not removed {unlocked}"
                ))
                .with_remedy("remove it, if nobody is starting there"));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from_io("unlink", error).with_address(endpoint))
            }
            _ => Ok(()),
        }
    }

    /// An error if a socket is bound there, listening or not.
    fn refuse_live(&self, endpoint: &UnixEndpoint, addr: &SocketAddrUnix) -> Result<(), Error> {
        // With a datagram socket, of which a listener hears nothing.
        let probe = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|errno| system("socket", errno, endpoint))?;
        match rustix::net::connect(&probe, addr) {
            // Its owner has gone.
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
            // A socket of another type, or one that hears another peer alone (EPERM), is in use.
            Ok(()) | Err(Errno::PROTOTYPE | Errno::PERM) => {
                Err(self.explain(system("bind", Errno::ADDRINUSE, endpoint)))
            }
            Err(Errno::ACCESS) => Err(system("bind", Errno::ADDRINUSE, endpoint)
                .with_reason("a socket is there that this user may not connect to")
                .with_remedy("remove it if its owner has ended, or choose another path")),
            Err(errno) => Err(system("connect", errno, endpoint)),
        }
    }
}

/// Names the directory where that is what is missing.
fn of_directory(error: Error, path: &Path) -> Error {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match error.errno_name() {
        Some("ENOENT" | "ENOTDIR") => error
            .with_reason(format!("there is no directory {}", directory.display()))
            .with_remedy("create it first"),
        Some("EACCES") => error.with_reason(format!(
            "this user may not make a socket in {}",
            directory.display()
        )),
        _ => error,
    }
}

impl BoundPath {
    fn new(path: &Path) -> Result<Self, Error> {
        let found = fs::symlink_metadata(path).map_err(|error| Error::from_io("lstat", error))?;
        Ok(Self {
            path: path.to_path_buf(),
            device: found.dev(),
            inode: found.ino(),
            home: Home::here(),
        })
    }

    /// Gives the path the permissions that the umask has taken away.
    fn set_mode(&self, mode: Option<u32>) -> Result<(), Error> {
        let Some(mode) = mode else { return Ok(()) };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
            .map_err(|error| Error::from_io("chmod", error))
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // Somebody may have removed ours and put another there.
        if self.home.is_here()
            && let Ok(found) = fs::symlink_metadata(&self.path)
            && found.dev() == self.device
            && found.ino() == self.inode
        {
            let _gone = fs::remove_file(&self.path);
        }
    }
}
