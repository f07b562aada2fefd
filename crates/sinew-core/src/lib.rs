//! The vocabulary of Sinew, which all of its crates share.
//!
//! - [`Message`] is what can cross from any mechanism to any other.
//! - [`Error`] is the one error: what failed, on what, why, and what to do about it.
//! - [`MessageStream`] and [`MessageSink`] tie a mechanism's own message type to `Message`.
//! - [`Address`] names anything that can be opened, as `scheme:rest?key=value`.
//! - [`FrameReader`] and [`FrameWriter`] keep the boundaries of messages on a stream of bytes.
//! - [`AsyncIo`] is how every adapter that has a descriptor waits for it with Tokio.
//!
//! Programs use the `sinew` crate, which re-exports this one. Adapters for further mechanisms are
//! written against this crate alone.

mod address;
mod attempt;
mod attributes;
mod error;
mod fd;
mod fork;
mod framing;
mod inherited;
pub mod interrupt;
mod limit;
mod message;
mod messages;
mod proc;
mod room;
mod runtime;
mod sink;
mod spin;
mod stream;
mod sys;
pub mod sysv;
pub mod thread;
pub mod time;
mod unix;
mod user;

pub use address::{Address, AddressError, Endpoint, Scheme, SysvTarget};
pub use attempt::{attempt, is_attempt};
pub use attributes::Attributes;

pub use error::{Error, ErrorKind, TryRecvError, TrySendError};
pub use fd::AsyncIo;
pub use fork::Home;
pub use framing::{
    BorrowedFrame, FrameCodec, FrameEncoder, FrameReader, FrameWriter, Framing, Stage, TokioCodec,
};
pub use inherited::{is_taken, take_inherited};
pub use limit::check_file_size;
pub use message::{Credentials, Message};
pub use messages::Messages;
pub use proc::explain_proc;
pub use room::{make_room, put_chunks};
pub use sink::{BoxSink, MessageSink};
pub use spin::{AdaptiveSpin, Looked, Looks, SpinHistory, Step, Wait, give_way};
pub use stream::{BoxStream, MessageStream};
pub use sys::StableFd;
#[doc(hidden)]
pub use sys::at_fork;
pub use unix::{BoundPath, UnixEndpoint, bind_unix};
pub use user::is_own_uid;
