//! Async pipes and FIFOs, for Tokio: as messages, as packets, as bytes.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! let (mut sender, mut receiver) = sinew_pipe::pair()?;
//! sender.send("hello").await?;
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! - [`Sender`] and [`Receiver`] have messages: lines, or frames with their length before them, or what
//!   any codec of `tokio-util` makes ([`Sender::with_codec`], [`Receiver::with_decoder`]).
//! - [`PacketSender`] and [`PacketReceiver`] have packets of up to [`PIPE_BUF`] bytes, of which the
//!   kernel keeps the boundaries.
//! - [`Writer`] and [`Reader`] have bytes: `AsyncWrite` and `AsyncRead`.
//! - [`Options`] makes pipes within a process, to a child's standard input and output
//!   ([`Options::spawn`]) or to any descriptor of it ([`pass_fd`]). [`Reader::inherited`] and
//!   [`Writer::inherited`] take one that this process was started with.
//! - [`fifo`] has pipes with a name.
//! - [`Splice`], [`Tee`] and [`Gift`] move bytes without copying them.
//!
//! # Several writers
//!
//! What is written at once, up to [`PIPE_BUF`] (4096) bytes with what frames it, is never mixed with what
//! others write to the same pipe. [`Sender::send`] and [`PacketSender::send`] write a message at once. A
//! longer one, and what a sink flushes together, may be mixed with the others'.
//!
//! # Ends
//!
//! A receiver ends, with `None`, when all writers have closed: also those in other processes that
//! inherited one. A sender fails with `EPIPE`, of kind [`Closed`](sinew_core::ErrorKind::Closed), once all
//! readers have. The kernel does not tell a clean close from a death; [`Framing::Length`] shows one that
//! cuts a message, and the processes that [`Options::spawn`] starts report their exit status.
//!
//! # Waiting
//!
//! A receiver that finds nothing tries again for up to 100 µs, as long as that has lately paid off
//! ([`AdaptiveSpin`](sinew_core::AdaptiveSpin)); then it sleeps. A dialogue is more than ten times
//! as fast that way, and an idle pipe costs nothing.

mod child;
mod command;
pub mod fifo;
mod gift;
mod inherited;
mod options;
mod packet;
mod reader;
mod receiver;
mod splice;
mod sys;
mod writer;

pub use child::{ChildReceiver, ChildSender, pass_fd};
pub use command::command;
pub use gift::{Gift, Pages};
pub use inherited::{accepted, inherited};
pub use options::{Options, pair};
pub use packet::{PIPE_BUF, PacketReceiver, PacketSender};
pub use reader::Reader;
pub use receiver::Receiver;
pub use sinew_core::{FrameCodec, Framing};
pub use splice::{Splice, SpliceFrom, SpliceTo, Tee};
pub use writer::Writer;

/// Messages into a pipe or a FIFO: a `Sink`, of [`Bytes`](bytes::Bytes) unless another codec was given.
///
/// It is a [`FrameWriter`](sinew_core::FrameWriter), which see for what is written when, and for what
/// becomes of a `send` that is dropped.
pub type Sender<E = FrameCodec> = sinew_core::FrameWriter<Writer, E>;
