use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, check_file_size, explain_proc};
use sinew_memory::Region;

use crate::driver::Word;

/// How a word in a file is opened.
///
/// # Examples
///
/// ```
/// use sinew_sync::{WordOptions, wake};
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// # let path = format!("/dev/shm/sinew-doc-word-{}", std::process::id());
/// let word = WordOptions::new().create(true).open(&path, 0)?;
/// word.store(7, std::sync::atomic::Ordering::Release);
/// wake(&word, u32::MAX);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordOptions {
    create: bool,
    mode: u32,
}

/// Bytes of a file that is made: a page of most machines.
const SIZE: usize = 4096;

impl Default for WordOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl WordOptions {
    /// Opens what is there.
    pub fn new() -> Self {
        Self {
            create: false,
            mode: 0o600,
        }
    }

    /// Makes the file if there is none, all zero and of 4096 bytes, or as many more as the word needs.
    /// Default: false.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Permissions of a file that is made, exactly as given. Default: 600. Both reading and writing are
    /// needed to use it.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Opens the word at `offset` bytes, a multiple of four, of a regular file. For what is to stay in
    /// memory only, take one in `/dev/shm`.
    ///
    /// A file that others make shorter than that while it is in use is the end of this process: SIGBUS.
    ///
    /// # Errors
    ///
    /// Those of open(2); of kind [`Protocol`](ErrorKind::Protocol) for a file that is shorter or no regular one, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an offset that is not aligned.
    pub fn open(&self, path: impl AsRef<Path>, offset: usize) -> Result<Word, Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let Some(len) = offset.checked_add(4).filter(|_| offset.is_multiple_of(4)) else {
            return Err(Error::new(ErrorKind::InvalidInput, "open")
                .with_address(name)
                .with_detail(format!("offset={offset}"))
                .with_reason("a word's offset is a multiple of four")
                .with_remedy("align it"));
        };
        let fd = self.file(path, len).map_err(|(operation, errno)| {
            let error = Error::from_raw_os_error(operation, errno.raw_os_error());
            match errno {
                Errno::NOENT if operation == "link" => explain_proc(error),
                Errno::NOENT => {
                    error.with_remedy("start the process that makes it, or open it with `create`")
                }
                _ => error,
            }
            .with_address(&name)
        })?;
        let region =
            Region::from_file(fd.as_fd(), len, &name).map_err(|error| match error.kind() {
                ErrorKind::Protocol => {
                    error.with_remedy("choose an offset within it, or let it be made anew")
                }
                _ => error,
            })?;
        region.view(offset)
    }

    fn file(&self, path: &Path, len: usize) -> Result<OwnedFd, (&'static str, Errno)> {
        // A FIFO must not keep the thread waiting: it is refused for what it is.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        loop {
            match rustix::fs::open(path, flags, Mode::empty()) {
                Err(Errno::NOENT) if self.create => {}
                opened => return opened.map_err(|errno| ("open", errno)),
            }
            match self.make(path, len) {
                // Somebody else was faster.
                Err((_, Errno::EXIST)) => {}
                made => return made,
            }
        }
    }

    /// A file without a name, linked when it is complete: nobody sees one that is too short.
    fn make(&self, path: &Path, len: usize) -> Result<OwnedFd, (&'static str, Errno)> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mode = Mode::from_raw_mode(self.mode);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(directory, flags, mode).map_err(|errno| ("open", errno))?;
        rustix::fs::fchmod(&fd, mode).map_err(|errno| ("fchmod", errno))?;
        // Space that there is not is an error here, and would be SIGBUS later.
        let size = len.next_multiple_of(SIZE) as u64;
        check_file_size(size)
            .and_then(|()| rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, size))
            .map_err(|errno| ("fallocate", errno))?;
        let magic = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::linkat(CWD, &magic, CWD, path, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| ("link", errno))?;
        Ok(fd)
    }
}
