//! SysV semaphores: semget(2), semop(2), semctl(2).
//!
//! They come in [sets](Set), found by a key, or a file and ftok(3), or an id, that outlive their processes.
//! What they have beyond POSIX semaphores: operations on several of a set at once, all or none
//! ([`Set::apply`]), waiting until a value is zero, and units that come back when the process dies that
//! has taken them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! use sinew_sync::sysv::Options;
//!
//! # let key = 0x5e1f_0000 | i32::try_from(std::process::id() & 0xffff).unwrap_or(1);
//! // One process makes the set …
//! let set = Options::new().create(true).value(2).remove_on_drop(true).open(key).await?;
//!
//! // … another shares the two slots, and gives its own back even if it is killed.
//! let slots = Options::new().open(key).await?.semaphore(0)?.undo(true);
//! let slot = slots.acquire().await?;
//! assert_eq!(set.values()?, [1]);
//! drop(slot);
//! # Ok(())
//! # }
//! ```
//!
//! # How it waits
//!
//! A SysV semaphore cannot be polled. An operation is tried without waiting, in the poll of its future. Where
//! that has to wait, a helper thread waits in the kernel, but takes nothing: it does the operation *and its
//! opposite*, as one, which the kernel does as soon as the operation alone could be done, and which leaves all values
//! as they were. Then the future that has waited longest tries again. So one that is dropped while it waits
//! has taken nothing, nor has the helper. Not even a process that waits for zero can see a difference.
//! (What can be seen is who was the last to do something, and when.)
//!
//! There is one helper for each set and operation that is waited for, however many wait for it; it ends a
//! second after the last wait, or with the set's last handle. It is interrupted by a signal that nobody
//! else gets: see [`sinew_core::interrupt`]. No more than 64 wait at once in a process: what is beyond,
//! and operations of more than half of `SEMOPM` at once, are looked at by one more thread every 0.5 to 10 ms.
//!
//! A child that is forked has helpers of its own, also for what its parent was waiting for.
//!
//! Nothing here needs a Tokio runtime, but for timeouts and a set that is not initialised.
//!
//! # Undo
//!
//! What is done with `SEM_UNDO` is taken back by the kernel when the *process* ends: all of its tasks and threads
//! share the account, and it does not matter which of them has taken a unit, which gives it back, or that
//! a thread has ended (`CLONE_SYSVSEM` of clone(2), with which the C library starts threads). A child that is
//! forked begins with none; execve(2) keeps it. For one that takes with undo and gives without, the unit
//! comes back twice: a [`Permit`] gives as it has taken. Setting values forgets all that would have been
//! undone.

mod attributes;
mod demand;
mod limits;
#[cfg(test)]
mod model;
mod op;
mod operation;
mod options;
mod permit;
mod poller;
mod semaphore;
mod set;
mod shared;
mod sys;
mod units;
mod watch;

pub use attributes::Attributes;
pub use limits::Limits;
pub use op::Op;
pub use options::Options;
pub use permit::Permit;
pub use semaphore::Semaphore;
pub use set::Set;
pub use sinew_core::sysv::{Target, ftok};
pub use units::{SemaphoreSink, SemaphoreStream};
