#![doc = include_str!("../../../README.md")]
//!
//! # Opening by address
//!
//! - [`open`], [`open_sender`] and [`open_receiver`] open whatever an [`Address`] names, as a boxed sink
//!   and a boxed stream of [`Message`]s. Which mechanism it is, is a matter of configuration then.
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
