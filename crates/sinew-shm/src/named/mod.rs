//! A channel in memory with a name: POSIX or SysV shared memory, or a mapped file.
//!
//! Two processes meet by the name, in either order, and each may go, or die, and come back: what was sent stays
//! in the memory until it is received. One direction has one sender and one receiver at a time. Neither needs the other to be there:
//! a sender goes on until the ring is full.
//!
//! ```
//! use sinew_memory::PosixShm;
//! use sinew_shm::named::Options;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! let name = format!("/sinew-doc-{}", std::process::id());
//! let jobs = PosixShm::new(&name).create(true);
//! # let keep = jobs.clone().default_size(1 << 16).unlink_on_drop(true).open()?;
//!
//! let mut sender = Options::new().open_sender(jobs.clone()).await?;
//! sender.send("sweep").await?;
//! sender.close().await?;
//!
//! // Later, in another process:
//! let mut receiver = Options::new().open_receiver(jobs).await?;
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"sweep"[..]));
//! assert_eq!(receiver.recv().await?, None); // Closed.
//! # Ok(())
//! # }
//! ```
//!
//! # What is published, what is consumed
//!
//! - A message is *published* once the sender's cursor has moved past it, which happens inside of `send` (or
//!   `flush`, `try_send`). From then on it is received, whatever becomes of the sender's process. One that was being sent when that died
//!   is published as a whole, or not at all; [`Sender::published`] of the successor says which.
//! - A message is *consumed* once the receiver's cursor has moved past it. [`Receiver::recv`] consumes in the
//!   poll that returns the message: if the process dies between that and the use of it, that one message is gone with it.
//!   [`Receiver::peek`] returns it without, and [`Receiver::commit`] consumes it: if the process dies between the
//!   two, the successor gets that one message again. [`Receiver::consumed`] numbers the messages, so that a
//!   successor that keeps its own account knows which case it is.
//!
//! # Ends
//!
//! - A sender that was closed, or dropped without [`Options::crash_on_drop`]: `None`, after
//!   everything that it had published, also for a receiver that comes later. `recv` may be called
//!   again, and waits for the next sender.
//! - A sender whose process died, or that was dropped with it: everything that it had published,
//!   then an error with
//!   [`is_peer_crashed`](sinew_core::Error::is_peer_crashed), also if its successor is there already. Found out
//!   within 100 ms.
//! - A receiver that was closed, or died: nothing changes for the sender until the ring is full. Then `send` fails.
//! - A name that was removed while the other end was free: nobody can come there any more. A
//!   receiver that waits, and a sender that waits for room, get an error of kind
//!   [`Closed`](sinew_core::ErrorKind::Closed) that says so, within 100 ms. Two that have met need
//!   no name, and neither does a [`Region`](sinew_memory::Region) that is handed over.
//! - With [`Options::await_successor`] these are no ends: a receiver passes over a close, takes a crash for a
//!   [recoverable](sinew_core::Error::is_recoverable) error, and goes on with the next sender; a full
//!   sender waits for the next receiver.
//!
//! # Two directions
//!
//! A channel of two directions has a ring for each, and two fixed sides: the server's, which
//! [`open_server`](Options::open_server) opens, and the client's, which [`open_client`](Options::open_client) opens. Each
//! side has one process at a time. A process that takes over from another takes the ends of the
//! same side.
//!
//! - What a client has sent stays for the server, even if that client has gone.
//! - What the server sends is for one client: for the one that the server's receiver has heard of
//!   last when the message was handed to [`send`](Sender::send). It hears of a client when it comes
//!   to what that client sent, and also if the client has only been opened. A message that was sent
//!   before any client was heard of is for the first that receives it.
//! - A client skips what is for an earlier one; [`Receiver::skipped`] says how many messages that
//!   were. So the answer to the question of a dead client never looks like one to its successor's.
//! - A client is not told of the ends and deaths of servers before its own time.
//!
//! A server that answers each question before it receives the next never answers the wrong client.
//! One that receives ahead learns from its receiver that a client has died, and drops its answers
//! to that client then; and since a clean close is not reported with [`Options::await_successor`],
//! it goes without that option.
//!
//! # Trust
//!
//! Both processes write to the same memory: a malicious one can change what the other sends and
//! receives, and make it wait. It cannot make it read or write out of bounds, or fault: cursors and
//! lengths are checked, and a region that is truncated becomes an error. Memory that belongs to
//! somebody else than root or this process's user is refused, unless [`Options::allow_uid`] says
//! otherwise. Between peers that do not trust each other use a [`Channel`](crate::Channel).
//!
//! # Containers and children
//!
//! Processes in different pid, time and user namespaces can share a channel in POSIX shared memory
//! or in a file, and learn of each other's death, since they hold locks on the file: see
//! [`Region::presence`](sinew_memory::Region::presence). A SysV segment cannot be locked. There, the
//! process that comes second is refused with an error of kind
//! [`Unsupported`](sinew_core::ErrorKind::Unsupported) if it cannot see the first.
//!
//! An end belongs to the process that opened it. A child that is forked can drop its copy, which
//! changes nothing, and gets an error from using it. A process that executes another program gives
//! its ends up, as if it had died.
//!
//! The layout is described in `docs/protocol/region.md`.

mod block;
mod claim;
mod duplex;
mod label;
#[cfg(test)]
mod model;
mod options;
mod owner;
mod place;
mod receiver;
mod recovery;
mod rest;
mod sender;
mod sink;
mod tally;

pub(crate) use block::Block;
pub use options::Options;
pub use place::Place;
pub use receiver::Receiver;
pub use sender::Sender;

/// A frame that holds a message.
const FRAME_DATA: u32 = 1;
/// A frame that says that the sender was closed.
const FRAME_END: u32 = 3;
/// A frame that says that an earlier sender died without having been closed.
const FRAME_CRASH: u32 = 4;
/// A frame that says from which client the messages after it are, or for which.
const FRAME_LABEL: u32 = 5;

/// Bytes of the ring that no message takes: for a crash and an end.
const SPARE: usize = 16;
