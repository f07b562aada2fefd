use std::time::{Duration, SystemTime};

/// What the kernel knows of a set: `semid_ds` of semctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// Semaphores in the set.
    pub count: u16,
    /// When semop(2) was last used on it, to the second: `sem_otime`. Waiting counts, too.
    pub operated: Option<SystemTime>,
    /// When the set was made, or a value or an attribute was last set, to the second.
    pub changed: Option<SystemTime>,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// User id of the creator.
    pub creator_uid: u32,
    /// Group id of the creator.
    pub creator_gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Attributes {
    #[allow(
        clippy::useless_conversion,
        reason = "not the same types on all machines"
    )]
    pub(super) fn of(status: &libc::semid_ds) -> Self {
        let permissions = &status.sem_perm;
        Self {
            count: count(status),
            operated: time(status.sem_otime),
            changed: time(status.sem_ctime),
            uid: permissions.uid,
            gid: permissions.gid,
            creator_uid: permissions.cuid,
            creator_gid: permissions.cgid,
            mode: u32::from(permissions.mode) & 0o777,
        }
    }
}

/// Semaphores in the set.
pub(super) fn count(status: &libc::semid_ds) -> u16 {
    // `SEMMSL` cannot be above 65,536, and an index has 16 bits.
    u16::try_from(status.sem_nsems).unwrap_or(u16::MAX)
}

/// Zero stands for never.
fn time(seconds: libc::time_t) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds != 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
