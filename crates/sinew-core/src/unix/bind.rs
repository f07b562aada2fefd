//! Binding a path, also over what a dead owner left.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::UnixEndpoint;
use crate::{Error, ErrorKind, Home};

/// How the names begin under which sockets are bound before they are renamed into place.
const BESIDE: &str = ".sinew-";
/// For how long another starter in the same directory may be in our way.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

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

/// Binds a socket that `socket` makes to a path or an abstract name, and has it listen where a `backlog`
/// is given.
///
/// A path gets exactly the permissions `mode`, or what the umask leaves of 666. One that a dead owner
/// left is taken; of two starters that find it, one wins. A live one is never taken.
///
/// `socket` must make sockets in non-blocking mode.
///
/// # Errors
///
/// `EADDRINUSE` if a live socket is there, `EEXIST` if something else is, `ENAMETOOLONG` above 107
/// bytes, `ENOENT` without the directory, `EACCES` without permission to write to it.
///
/// # Cancel safety
///
/// Cancel safe: dropped before it is ready, it leaves nothing behind.
pub async fn bind_unix<F>(
    endpoint: &UnixEndpoint,
    mode: Option<u32>,
    backlog: Option<i32>,
    socket: F,
) -> Result<(OwnedFd, Option<BoundPath>), Error>
where
    F: Fn() -> Result<OwnedFd, Error> + Sync,
{
    let maker = Maker {
        socket: &socket,
        backlog,
    };
    match endpoint {
        UnixEndpoint::Path(path) => {
            let (socket, path) = maker.bind_path(endpoint, path, mode).await?;
            Ok((socket, Some(path)))
        }
        UnixEndpoint::Abstract(_) => Ok((maker.bind_at(endpoint, None)?, None)),
    }
}

