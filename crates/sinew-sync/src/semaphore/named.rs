//! Semaphores with a name.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, Home, explain_proc};
use sinew_memory::Region;

use super::{Semaphore, check_platform, check_value, contents};

/// Where glibc keeps them: sem_overview(7).
const DIRECTORY: &str = "/dev/shm";
/// `NAME_MAX`, less `sem.` and the slash that stands for it.
const NAME_LONGEST: usize = 250;

/// How a named semaphore is opened.
///
/// # Examples
///
/// ```
/// use sinew_sync::SemaphoreOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let name = format!("/sinew-doc-{}", std::process::id());
/// let jobs = SemaphoreOptions::new().create(true).unlink(true).open(&name)?;
/// jobs.post()?;
/// jobs.acquire().await?.forget();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SemaphoreOptions {
    create: bool,
    exclusive: bool,
    value: u32,
    mode: Option<u32>,
    unlink: bool,
}

impl Default for SemaphoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Removes the name when the last handle goes.
#[derive(Debug)]
pub(super) struct Unlink(String, Home);

impl Drop for Unlink {
    fn drop(&mut self) {
        if self.1.is_here() {
            let _gone_before = Semaphore::unlink(&self.0);
        }
    }
}

impl SemaphoreOptions {
    /// Opens what is there.
    pub fn new() -> Self {
        Self {
            create: false,
            exclusive: false,
            value: 0,
            mode: None,
            unlink: false,
        }
    }

    /// Makes it if it is not there. Default: false.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Makes it, and fails if it is there already. Default: false.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Units of one that is made. Default: 0.
    #[must_use]
    pub fn value(mut self, value: u32) -> Self {
        self.value = value;
        self
    }

    /// Permissions of one that is made, exactly as given. Default: what the umask leaves of 666. Both reading and writing are
    /// needed to use it.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Removes the name when the last clone of the handle is dropped. Default: false.
    #[must_use]
    pub fn unlink(mut self, unlink: bool) -> Self {
        self.unlink = unlink;
        self
    }

    /// Opens the semaphore of this name: a slash, and up to 250 bytes without another.
    ///
    /// It is never seen before it is complete.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EEXIST` if there is and [`exclusive`](Self::exclusive) was asked for,
    /// `EACCES`; of kind [`InvalidInput`](ErrorKind::InvalidInput) for a name or a value that cannot be, and
    /// [`Protocol`](ErrorKind::Protocol) for a file that is no semaphore.
    #[doc(alias = "sem_open")]
    pub fn open(&self, name: &str) -> Result<Semaphore, Error> {
        check_platform()?;
        check_value(self.value)?;
        let path = path(name)?;
        let mut semaphore = loop {
            if !self.exclusive {
                match open(&path, name) {
                    Err(error) if is(&error, Errno::NOENT) && self.create => {}
                    opened => break opened?,
                }
            }
            match self.make(&path, name) {
                // Somebody else was faster.
                Err(error) if is(&error, Errno::EXIST) && !self.exclusive => {}
                made => break made?,
            }
        };
        if self.unlink {
            semaphore.unlink = Some(Arc::new(Unlink(name.to_owned(), Home::here())));
        }
        Ok(semaphore)
    }

    fn make(&self, path: &Path, name: &str) -> Result<Semaphore, Error> {
        let failed = |operation, errno: Errno| failed(operation, errno, name);
        let mode = Mode::from_raw_mode(self.mode.unwrap_or(0o666));
        // A file without a name, linked when it is complete: who is killed meanwhile leaves nothing.
        let fd = rustix::fs::open(
            DIRECTORY,
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            mode,
        )
        .map_err(|errno| failed("open", errno))?;
        if self.mode.is_some() {
            rustix::fs::fchmod(&fd, mode).map_err(|errno| failed("fchmod", errno))?;
        }
        let mut file = std::fs::File::from(fd);
        let bytes: Vec<u8> = contents(self.value)
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        file.write_all(&bytes)
            .map_err(|error| Error::from_io("write", error).with_address(name))?;
        let semaphore = map(file.as_fd(), name)?;
        let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        rustix::fs::linkat(CWD, &magic, CWD, path, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| failed("link", errno))?;
        Ok(semaphore)
    }
}

impl Semaphore {
    /// Opens the semaphore that has this name: see [`SemaphoreOptions`] for more.
    ///
    /// # Errors
    ///
    /// As for [`SemaphoreOptions::open`].
    #[doc(alias = "sem_open")]
    pub fn open(name: &str) -> Result<Self, Error> {
        SemaphoreOptions::new().open(name)
    }

    /// Removes a name. Those who have the semaphore keep it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EACCES`, `EPERM`.
    #[doc(alias = "sem_unlink")]
    pub fn unlink(name: &str) -> Result<(), Error> {
        rustix::fs::unlink(path(name)?).map_err(|errno| failed("sem_unlink", errno, name))
    }
}

fn open(path: &Path, name: &str) -> Result<Semaphore, Error> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failed("sem_open", errno, name))?;
    map(fd.as_fd(), name)
}

fn map(fd: std::os::fd::BorrowedFd<'_>, name: &str) -> Result<Semaphore, Error> {
    let region =
        Region::from_file(fd, Semaphore::SIZE, name).map_err(|error| match error.kind() {
            ErrorKind::Protocol => error
                .with_reason("the file is no semaphore")
                .with_remedy("remove it, or choose another name"),
            _ => error,
        })?;
    Semaphore::attach(&region, 0)
}

fn path(name: &str) -> Result<PathBuf, Error> {
    let invalid = |reason: &str, remedy: &'static str| {
        Err(Error::new(ErrorKind::InvalidInput, "sem_open")
            .with_address(name)
            .with_reason(reason.to_owned())
            .with_remedy(remedy))
    };
    let Some(bare) = name.strip_prefix('/') else {
        return invalid("a semaphore's name begins with a slash", "add it");
    };
    if bare.is_empty() || bare.contains(['/', '\0']) {
        return invalid(
            "after the slash come one byte or more, without another slash or a NUL",
            "choose such a name",
        );
    }
    if bare.len() > NAME_LONGEST {
        return invalid("the name is longer than 250 bytes", "shorten it");
    }
    Ok(Path::new(DIRECTORY).join(format!("sem.{bare}")))
}

fn is(error: &Error, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}

fn failed(operation: &'static str, errno: Errno, name: &str) -> Error {
    let error = Error::from_raw_os_error(operation, errno.raw_os_error()).with_address(name);
    match (operation, errno) {
        ("sem_open", Errno::NOENT) => {
            error.with_remedy("start the process that makes it, or open it with `create`")
        }
        ("link", Errno::NOENT) => explain_proc(error),
        _ => error,
    }
}
