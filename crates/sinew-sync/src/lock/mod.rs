//! Locks between processes.

mod barrier;
mod condvar;
mod core;
mod error;
mod event;
mod guard;
mod header;
mod mutex;
mod protected;
mod readers;
mod rwlock;
mod sentinel;

pub use self::barrier::{Barrier, BarrierWaitResult};
pub use self::condvar::Condvar;
pub(crate) use self::core::LockWords;
pub use self::error::{LockError, LockResult};
pub use self::event::Event;
pub use self::guard::{Guard, OwnerDied};
pub use self::mutex::Mutex;
pub use self::rwlock::{ReadGuard, ReadResult, RwLock};
pub(crate) use self::sentinel::{Post, Sentinel};
