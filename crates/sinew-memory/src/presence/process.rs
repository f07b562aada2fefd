//! Names of processes for memory that has no file to lock.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use sinew_core::{Error, ErrorKind};

use super::Fate;

/// Bits of the time at which a process began, in ticks: field 22 of proc_pid_stat(5), of which the
/// lowest bits count. At 100 ticks a second, they repeat after 93 hours; a process is taken for
/// another one of its number if it began in the same hundredth of a second of them.
const START_BITS: u32 = 25;
/// Bits that tell namespaces apart.
const PLACE_BITS: u32 = 16;
const PLACE_SHIFT: u32 = 1 + START_BITS;
const PID_SHIFT: u32 = PLACE_SHIFT + PLACE_BITS;

/// The word of this process.
pub(super) fn me() -> Result<u64, Error> {
    let wrong = |reason: &'static str| {
        Error::new(ErrorKind::Unsupported, "lock")
            .with_reason(reason)
            .with_remedy(
                "mount /proc of this pid namespace, or use memory with a file: posix shared memory",
            )
    };
    let stat = fs::read("/proc/self/stat")
        .map_err(|_| wrong("/proc does not say when this process began"))?;
    let (pid, start) =
        parse(&stat).ok_or_else(|| wrong("/proc does not say when this process began"))?;
    if pid != rustix::process::getpid() {
        return Err(wrong("/proc is that of another pid namespace"));
    }
    Ok(word(pid, place(), start))
}

/// Where numbers and times are those of this process: its pid namespace and its time namespace.
///
/// The kernel numbers namespaces one after the other, so the low bits differ. The two are not added
/// up, as both may be the next ones after those of another container.
fn place() -> u64 {
    static PLACE: OnceLock<u64> = OnceLock::new();
    *PLACE.get_or_init(|| {
        let inode = |kind: &str| {
            // There is none for time before Linux 5.6.
            fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |found| found.ino())
        };
        (inode("pid") ^ inode("time") << 8) & ((1 << PLACE_BITS) - 1)
    })
}

/// A word is even: see [`Presence::enter`](super::Presence::enter).
fn word(pid: Pid, place: u64, start: u64) -> u64 {
    let pid = u64::from(pid.as_raw_nonzero().get().unsigned_abs());
    let start = start & ((1 << START_BITS) - 1);
    pid << PID_SHIFT | place << PLACE_SHIFT | start << 1
}

/// The number and the start of a process, of the content of its `stat`.
fn parse(stat: &[u8]) -> Option<(Pid, u64)> {
    // The name of the program, in parentheses, may contain anything.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    // The 22nd field; the name was the second.
    let start = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let pid = stat.split(|byte| *byte == b' ').next()?;
    let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
    Some((Pid::from_raw(pid)?, start))
}

fn pid_of(word: u64) -> Option<Pid> {
    let pid = i32::try_from(word >> PID_SHIFT).ok()?;
    Pid::from_raw(pid)
}

fn place_of(word: u64) -> u64 {
    word >> PLACE_SHIFT & ((1 << PLACE_BITS) - 1)
}

/// Owners whose end is waited for, by descriptors that cannot come to mean another process.
static WATCHED: Mutex<Option<HashMap<u64, OwnedFd>>> = Mutex::new(None);
/// A bound for the descriptors.
const MOST: usize = 256;

/// What has become of the process of this word, which is not this one.
pub(super) fn judge(word: u64) -> Fate {
    let Some(pid) = pid_of(word) else {
        // Nobody writes that: the memory was overwritten.
        return Fate::Ended;
    };
    if place_of(word) != place() {
        return Fate::Unknown;
    }
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let watched = watched.get_or_insert_default();
    if let Some(pidfd) = watched.get(&word) {
        if !has_ended(pidfd) {
            return Fate::Lives;
        }
        watched.remove(&word);
        return Fate::Ended;
    }
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Fate::Ended,
        // No descriptor to be had: the time alone tells, but for a process that nobody has reaped.
        Err(_) => None,
    };
    // After that, since the descriptor keeps the number from being given to another.
    let found = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let found = found.ok().and_then(|stat| parse(&stat));
    if pidfd.as_ref().is_some_and(has_ended) {
        return Fate::Ended;
    }
    match found {
        // Not to be seen: see `hidepid` in proc(5).
        None => return Fate::Unknown,
        Some((pid, start)) if self::word(pid, place(), start) != word => return Fate::Ended,
        Some(_) => {}
    }
    if let Some(pidfd) = pidfd {
        if watched.len() >= MOST {
            // Any one, so that a look at one owner more than that costs little more.
            let any = watched.keys().next().copied();
            any.and_then(|any| watched.remove(&any));
        }
        watched.insert(word, pidfd);
    }
    Fate::Lives
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

/// What is to be said of a process that cannot be judged.
pub(super) fn unknown(operation: &'static str, word: u64) -> Error {
    let pid = pid_of(word).map_or(0, |pid| pid.as_raw_nonzero().get());
    let reason = match place_of(word) == place() {
        true => format!("/proc does not show whether process {pid} lives, which has it"),
        false => format!(
            "process {pid} of another pid or time namespace has it, and cannot be seen from here"
        ),
    };
    Error::new(ErrorKind::Unsupported, operation)
        .with_reason(reason)
        .with_remedy("use memory with a file, posix shared memory for example, in all processes")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn word_of(pid: u32) -> u64 {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap();
        let (pid, start) = parse(&stat).unwrap();
        word(pid, place(), start)
    }

    #[test]
    fn this_process_lives_and_a_successor_of_the_same_number_is_another() {
        let me = me().unwrap();
        assert_eq!(me, word_of(std::process::id()));
        assert_eq!(judge(me), Fate::Lives);
        assert_eq!(judge(me ^ 2), Fate::Ended, "it began at another time");
        assert_eq!(judge(1), Fate::Ended, "no process has the number zero");
    }

    #[test]
    fn a_process_of_another_namespace_is_not_judged() {
        let elsewhere = me().unwrap() ^ 1 << PLACE_SHIFT;
        assert_eq!(judge(elsewhere), Fate::Unknown);
        let error = unknown("lock", elsewhere).to_string();
        assert!(error.contains("another pid or time namespace"), "{error}");
    }

    #[test]
    fn a_child_is_dead_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let owner = word_of(child.id());
        assert_eq!(judge(owner), Fate::Lives);
        assert_eq!(judge(owner), Fate::Lives, "from what is kept");
        child.kill().unwrap();
        while judge(owner) != Fate::Ended {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(judge(owner), Fate::Ended);
    }
}
