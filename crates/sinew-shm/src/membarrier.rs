//! The asymmetric fence: a receiver that releases pays for none, a sender that goes to sleep pays
//! for both.
//!
//! membarrier(2), `MEMBARRIER_CMD_GLOBAL_EXPEDITED`, executes a full barrier on every processor
//! that runs a registered process. It interrupts those processors, and takes some hundred
//! nanoseconds.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};

/// The process that is registered. A child that was forked has to know for itself.
static REGISTERED: AtomicU32 = AtomicU32::new(0);

/// Registers this process, once. False where the kernel (before 4.16) or a sandbox refuses.
pub(crate) fn register() -> bool {
    let process = std::process::id();
    if REGISTERED.load(Ordering::Relaxed) == process {
        return true;
    }
    let registered = membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    if registered {
        REGISTERED.store(process, Ordering::Relaxed);
    }
    registered
}

/// Executes a barrier on every processor that runs a registered process, this one included.
pub(crate) fn execute() -> Result<(), Errno> {
    membarrier(MembarrierCommand::GlobalExpedited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_registers_and_fences() {
        if !register() {
            println!("skipped: membarrier(2) is not allowed here");
            return;
        }
        assert!(register());
        assert_eq!(execute(), Ok(()));
    }
}
