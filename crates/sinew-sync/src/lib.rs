//! Waiting for words of shared memory with Tokio, and what stands on it: semaphores and locks between
//! processes.
//!
//! | | between processes that | a unit, or a lock, of one that dies |
//! |---|---|---|
//! | [`Semaphore`] | know its name, or share memory; C programs too | is lost |
//! | [`sysv::Semaphore`] | know its key, file or id; any program | comes back, if so asked |
//! | [`Mutex`], [`RwLock`] | share memory, and use this crate | is reported to the next, with the data |
//! | [`Event`], [`Condvar`], [`Barrier`] | likewise | |
//! | [`WordStream`], [`WordSink`] | share a word, by whatever futex calls | |
//! | [`Driver`] | likewise: for protocols of one's own | |

mod budget;
mod driver;
mod futex;
mod lock;
mod semaphore;
mod slow;
mod spin;
mod sys;
pub mod sysv;
mod word;

pub use driver::{Backend, Driver, DriverStats, Wait, Watch, Word};
pub use futex::{blocking_wait, wake};
pub use lock::{
    Barrier, BarrierWaitResult, Condvar, Event, Guard, LockError, LockResult, Mutex, OwnerDied,
    ReadGuard, ReadResult, RwLock,
};
pub use semaphore::{
    Acquired, Permit, Semaphore, SemaphoreOptions, SemaphoreSink, SemaphoreStream,
};
pub use sinew_memory::{Region, View};
pub use word::{WordOptions, WordSink, WordStream, WordValue};
