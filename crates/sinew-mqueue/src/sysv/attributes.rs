use std::time::{Duration, SystemTime};

/// What the kernel knows of a queue: `msqid_ds` of msgctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// Messages in the queue, `msg_qnum`.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Bytes that the queue holds, `msg_qbytes`.
    pub max_bytes: u64,
    /// The process that sent last, if any has.
    pub last_sender: Option<u32>,
    /// The process that received last, if any has.
    pub last_receiver: Option<u32>,
    /// When a message was last sent, to the second.
    pub last_sent: Option<SystemTime>,
    /// When a message was last received, to the second.
    pub last_received: Option<SystemTime>,
    /// When the queue was made or its attributes were last set, to the second.
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
    pub(super) fn of(status: &libc::msqid_ds) -> Self {
        let permissions = &status.msg_perm;
        Self {
            messages: status.msg_qnum.into(),
            bytes: status.__msg_cbytes.into(),
            max_bytes: status.msg_qbytes.into(),
            last_sender: process(status.msg_lspid),
            last_receiver: process(status.msg_lrpid),
            last_sent: time(status.msg_stime),
            last_received: time(status.msg_rtime),
            changed: time(status.msg_ctime),
            uid: permissions.uid,
            gid: permissions.gid,
            creator_uid: permissions.cuid,
            creator_gid: permissions.cgid,
            mode: u32::from(permissions.mode) & 0o777,
        }
    }
}

fn process(pid: libc::pid_t) -> Option<u32> {
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// Zero stands for never.
fn time(seconds: libc::time_t) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds != 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