impl<F: Fn() -> Result<OwnedFd, Error> + Sync> Maker<'_, F> {
    fn make(&self, endpoint: &UnixEndpoint) -> Result<OwnedFd, Error> {
        (self.socket)().map_err(|error| error.with_address(endpoint))
    }

    fn in_use(&self, error: Error) -> Error {
        let what = match self.backlog {
            Some(_) => "a live listener has it",
            None => "a live socket has it",
        };
        error
            .with_reason(what)
            .with_remedy("end the process that has it, or choose another address")
    }

    fn bind_at(&self, endpoint: &UnixEndpoint, mode: Option<u32>) -> Result<OwnedFd, Error> {
        let addr = endpoint.to_socket_addr("bind")?;
        let socket = self.make(endpoint)?;
        if let Some(mode) = mode {
            // Never more than asked for, not even for a moment; the umask may take some away.
            rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))
                .map_err(|errno| system("fchmod", errno, endpoint))?;
        }
        rustix::net::bind(&socket, &addr).map_err(|errno| {
            let error = system("bind", errno, endpoint);
            if errno == Errno::ADDRINUSE {
                self.in_use(error)
            } else {
                error
            }
        })?;
        if let Some(backlog) = self.backlog {
            rustix::net::listen(&socket, backlog)
                .map_err(|errno| system("listen", errno, endpoint))?;
        }
        Ok(socket)
    }

    /// Binds beside the path and renames into place, so that the path never names a socket that is not yet
    /// listening or has other permissions than asked for. A lock on the directory keeps two starters from
    /// both taking the same dead socket for theirs; it is let go when this returns.
    async fn bind_path(
        &self,
        endpoint: &UnixEndpoint,
        path: &Path,
        mode: Option<u32>,
    ) -> Result<(OwnedFd, BoundPath), Error> {
        let addr = endpoint.to_socket_addr("bind")?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (_lock, exclusive) = lock(directory, endpoint).await?;
        if exclusive {
            sweep(directory);
        }
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => self.refuse_live(endpoint, &addr)?,
            Ok(_) => {
                return Err(system("bind", Errno::EXIST, endpoint)
                    .with_reason("something that is no socket is there")
                    .with_remedy("remove it, or choose another path"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::from_io("lstat", error).with_address(endpoint)),
        }

        let socket = match self.backlog {
            Some(_) => self.bind_beside(endpoint, path, directory, mode)?,
            // A datagram's sender is known by the name that its socket was bound to, and there is no
            // listen to wait for.
            None => self.bind_directly(endpoint, path, mode)?,
        };
        let found = fs::symlink_metadata(path)
            .map_err(|error| Error::from_io("lstat", error).with_address(endpoint))?;
        let path = BoundPath {
            path: path.to_path_buf(),
            device: found.dev(),
            inode: found.ino(),
            home: Home::here(),
        };
        Ok((socket, path))
    }

    fn bind_beside(
        &self,
        endpoint: &UnixEndpoint,
        path: &Path,
        directory: &Path,
        mode: Option<u32>,
    ) -> Result<OwnedFd, Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let beside = directory.join(format!("{BESIDE}{}-{unique}", std::process::id()));
        let beside_at = UnixEndpoint::Path(beside.clone());
        if beside_at.to_socket_addr("bind").is_err() {
            // The path just fits, one beside it does not.
            return self.bind_directly(endpoint, path, mode);
        }
        // Left by a process of the same number that was killed in between.
        let _not_there = fs::remove_file(&beside);
        let result = self.bind_at(&beside_at, mode).and_then(|socket| {
            set_mode(&beside, mode)?;
            fs::rename(&beside, path).map_err(|error| Error::from_io("rename", error))?;
            Ok(socket)
        });
        result.map_err(|error| {
            let _not_there = fs::remove_file(&beside);
            error.with_address(endpoint)
        })
    }

    fn bind_directly(
        &self,
        endpoint: &UnixEndpoint,
        path: &Path,
        mode: Option<u32>,
    ) -> Result<OwnedFd, Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::from_io("unlink", error).with_address(endpoint));
            }
            _ => {}
        }
        let socket = self.bind_at(endpoint, mode)?;
        set_mode(path, mode).map_err(|error| {
            let _not_there = fs::remove_file(path);
            error.with_address(endpoint)
        })?;
        Ok(socket)
    }

    /// An error if somebody lives there.
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
            // A socket of another type, or one that hears another peer alone (EPERM), is somebody's.
            Ok(()) | Err(Errno::PROTOTYPE | Errno::PERM) => {
                Err(self.in_use(system("bind", Errno::ADDRINUSE, endpoint)))
            }
            Err(errno) => Err(system("connect", errno, endpoint)),
        }
    }
}

fn set_mode(path: &Path, mode: Option<u32>) -> Result<(), Error> {
    let Some(mode) = mode else { return Ok(()) };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| Error::from_io("chmod", error))
}

/// Removes what starters that were killed between binding and renaming have left. To be called with the
/// directory locked: then nobody is in between.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_socket = || entry.file_type().is_ok_and(|kind| kind.is_socket());
        if entry.file_name().as_bytes().starts_with(BESIDE.as_bytes()) && is_socket() {
            let _not_ours = fs::remove_file(entry.path());
        }
    }
}

/// Locks the directory, against other starters and nobody else. False where there are no locks.
async fn lock(directory: &Path, endpoint: &UnixEndpoint) -> Result<(OwnedFd, bool), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|errno| {
        let error = system("open", errno, endpoint);
        match errno {
            Errno::NOENT | Errno::NOTDIR => error
                .with_reason(format!("there is no directory {}", directory.display()))
                .with_remedy("create it first"),
            _ => error,
        }
    })?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok((lock, true)),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(ErrorKind::TimedOut, "bind")
                    .with_address(endpoint)
                    .with_reason(format!(
                        "the directory {} is locked by another process",
                        directory.display()
                    )));
            }
            Err(Errno::INTR) => {}
            // A file system without locks has no two starters that could be told apart.
            Err(_) => return Ok((lock, false)),
        }
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
