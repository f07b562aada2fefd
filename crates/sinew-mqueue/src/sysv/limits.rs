use crate::sysctl;

/// The kernel's limits on SysV queues: msgop(2), msgget(2), proc(5).
///
/// # Examples
///
/// ```
/// use sinew_mqueue::sysv::Limits;
///
/// let limits = Limits::current();
/// assert!(limits.msgmax.is_none_or(|bytes| bytes > 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// `kernel.msgmax`: the longest message, bytes; 8192 unless it was changed.
    pub msgmax: Option<u64>,
    /// `kernel.msgmnb`: what a new queue holds, bytes; 16,384 unless it was changed. Without
    /// `CAP_SYS_RESOURCE` no queue can be given more.
    pub msgmnb: Option<u64>,
    /// `kernel.msgmni`: how many queues there can be; 32,000 unless it was changed.
    pub msgmni: Option<u64>,
}

impl Limits {
    /// As they are now; `None` where `/proc` does not tell.
    pub fn current() -> Self {
        Self {
            msgmax: sysctl::read("kernel.msgmax"),
            msgmnb: sysctl::read("kernel.msgmnb"),
            msgmni: sysctl::read("kernel.msgmni"),
        }
    }
}
