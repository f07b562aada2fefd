//! How processes that share a region see whether another one is still there.
//!
//! A lock, or an end of a channel, holds a word that names its owner. Whether that owner lives is
//! what the kernel says, and the word is made such that the kernel can be asked.
//!
//! # Memory of a file
//!
//! A process chooses a random even number from 2⁶² to 2⁶³ − 2, and places a write lock on the one
//! byte of the file at that offset, far beyond its end. The number is the word. Another process
//! asks whether that byte is locked (`F_OFD_GETLK`), which needs no permission, no /proc and no
//! pid. So it works across pid, time and user namespaces, and for a file that a reboot has
//! survived. A word is never used again.
//!
//! The lock is an *open file description lock*, `F_OFD_SETLK` in fcntl(2), on a description that
//! nobody else has: the file is opened anew for it. The alternative, a POSIX record lock, is not
//! inherited by a child of fork(2), but it ends with the first `close` of any descriptor of the
//! file in this process: a program that maps a file and closes it would lose its locks, and two
//! processes would be in a critical section. A lock of the description has the opposite fault: it
//! lasts as long as any copy of the descriptor. So
//!
//! - the descriptor is closed on execve(2), which ends the lock like the death of the process does;
//! - a handler of pthread_atfork(3) closes the child's copy, and takes the word from it, before
//!   `fork` returns there. A child that uses the region gets a word of its own.
//!
//! A child made with clone(2) or `_Fork`, which call no such handlers, keeps the copy until it
//! executes another program or ends, and its parent's death is noticed then. That errs on the safe
//! side. The same holds where the file cannot be opened anew, because /proc is not mounted or the
//! process has given up the permission: then the descriptor that it was opened with holds the lock.
//!
//! # Memory without a file
//!
//! Anonymous memory and SysV segments have nothing to lock. There, the word is the pid, the inode
//! numbers of the pid and time namespaces (16 bits of them), and the time at which the process
//! began: see `process.rs`. A word of another namespace, or of a process that /proc does not show
//! (`hidepid`), cannot be judged; that is said, and never taken for a death. A process keeps its
//! word when it executes another program, which such memory rarely survives.

mod process;
mod seat;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, Home};

use self::seat::Seat;
use crate::memfd::system;
use crate::sys;

/// The first word of a process that holds a lock on a file, and the first byte of all such locks.
const FIRST_BYTE: u64 = 1 << 62;
/// Numbers to try. That one is taken happens when another program has locked the whole file.
const TRIES: usize = 4;

/// What this process is called in a region, and whether others that are called something still
/// live: see [`Region::presence`](crate::Region::presence).
///
/// # Examples
///
/// ```
/// use sinew_memory::{Fate, Region};
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let (region, _fd) = Region::memfd(4096)?;
/// let presence = region.presence();
/// let me = presence.enter()?;
/// assert_eq!(presence.judge(me), Fate::Lives);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Presence {
    /// Here, and not behind the pointer, because a lock loads the word each time it is taken.
    seat: &'static Seat,
    proof: Proof,
}

/// By what others see that this process is there.
#[derive(Clone)]
enum Proof {
    /// A lock on a byte of a file.
    Lock(Arc<Lock>),
    /// Its entry in the kernel's table of processes.
    Process,
}

struct Lock {
    seat: &'static Seat,
    file: Arc<File>,
}

/// The file of a region, open.
#[derive(Debug)]
pub(crate) struct File {
    fd: OwnedFd,
    /// The process that has opened it for this region alone; `None` if it came from elsewhere.
    opener: Option<Home>,
    name: String,
}

/// What has become of the owner of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Lives,
    /// It has ended, has executed another program, or has let the region go. So has the owner of a
    /// word that no process writes.
    Ended,
    /// This process cannot find out: see [`Presence::unknown`].
    Unknown,
}

impl File {
    /// `fd` was opened by this process, and nobody else has the open file description.
    pub(crate) fn opened(fd: OwnedFd, name: &str) -> Self {
        Self {
            fd,
            opener: Some(Home::here()),
            name: name.to_owned(),
        }
    }

