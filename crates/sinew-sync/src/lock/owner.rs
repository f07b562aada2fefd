//! Who holds a lock: a process, told apart from a later one of the same number.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use sinew_core::{Error, ErrorKind};

/// Bits of the time at which a process began, in ticks since the system did: proc_pid_stat(5). At 100 ticks a
/// second they last for a millennium.
const START_BITS: u32 = 42;

/// This process, once it was asked for; zero before, and in a child that was forked.
static ME: AtomicU64 = AtomicU64::new(0);

/// The name of this process in a lock: never zero.
#[inline]
pub(super) fn me() -> Result<u64, Error> {
    match ME.load(Ordering::Relaxed) {
        0 => find_me(),
        me => Ok(me),
    }
}

/// The same, if it was asked for before.
#[inline]
pub(super) fn known() -> Option<u64> {
    let me = ME.load(Ordering::Relaxed);
    (me != 0).then_some(me)
}

#[cold]
fn find_me() -> Result<u64, Error> {
    extern "C" fn forget() {
        ME.store(0, Ordering::Relaxed);
    }
    static FORK: Once = Once::new();
    FORK.call_once(|| {
        if let Err(errno) = crate::sys::at_fork(forget) {
            tracing::error!(%errno, "a child that is forked will take itself for its parent");
        }
    });
    let pid = rustix::process::getpid();
    let start = start_of(pid).ok().flatten().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "lock")
            .with_reason("/proc does not say when this process began")
            .with_remedy("mount /proc, by which locks tell a process from its successor")
    })?;
    let me = name(pid, start);
    ME.store(me, Ordering::Relaxed);
    Ok(me)
}

/// A process, told apart from a later one of the same number: by its number, and the time at which it began.
///
/// It fits into a word, to be kept in shared memory. Numbers are those of one pid namespace: processes that share
/// memory across such namespaces take each other for dead.
///
/// # Examples
///
/// ```
/// use sinew_sync::Process;
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let me = Process::current()?;
/// assert_eq!(me.pid(), std::process::id());
/// assert!(!Process::from_word(me.to_word()).has_ended());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process(u64);

impl Process {
    /// This process.
    ///
    /// # Errors
    ///
    /// Of kind [`Unsupported`](ErrorKind::Unsupported) without /proc.
    #[inline]
    pub fn current() -> Result<Self, Error> {
        me().map(Self)
    }

    /// The process of which this is the word.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As a word: never zero.
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        u32::try_from(self.0 >> START_BITS).unwrap_or_default()
    }

    /// Whether it has ended, as far as can be found out. A word that is none of a process counts as that of one that has.
    pub fn has_ended(self) -> bool {
        is_dead(self.0)
    }
}

fn name(pid: Pid, start: u64) -> u64 {
    let pid = u64::from(pid.as_raw_nonzero().get().unsigned_abs());
    pid << START_BITS | start & ((1 << START_BITS) - 1)
}

/// When a process began; `None` if there is none of this number.
fn start_of(pid: Pid) -> std::io::Result<Option<u64>> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = match fs::read(path) {
        Ok(stat) => stat,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::SRCH) => Ok(None),
                _ => Err(error),
            };
        }
    };
    // The name of the program, in parentheses, may contain anything.
    let after = stat.iter().rposition(|byte| *byte == b')');
    let fields = std::str::from_utf8(&stat[after.map_or(0, |at| at + 1)..]).unwrap_or_default();
    // The 22nd field; the name was the second.
    Ok(fields
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok()))
}

/// Owners whose end is waited for, by descriptors that cannot come to mean another process.
static WATCHED: Mutex<Option<HashMap<u64, OwnedFd>>> = Mutex::new(None);
/// A bound for the descriptors.
const MOST: usize = 64;

/// Whether the process of this name has ended, as far as can be found out.
pub(super) fn is_dead(owner: u64) -> bool {
    if owner == 0 || ME.load(Ordering::Relaxed) == owner {
        return false;
    }
    let Some(pid) = i32::try_from(owner >> START_BITS)
        .ok()
        .and_then(Pid::from_raw)
    else {
        // Nobody writes that: the memory was overwritten.
        return true;
    };
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let watched = watched.get_or_insert_default();
    if let Some(pidfd) = watched.get(&owner) {
        let ended = has_ended(pidfd);
        if ended {
            watched.remove(&owner);
        }
        return ended;
    }
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return true,
        // No descriptor to be had: the time alone tells, but for a process that nobody has reaped.
        Err(_) => return start_of(pid).is_ok_and(|start| differs(start, pid, owner)),
    };
    // After that, since the descriptor keeps the number from being given to another.
    match start_of(pid) {
        Ok(Some(start)) if name(pid, start) != owner => return true,
        // Not to be seen, which /proc may be mounted for (`hidepid`): the descriptor knows.
        _ => {}
    }
    let ended = has_ended(&pidfd);
    if !ended {
        if watched.len() >= MOST {
            watched.clear();
        }
        watched.insert(owner, pidfd);
    }
    ended
}

fn differs(start: Option<u64>, pid: Pid, owner: u64) -> bool {
    start.is_none_or(|start| name(pid, start) != owner)
}

/// A pidfd is readable when its process has ended, reaped or not: pidfd_open(2).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_lives_and_a_successor_of_the_same_number_is_another() {
        let me = me().unwrap();
        assert_ne!(me, 0);
        assert!(!is_dead(me));
        assert!(is_dead(me - 1), "it began at another time");
    }

    #[test]
    fn a_child_is_dead_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let owner = name(pid, start_of(pid).unwrap().unwrap());
        assert!(!is_dead(owner));
        assert!(!is_dead(owner), "from what is kept");
        child.kill().unwrap();
        while !is_dead(owner) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_dead(owner));
    }
}
