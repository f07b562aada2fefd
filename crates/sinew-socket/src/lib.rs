//! Sockets as streams and sinks of messages, for Tokio: Unix domain sockets with descriptors and
//! credentials ([`unix`]), TCP ([`tcp`]) and UDP ([`udp`]).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("app.sock");
//! use sinew_socket::unix::seqpacket::{Listener, connect};
//!
//! // One process listens …
//! let mut listener = Listener::bind(&path).await?;
//! // … another connects …
//! let mut client = connect(&path).await?;
//! let mut server = listener.accept().await?;
//!
//! // … and they talk.
//! client.send("hello").await?;
//! if let Some(message) = server.recv().await? {
//!     assert_eq!(message.payload(), "hello");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Each kind has the same parts: `Options`, a connection (or a socket, where there is none) that splits
//! into a `Sender` and a `Receiver`, and a `Listener`, which is a `Stream` of connections. A receiver is
//! a `Stream`, a sender a `Sink`, of messages.
//!
//! # Two ends
//!
//! `None` is the end of the peer's sending direction. A socket does not say why it ended: a process
//! that is killed between two messages looks as one that closed. (A sender that is dropped before
//! it was closed does say so, where it can: see `tcp::Sender` and `unix::stream::Sender`.) What it
//! does say is an error with
//! [`is_peer_crashed`](sinew_core::Error::is_peer_crashed): a connection that ended within a message (with
//! [`Framing::Length`](sinew_core::Framing::Length)), that was reset, whose peer is unreachable, or
//! whose peer went away without having read all that it was sent.
//!
//! `send` is done as soon as the kernel has the message, and so is `close`. Only a sender alone
//! (`into_sender`) waits in `close` until the peer has read what was sent, as far as the kernel
//! knows, and fails if the peer went away before that. Where the receiver is there too, it gets
//! that error.
//!
//! Writing to a peer that has gone is an error, never a `SIGPIPE`.
//!
//! # Waiting
//!
//! A receiver that finds nothing tries again for up to 100 µs, as long as that has lately paid off
//! ([`AdaptiveSpin`](sinew_core::AdaptiveSpin)); then it sleeps. A dialogue is five times as fast
//! that way, and an idle connection costs nothing.

pub mod tcp;
pub mod udp;
pub mod unix;

mod acceptor;
mod backoff;
mod batch;
mod buffer;
mod failure;
mod inet;
mod link;
mod outgoing;
mod outlet;
mod sys;

pub use inet::parse_addr;
use inet::{bind_inet, index_of, inet_addr, is_scoped_group, no_address, resolve};
pub use outgoing::Outgoing;
