//! Waiting for words of shared memory with Tokio, and what stands on it: semaphores and locks between
//! processes.

mod driver;
mod futex;
mod lock;
mod semaphore;
mod sys;
pub mod sysv;

pub use driver::{Backend, Driver, DriverStats, Wait, Word};
pub use futex::{blocking_wait, wake};
pub use lock::{
    Barrier, BarrierWaitResult, Condvar, Event, Guard, LockError, LockResult, Mutex, OwnerDied,
    ReadGuard, ReadResult, RwLock,
};
pub use semaphore::{
    Acquired, Permit, Semaphore, SemaphoreOptions, SemaphoreSink, SemaphoreStream,
};
