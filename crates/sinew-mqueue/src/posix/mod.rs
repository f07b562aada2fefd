//! POSIX message queues: mq_overview(7).
//!
//! A queue has a name that begins with a slash, such as `/jobs`, and permissions. It outlives its processes,
//! and holds a number of messages (10 unless it was made with more) of a size (8192 bytes), each with a
//! *priority*: the highest is received first. Nobody is told who sends, and no end is told that the
//! other has gone.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! use sinew_mqueue::posix::{Message, Options};
//!
//! # let name = format!("/sinew-doc-posix-{}", std::process::id());
//! // One process makes the queue, and receives …
//! let options = Options::new().create(true).unlink_on_drop(true);
//! let mut jobs = options.open_receiver(&name)?;
//!
//! // … another sends.
//! let mut sender = Options::new().open_sender(&name)?;
//! sender.send("sweep").await?;
//! sender.send(Message::from("fire").with_priority(9)).await?;
//!
//! for expected in ["fire", "sweep"] {
//!     let job = jobs.recv().await?;
//!     assert_eq!(job.as_ref().map(|job| &job.payload()[..]), Some(expected.as_bytes()));
//! }
//! # Ok(())
//! # }
//! ```

mod attributes;
mod limits;
mod list;
mod message;
mod name;
mod options;
mod queue;
mod receiver;
mod refusal;
mod sender;

pub use attributes::Attributes;
pub use limits::Limits;
pub use list::list;
pub use message::Message;
pub use name::unlink;
pub use options::Options;
pub use queue::Queue;
pub use receiver::Receiver;
pub use sender::Sender;

/// The highest priority, `sysconf(_SC_MQ_PRIO_MAX) - 1`: the same on every Linux.
pub const MAX_PRIORITY: u32 = 32_767;
