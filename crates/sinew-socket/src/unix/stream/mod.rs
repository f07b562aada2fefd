//! Streams of bytes with messages framed on them: `SOCK_STREAM`.
//!
//! A [`Connection`] frames by [`Framing`](sinew_core::Framing): lines, or length and payload. As
//! [`ByteStream`] it is an `AsyncRead + AsyncWrite` for any codec of `tokio-util`, and for everything else
//! that runs on one.
//!
//! # Descriptors on a stream
//!
//! A message with descriptors is sent by a system call of its own, and they travel with its first byte.
//! The kernel ends a read with the bytes that descriptors came with, so that they belong to the
//! message which contains the last byte of that read. That is always the right one if a peer sends
//! descriptors with bytes of one message alone, as this crate does; it does not matter how reads and writes
//! are split or merged.

mod bytes;
mod connection;
mod io;
mod listener;
mod options;
mod receiver;
mod sender;

pub use bytes::ByteStream;
pub use connection::{Connection, connect, pair};
pub use listener::Listener;
pub use options::Options;
pub use receiver::Receiver;
pub use sender::Sender;
