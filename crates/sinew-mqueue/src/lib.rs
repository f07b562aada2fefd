//! Async message queues for Tokio: POSIX ([`posix`]) and SysV ([`sysv`]).
//!
//! Both keep messages in the kernel, with their boundaries, until somebody receives them, so that sender and
//! receiver need not live at the same time; both have several senders and several receivers on one queue,
//! each message going to one. They differ in what else a message has, and in how they are found:
//!
//! | | [`posix`] | [`sysv`] |
//! |---|---|---|
//! | name | `/jobs` | a key, a file, or an id |
//! | a message has | a priority, 0 to 32,767 | a type, above 0 |
//! | order | highest priority first, then first in first out | first in first out, of the types asked for |
//! | longest message | `msgsize` of the queue, 8192 bytes | `kernel.msgmax`, 8192 bytes |
//! | holds | `maxmsg` messages, 10 | `msg_qbytes` bytes, 16,384 |
//! | waits in | epoll | a helper thread |
//! | ends | never | when the queue is removed |
//!
//! In new programs prefer [`posix`].

#[macro_use]
mod payload;
mod sys;
mod sysctl;

pub mod posix;
pub mod sysv;
