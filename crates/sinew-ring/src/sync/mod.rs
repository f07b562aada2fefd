//! The words of semaphores and locks: what changes when, and who must be woken.
//!
//! Whoever waits waits for a word with futex(2), which sleeps only while the word is as expected; that part,
//! and finding out whether an owner is still alive, is the caller's. All of these are valid as zeros, and
//! every pattern of bits is a state, if not a sensible one.

mod event;
mod mutex;
mod semaphore;

pub use self::event::EventState;
pub use self::mutex::MutexState;
pub use self::semaphore::SemaphoreState;

#[cfg(loom)]
#[cfg(test)]
mod model;
