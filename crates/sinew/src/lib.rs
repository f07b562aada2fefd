#![doc = include_str!("../../../README.md")]
//!
//! # Opening by address
//!
//! - [`open`], [`open_sender`] and [`open_receiver`] open whatever an [`Address`] names, as a boxed sink
//!   and a boxed stream of [`Message`]s. Which mechanism it is, is a matter of configuration then.
//! - `listen` listens for any number of peers; an end that is opened takes one.
//! - [`Bridge`] joins two addresses, whatever they are.
//! - The modules are the mechanisms themselves, each with its own types and all that it can do.
//!
//! | module | feature | addresses | |
//! |---|---|---|---|
//! | `memory` | `memory` (default) | | POSIX and SysV shared memory, mapped files |
//! | `mqueue` | `mqueue` (default) | `mq:/jobs`, `sysvmq:0x5e1f` | POSIX and SysV message queues |
//! | `pipe` | `pipe` (default) | `exec:sort -u`, `fd:0`, `fifo:/tmp/f` | pipes, to programs too, and FIFOs |
//! | `shm` | `shm` (default) | `shm:/run/app.sock`, `shm:@name`, `posixshm:/ring`, `sysvshm:0x5e1f`, `mmap:/var/tmp/ring` | channels through shared memory |
//! | `socket` | `socket` (default) | `unix:/run/x.sock`, `unix-dgram:@name`, `unix-seqpacket:/run/x.sock`, `tcp:127.0.0.1:9000`, `udp:127.0.0.1:5000` | sockets |
//! | `sync` | `sync` (default) | `sem:/slots`, `sysvsem:0x5e1f/0`, `futex:/dev/shm/word` | semaphores, locks, futexes |
//!
//! The feature `full` has them all.
//!
//! ## Examples
//!
//! One process receives, at an address that it was given:
//!
//! ```
//! use futures::{SinkExt, StreamExt};
//! use sinew::{Address, Error, Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = tokio::spawn(async {
//! let address: Address = "shm:@sinew-jobs".parse()?;
//! # let address: Address = format!("shm:@sinew-jobs-{}", std::process::id()).parse()?;
//! let mut jobs = sinew::open_receiver(&address).await?;
//! while let Some(job) = jobs.next().await.transpose()? {
//!     assert_eq!(job.payload(), "sweep");
//! }
//! # Ok::<_, Error>(()) });
//! # let address: Address = format!("shm:@sinew-jobs-{}", std::process::id()).parse()?;
//!
//! // … and another sends.
//! let mut jobs = sinew::open_sender(&address).await?;
//! jobs.send(Message::from("sweep")).await?;
//! jobs.close().await?;
//! # server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # What success means
//!
//! What a sender knows when `send` and `close` have returned `Ok`, and what the receiver is told of
//! a sink that was dropped before it was closed (by `?`, by a panic) or whose process was killed.
//! Where the table says *crash*, the receiver gets what was sent, and then an error with
//! [`is_peer_crashed`](Error::is_peer_crashed); where it says *end*, it gets `None`, as after a `close`,
//! because the mechanism cannot tell the two apart.
//!
//! | address | `send` is `Ok`: the message is | `close` is `Ok` | dropped | killed |
//! |---|---|---|---|---|
//! | `shm` | in memory that the receiver has | the receiver has not died before it had everything; it is not waited for | crash | crash |
//! | `posixshm`, `sysvshm`, `mmap` | in memory that outlives both: nobody may ever come for it | as of `send` | crash | crash |
//! | `unix`, `framing=length` | in the kernel | as of `send`; after `open_sender`, the receiver's process has read everything | crash | end; crash within a message |
//! | `unix`, `framing=lines` | in the kernel | as above | end | end |
//! | `unix-seqpacket` | in the kernel | as above | end | end |
//! | `tcp`, `framing=length` | in the kernel | as of `send`; after `open_sender`, the receiver has read to the end, or has not closed within `linger` (5 s) | crash | end; crash within a message |
//! | `tcp`, `framing=lines` | in the kernel | as above | crash, if anything was sent; what was still on its way is lost | end |
//! | `exec` | in the pipe | its input has ended; after `open_sender`, the program has succeeded | the program is killed | end |
//! | `fd`, `fifo` | in the pipe: a reader that goes away leaves it unread | as of `send` | end; crash within a message of `framing=length` | as dropped |
//! | `mq`, `sysvmq` | in the queue, which outlives both: nobody may ever come for it | as of `send` | nothing | nothing |
//! | `unix-dgram` | in the receiver's socket: a receiver that goes away leaves it unread | as of `send` | nothing | nothing |
//! | `udp` | on its way: it may be lost | as of `send` | nothing | nothing |
//! | `sem`, `sysvsem`, `futex` | posted, or stored | as of `send` | nothing | nothing |
//!
//! A receiver's process that has read a message may still fail before it has done anything with it.
//! A sender that has to know more needs an answer in its own protocol.

mod bridge;
mod open;

pub use bridge::{Bridge, BridgeReport, LaneReport};
#[cfg(any(feature = "shm", feature = "socket"))]
pub use open::{Connection, Listener, Peer, listen};
pub use open::{open, open_receiver, open_sender};
pub use sinew_core::{
    Address, AddressError, AsyncIo, Attributes, BoxSink, BoxStream, Credentials, Endpoint, Error,
    ErrorKind, FrameCodec, FrameReader, FrameWriter, Framing, Message, MessageSink, MessageStream,
    Messages, Scheme, StableFd, SysvTarget, TryRecvError, TrySendError, UnixEndpoint,
};
#[cfg(feature = "memory")]
#[doc(inline)]
pub use sinew_memory as memory;
#[cfg(feature = "mqueue")]
#[doc(inline)]
pub use sinew_mqueue as mqueue;
#[cfg(feature = "pipe")]
#[doc(inline)]
pub use sinew_pipe as pipe;
#[cfg(feature = "shm")]
#[doc(inline)]
pub use sinew_shm as shm;
#[cfg(feature = "socket")]
#[doc(inline)]
pub use sinew_socket as socket;
#[cfg(feature = "sync")]
#[doc(inline)]
pub use sinew_sync as sync;