    /// `fd` came from elsewhere, and other processes may have the open file description.
    pub(crate) fn given(fd: OwnedFd, name: &str) -> Self {
        Self {
            fd,
            opener: None,
            name: name.to_owned(),
        }
    }

    /// Opens it anew.
    fn open(&self) -> Result<OwnedFd, Error> {
        match sys::reopen(self.fd.as_fd()) {
            Ok(fd) => Ok(fd),
            Err(errno) if self.opener.is_none_or(|opener| !opener.is_here()) => Err(system(
                "open", errno,
            )
            .with_kind(ErrorKind::Unsupported)
            .with_address(&self.name)
            .with_reason("a process that takes a lock or an end of a channel opens the file anew")
            .with_remedy(
                "mount /proc, and let this user read and write the file; or open it by its name",
            )),
            Err(_) => rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)
                .map_err(|errno| system("fcntl(F_DUPFD_CLOEXEC)", errno).with_address(&self.name)),
        }
    }

    /// Returns whether the file has no name any more.
    pub(crate) fn is_unlinked(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

impl Presence {
    /// `file` is the file of the region, if it has one.
    pub(crate) fn new(file: Option<&Arc<File>>) -> Self {
        let Some(file) = file else {
            return Self {
                seat: Seat::of_process(),
                proof: Proof::Process,
            };
        };
        let seat = Seat::take();
        Self {
            seat,
            proof: Proof::Lock(Arc::new(Lock {
                seat,
                file: file.clone(),
            })),
        }
    }

    /// Returns the word of this process, if it has [entered](Self::enter).
    ///
    /// A child that is forked has not, whatever its parent has done.
    #[inline]
    pub fn word(&self) -> Option<u64> {
        self.seat.word()
    }

    /// Returns whether `word` is that of this process.
    #[inline]
    pub fn is_mine(&self, word: u64) -> bool {
        self.seat.has(word)
    }

    /// Makes this process one that others can see, and returns its word, which is even and not
    /// zero.
    ///
    /// It stays so until the region is dropped. That costs a descriptor for memory of a file.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`; `ENOLCK` and `EAGAIN` where the file cannot be locked; of kind
    /// [`Unsupported`](ErrorKind::Unsupported) if the file came from elsewhere and cannot be opened
    /// anew, and for memory without a file if /proc is not mounted or is that of another pid
    /// namespace.
    pub fn enter(&self) -> Result<u64, Error> {
        match self.word() {
            Some(word) => Ok(word),
            None => self.enter_first(),
        }
    }

    #[cold]
    fn enter_first(&self) -> Result<u64, Error> {
        match &self.proof {
            Proof::Process => {
                let word = process::me()?;
                self.seat.set_word(word);
                Ok(word)
            }
            Proof::Lock(lock) => {
                let file = &lock.file;
                self.seat.enter(|| file.open(), |fd| lock_byte(fd, file))
            }
        }
    }

    /// Finds out what has become of the owner of a word that is not zero.
    ///
    /// For memory of a file that is one system call, and needs this process to have
    /// [entered](Self::enter). It does not block.
    pub fn judge(&self, word: u64) -> Fate {
        if self.is_mine(word) {
            return Fate::Lives;
        }
        let lock = match &self.proof {
            Proof::Process => return process::judge(word),
            Proof::Lock(lock) => lock,
        };
        if word & !(FIRST_BYTE - 1) != FIRST_BYTE {
            return Fate::Ended;
        }
        if self.word().is_none() {
            // A child that could not open the file anew may share the description by which its
            // parent holds its lock, and is not told of that lock.
            return Fate::Unknown;
        }
        match sys::is_byte_locked(lock.file.fd.as_fd(), word) {
            Ok(true) => Fate::Lives,
            Ok(false) => Fate::Ended,
            Err(_) => Fate::Unknown,
        }
    }

    /// Returns whether the owner of a word is known to have ended. Zero is nobody's.
    pub fn has_ended(&self, word: u64) -> bool {
        word != 0 && self.judge(word) == Fate::Ended
    }

    /// Returns the error to report for an owner of [unknown](Fate::Unknown) fate: of kind
    /// [`Unsupported`](ErrorKind::Unsupported), with what to use instead.
    pub fn unknown(&self, operation: &'static str, word: u64) -> Error {
        match &self.proof {
            Proof::Process => process::unknown(operation, word),
            Proof::Lock(lock) => Error::new(ErrorKind::Unsupported, operation)
                .with_address(&lock.file.name)
                .with_reason("the file system does not say which bytes of the file are locked")
                .with_remedy("use posix shared memory, or a file on a local file system"),
        }
    }
}

/// Locks a byte of which nobody knows yet.
fn lock_byte(fd: std::os::fd::BorrowedFd<'_>, file: &File) -> Result<u64, Error> {
    let failed = |errno| system("fcntl(F_OFD_SETLK)", errno).with_address(&file.name);
    let mut tries = 0;
    loop {
        tries += 1;
        let random = sys::random().map_err(|errno| system("getrandom", errno))?;
        let byte = FIRST_BYTE | random >> 2 & !1;
        match sys::lock_byte(fd, byte) {
            Ok(()) => return Ok(byte),
            Err(Errno::AGAIN | Errno::ACCESS) if tries < TRIES => {}
            Err(errno @ (Errno::AGAIN | Errno::ACCESS)) => {
                return Err(failed(errno)
                    .with_reason("another program has locked the whole file")
                    .with_remedy("let it lock the bytes that the file has alone: fcntl(2)"));
            }
            Err(errno) => {
                return Err(failed(errno).with_remedy(
                    "use posix shared memory, or a file on a file system with locks",
                ));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("word", &self.word())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::Region;

    #[test]
    fn threads_that_enter_at_once_get_one_word() {
        for _ in 0..200 {
            let (region, _fd) = Region::memfd(4096).unwrap();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let region = region.clone();
                    std::thread::spawn(move || region.presence().enter().unwrap())
                })
                .collect();
            let words: Vec<u64> = threads.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(
                words
                    .iter()
                    .all(|word| Some(*word) == region.presence().word())
            );
            assert!(words[0] >= FIRST_BYTE && words[0].is_multiple_of(2));
        }
    }

    #[test]
    fn an_owner_lives_for_as_long_as_it_has_the_region() {
        let (region, fd) = Region::memfd(4096).unwrap();
        let other = Region::from_memfd(fd.as_fd()).unwrap();
        let word = other.presence().enter().unwrap();
        let view = other.view::<std::sync::atomic::AtomicU64>(0).unwrap();
        assert_eq!(region.presence().judge(word), Fate::Unknown, "not entered");
        let mine = region.presence().enter().unwrap();
        assert_ne!(mine, word);
        assert_eq!(region.presence().judge(word), Fate::Lives);
        drop(other);
        assert_eq!(region.presence().judge(word), Fate::Lives, "a view is left");
        drop(view);
        assert_eq!(region.presence().judge(word), Fate::Ended);
        assert_eq!(region.presence().judge(mine), Fate::Lives);
        // No process writes these.
        for word in [1, FIRST_BYTE - 2, 1 << 63, u64::MAX] {
            assert_eq!(region.presence().judge(word), Fate::Ended, "{word:x}");
        }
        assert!(!region.presence().has_ended(0), "nobody's");
    }

    #[test]
    fn a_file_that_is_locked_as_a_whole_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let region = crate::MappedFile::new(&path).create(true).size(4096);
        let region = region.open().unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        sys::lock_from(file.as_fd(), 0).unwrap();
        let error = region.presence().enter().unwrap_err();
        assert_eq!(error.errno_name(), Some("EAGAIN"));
        assert!(
            error.to_string().contains("locked the whole file"),
            "{error}"
        );
        drop(file);
        region.presence().enter().unwrap();
    }
}
