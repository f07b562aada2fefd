//! Waiting for words of shared memory with Tokio, and what stands on it: semaphores and locks between
//! processes.

mod driver;
mod futex;
mod semaphore;
mod sys;

pub use driver::{Backend, Driver, DriverStats, Wait, Word};
pub use futex::{blocking_wait, wake};
pub use semaphore::{
    Acquired, Permit, Semaphore, SemaphoreOptions, SemaphoreSink, SemaphoreStream,
};
