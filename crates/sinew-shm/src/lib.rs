//! Async channels through shared memory, between two processes, for Tokio.
//!
//! Messages are written into a ring that the sender's process alone can write and the receiver's can
//! only read; the kernel enforces it. Sending and receiving are a few memory accesses, without a system
//! call, as long as the other side keeps up; an end that has nothing to do looks for a while, as long as
//! that pays, and then sleeps in Tokio's epoll until it is rung.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("app.sock");
//! // One process listens …
//! let mut listener = sinew_shm::Listener::bind(&path).await?;
//! # let client = tokio::spawn({ let path = path.clone(); async move {
//! // … another connects …
//! let mut channel = sinew_shm::connect(&path).await?;
//! channel.send("hello").await?;
//! # Ok::<_, sinew_core::Error>(channel) } });
//!
//! // … and they talk.
//! let mut channel = listener.accept().await?;
//! assert_eq!(channel.recv().await?.as_deref(), Some(&b"hello"[..]));
//! # client.await.unwrap()?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Channel`] is an end, both a `Stream` and a `Sink` of `Bytes`; [`Sender`] and [`Receiver`]
//!   are its halves. [`Sender::reserve`] lends space in the ring; messages above a threshold travel
//!   in memory that is [used again](Options::reused_memory), and the longest as sealed memory of
//!   their own.
//! - [`Listener`] and [`connect()`] meet at a path or an abstract name; [`Options::spawn`] starts a child
//!   with its end in hand; [`pair()`] makes both ends in one process.
//! - [`ByteStream`] is an end as `AsyncRead` and `AsyncWrite`; [`OwnedReadHalf`] and
//!   [`OwnedWriteHalf`] are its halves.
//! - [`named`] lays a channel in memory with a name, which outlives the processes that use it, for peers that trust
//!   each other.
//! - [`Options`] has the sizes, the limits, who may connect, and how to [`Wait`].
//!
//! # A hostile or crashed peer
//!
//! Whatever the peer does, an end gets correct data or a typed [`Error`](sinew_core::Error): it
//! never reads out of bounds, never faults, and never waits for it in a system call: a descriptor
//! that the peer sent and that may take its time to be closed, such as a socket that lingers, is
//! closed by a helper thread. The peer's cursors, lengths and descriptors are checked, its memory
//! cannot shrink under us, and what was received is a copy or immutable. A peer that dies leaves
//! everything that it published, then [`is_peer_crashed`](sinew_core::Error::is_peer_crashed).
//!
//! # Tracing
//!
//! Each end has a [`tracing`] span, `channel`, with the address and the peer's pid and uid: opening and
//! closing are events of level debug in it, parks of level trace, failures warnings. Handshakes have spans
//! of their own, `accept` and `connect`; a peer that is turned away is a warning.
//!
//! Needs Linux 5.1 or newer. The wire format is described in `docs/protocol/shm.md`.

mod admission;
mod batch;
mod bell;
mod byte_stream;
mod channel;
mod closer;
mod connect;
mod handshake;
mod link;
mod listener;
mod loan;
mod mappings;
mod membarrier;
pub mod named;
mod options;
mod receiver;
mod refusals;
mod segments;
mod sender;
mod socket;
mod stats;
mod sys;
mod trusted;
mod turn;
#[cfg(test)]
mod vectors;
mod wire;

pub use batch::{Batch, Iter};
pub use bell::Doorbell;
pub use byte_stream::{ByteStream, IntoChannelError, OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use channel::{Channel, pair};
pub use connect::{INHERITED_FD, connect, inherited};
pub use listener::Listener;
pub use loan::Loan;
pub use options::Options;
pub use receiver::Receiver;
pub use sender::Sender;
pub use sinew_core::UnixEndpoint as Endpoint;
pub use sinew_core::Wait;
pub use sinew_memory::{Draft, Frozen};
pub use stats::{ReceiverStats, SenderStats};
pub use trusted::{Borrowed, TrustedReceiver};
