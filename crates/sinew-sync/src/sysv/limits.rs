/// The kernel's limits on SysV semaphores, the four numbers of the sysctl `kernel.sem`: proc(5), semget(2),
/// semop(2).
///
/// # Examples
///
/// ```
/// use sinew_sync::sysv::Limits;
///
/// if let Some(limits) = Limits::current() {
///     assert!(limits.semopm > 0);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// `SEMMSL`: semaphores in a set; 32,000 unless it was changed.
    pub semmsl: u32,
    /// `SEMMNS`: semaphores in all sets; 1,024,000,000 unless it was changed.
    pub semmns: u32,
    /// `SEMOPM`: operations at once; 500 unless it was changed.
    pub semopm: u32,
    /// `SEMMNI`: sets; 32,000 unless it was changed.
    pub semmni: u32,
}

impl Limits {
    /// As they are now, where `/proc` tells.
    pub fn current() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/sem").ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            semmsl: next()?,
            semmns: next()?,
            semopm: next()?,
            semmni: next()?,
        })
    }
}

/// `SEMMSL, of kernel.sem, is 32000`, or what can be said of it.
pub(super) fn shown(name: &str, value: impl FnOnce(Limits) -> u32) -> String {
    match Limits::current() {
        Some(limits) => format!("{name}, of kernel.sem, is {}", value(limits)),
        None => format!("{name}, of kernel.sem, is exceeded"),
    }
}
