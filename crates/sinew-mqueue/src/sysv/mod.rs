//! SysV message queues: msgget(2), msgop(2), msgctl(2).
//!
//! A queue is found by a key, or a file and ftok(3), or its id. It outlives its processes, and holds messages
//! of up to 8192 bytes ([`Limits`]), each with a positive *type*. A receiver takes all of them in order, or
//! [selects](Select) by type. Nobody is told who sends, and no end is told that the other has gone; only
//! a queue's removal is an end.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! use sinew_mqueue::sysv::{Message, Options, Select};
//!
//! # let key = 0x5e1f_0000 | i32::try_from(std::process::id() & 0xffff).unwrap_or(1);
//! // One process makes the queue, and receives what has type 7 …
//! let options = Options::new().create(true).select(Select::Equal(7)).remove_on_drop(true);
//! let mut jobs = options.open_receiver(key)?;
//!
//! // … another sends.
//! let mut sender = Options::new().open_sender(key)?;
//! sender.send(Message::from("sweep").with_kind(7)).await?;
//!
//! let job = jobs.recv().await?;
//! assert_eq!(job.as_ref().map(|job| &job.payload()[..]), Some(&b"sweep"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! Neither half needs a Tokio runtime; they wait with helper threads. How, is said at [`Receiver`] and
//! [`Sender`]. A child that is forked (without execve(2)) does not have its parent's helpers, and cannot wait with
//! what it has inherited of them: let it begin no sooner than a second after the parent's last wait.

mod attributes;
mod demand;
mod limits;
mod message;
#[cfg(test)]
mod model;
mod options;
mod queue;
mod receiver;
mod room;
mod select;
mod sender;
mod watch;

pub use attributes::Attributes;
pub use limits::Limits;
pub use message::Message;
pub use options::Options;
pub use queue::Queue;
pub use receiver::Receiver;
pub use select::Select;
pub use sender::Sender;
pub use sinew_core::sysv::{Target, ftok};
