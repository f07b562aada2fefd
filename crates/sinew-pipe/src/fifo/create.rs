use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, Home, explain_proc};

use crate::reader::type_name;
use crate::sys;

/// How often a path is looked at anew, when somebody creates and removes it at the same time.
const TRIES: usize = 16;

/// Makes a FIFO with exactly these permission bits, whatever the umask.
///
/// It has them from the moment on in which it is at `path`.
///
/// # Errors
///
/// `EEXIST` if there is something at `path`; those of mkfifo(3).
pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
    let path = path.as_ref();
    make(path, Some(mode)).map_err(|error| explain_proc(failed("mkfifo", error, path)))
}

/// Makes the FIFO, or takes the one that is there, with these permissions if they are given.
pub(super) fn create_or_take(path: &Path, mode: Option<u32>) -> Result<OwnedFd, Error> {
    for _ in 0..TRIES {
        match take(path) {
            Ok(fifo) => {
                if let Some(mode) = mode {
                    set_mode(&fifo, mode, path)?;
                }
                return Ok(fifo);
            }
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        match make(path, mode) {
            // What somebody else has made in the meantime is taken.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(explain_proc(failed("mkfifo", error, path)));
            }
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::System, "mkfifo")
        .with_address(path.display())
        .with_reason("somebody removes it again and again"))
}

/// Names the FIFO that is at `path`.
pub(super) fn take(path: &Path) -> Result<OwnedFd, Error> {
    let named = sys::open_path(path).map_err(|error| failed("open", error, path))?;
    let file_type = sys::file_type(named.as_fd()).map_err(|error| failed("fstat", error, path))?;
    if file_type != FileType::Fifo {
        return Err(Error::new(ErrorKind::InvalidInput, "open")
            .with_address(path.display())
            .with_reason(format!("it is {} and no FIFO", type_name(file_type)))
            .with_remedy(
                "use another path, or remove it and make a FIFO with `create` or mkfifo(1)",
            ));
    }
    Ok(named)
}

/// Sets the permissions of a FIFO that was there already, or refuses it.
fn set_mode(fifo: &OwnedFd, mode: u32, path: &Path) -> Result<(), Error> {
    let now = sys::stat(fifo.as_fd()).map_err(|error| failed("fstat", error, path))?;
    if now.st_mode & 0o7777 == mode {
        return Ok(());
    }
    sys::set_mode(fifo.as_fd(), mode).map_err(|error| {
        let error = explain_proc(failed("chmod", error, path));
        if error.errno() == Some(Errno::NOENT.raw_os_error()) {
            return error;
        }
        error
            .with_reason(format!(
                "it was there already with the mode {:o}, of the user {}",
                now.st_mode & 0o7777,
                now.st_uid
            ))
            .with_remedy("remove it, or leave the mode out to take it as it is")
    })
}

fn make(path: &Path, mode: Option<u32>) -> io::Result<()> {
    let Some(mode) = mode else {
        return sys::make_fifo(path, 0o666);
    };
    // Made beside, given its permissions, and moved into place, as the umask belongs to the process.
    let beside = Beside::new(path)?;
    let fifo = sys::open_path(&beside.path)?;
    let stat = sys::stat(fifo.as_fd())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo || stat.st_uid != sys::user() {
        return Err(Errno::STALE.into());
    }
    sys::set_mode(fifo.as_fd(), mode)?;
    sys::move_new(&beside.path, path)
}

/// A FIFO under a name that nobody knows, removed on drop if it is still there.
struct Beside {
    path: PathBuf,
}

impl Beside {
    fn new(path: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // What a process of the same number has left is passed over.
        for _ in 0..1000 {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".sinew-{}-{count}", std::process::id());
            let path = path.with_file_name(name);
            match sys::make_fifo(&path, 0o600) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { path }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _moved = std::fs::remove_file(&self.path);
    }
}

pub(super) fn failed(operation: &'static str, error: io::Error, path: &Path) -> Error {
    let error = Error::from_io(operation, error).with_address(path.display());
    if operation == "open" && error.errno() == Some(Errno::NOENT.raw_os_error()) {
        return match path.symlink_metadata() {
            // It is there, and was opened by way of /proc.
            Ok(_) => explain_proc(error),
            Err(_) => error.with_remedy("make it with `create` or mkfifo(1) first"),
        };
    }
    error
}

/// Where a FIFO is, removed on drop if that was asked for.
#[derive(Debug)]
pub(crate) struct Place {
    unlink: Option<(PathBuf, u64, u64)>,
    home: Home,
}

impl Place {
    pub(super) fn new(fifo: &OwnedFd, path: &Path, unlink: bool) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let unlink = sys::stat(fifo.as_fd()).ok().filter(|_| unlink);
        Self {
            unlink: unlink.map(|stat| (path, stat.st_dev, stat.st_ino)),
            home: Home::here(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((path, device, inode)) = &self.unlink
            && self.home.is_here()
            && let Ok(now) = std::fs::symlink_metadata(path)
            && (now.dev(), now.ino()) == (*device, *inode)
        {
            let _gone = std::fs::remove_file(path);
        }
    }
}
