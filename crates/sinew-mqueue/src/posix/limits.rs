use rustix::process::{Resource, getrlimit};

use crate::sysctl;

/// The kernel's limits on POSIX queues: mq_overview(7), getrlimit(2).
///
/// The sysctls bind those without `CAP_SYS_RESOURCE`; for those with it they are 65,536 messages and 16 MiB.
///
/// # Examples
///
/// ```
/// use sinew_mqueue::posix::Limits;
///
/// let limits = Limits::current();
/// assert!(limits.msg_max.is_none_or(|messages| messages > 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// `fs.mqueue.msg_max`: messages that a new queue may hold; 10 unless it was changed.
    pub msg_max: Option<u64>,
    /// `fs.mqueue.msgsize_max`: bytes of a message; 8192 unless it was changed.
    pub msgsize_max: Option<u64>,
    /// `fs.mqueue.queues_max`: how many queues there can be; 256 unless it was changed.
    pub queues_max: Option<u64>,
    /// `fs.mqueue.msg_default`: messages that a queue holds which is made without saying how many.
    pub msg_default: Option<u64>,
    /// `fs.mqueue.msgsize_default`: bytes of a message, likewise.
    pub msgsize_default: Option<u64>,
    /// `RLIMIT_MSGQUEUE`: bytes of all queues of this user, with the kernel's own for each message; 819,200
    /// unless it was changed. `None` for no limit.
    pub rlimit_msgqueue: Option<u64>,
}

impl Limits {
    /// As they are now; sysctls are `None` where `/proc` does not tell.
    pub fn current() -> Self {
        Self {
            msg_max: sysctl::read("fs.mqueue.msg_max"),
            msgsize_max: sysctl::read("fs.mqueue.msgsize_max"),
            queues_max: sysctl::read("fs.mqueue.queues_max"),
            msg_default: sysctl::read("fs.mqueue.msg_default"),
            msgsize_default: sysctl::read("fs.mqueue.msgsize_default"),
            rlimit_msgqueue: getrlimit(Resource::Msgqueue).current,
        }
    }
}

/// What the kernel counts a queue as, bytes: `mqueue_get_inode` of ipc/mqueue.c, on 64-bit machines.
pub(super) fn accounted(max_messages: usize, message_size: usize) -> usize {
    const MESSAGE: usize = 48;
    const PRIORITY: usize = 48;
    const PRIORITIES: usize = 32_768;
    let tree = max_messages.min(PRIORITIES).saturating_mul(PRIORITY);
    max_messages
        .saturating_mul(message_size.saturating_add(MESSAGE))
        .saturating_add(tree)
}
