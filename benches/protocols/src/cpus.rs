//! Where the two sides run.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// The CPUs of the client and of the server: the first two that this process may use, or the first
/// one twice if `one_core` or if there is no second.
pub(crate) fn choose(one_core: bool) -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus.next().ok_or("no CPU is allowed")?;
    let second = cpus.next().filter(|_| !one_core).unwrap_or(first);
    Ok([first, second])
}

/// Holds the calling thread, and those that it will start, to `cpu`.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
