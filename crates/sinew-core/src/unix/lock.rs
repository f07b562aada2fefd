//! The lock of the processes that bind one path at the same time.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

/// How often the lock's file may have been removed by its last holder before it is locked here.
const ATTEMPTS: usize = 64;

/// A locked file beside a path. It is removed before it is unlocked.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Unlocked {
    /// Another process has it.
    Held(PathBuf),
    /// It cannot be made.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unlocked::Held(path) => write!(f, "while another process locks {}", path.display()),
            Unlocked::Failed(path, error) => {
                write!(f, "without the lock {} ({error})", path.display())
            }
        }
    }
}

impl Lock {
    /// Takes the lock for binding `path`.
    pub(super) fn acquire(path: &Path) -> Result<Self, Unlocked> {
        let Some(name) = path.file_name() else {
            let error = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(Unlocked::Failed(path.to_path_buf(), error));
        };
        let mut file_name = std::ffi::OsString::from(".");
        file_name.push(name);
        file_name.push(".sinew-lock");
        let path = path.with_file_name(file_name);
        for _ in 0..ATTEMPTS {
            match Self::attempt(&path) {
                Ok(Some(file)) => return Ok(Self { path, _file: file }),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Unlocked::Failed(path, error)),
            }
        }
        Err(Unlocked::Held(path))
    }

    /// None if its last holder has removed the file in between.
    fn attempt(path: &Path) -> io::Result<Option<File>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let opened = file.metadata()?;
        if !opened.is_file() || opened.len() != 0 {
            // The lock's file is removed in the end, so the file of another program is not taken
            // for it.
            return Err(io::Error::other("it is no empty file"));
        }
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // As long as it is open, its inode's number is not given to another file.
        Ok(match fs::symlink_metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (opened.dev(), opened.ino()) => Some(file),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}
