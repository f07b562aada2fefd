//! FIFOs: pipes with a name, fifo(7).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sinew_core::Error> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("jobs");
//! use sinew_pipe::fifo::{self, Options};
//!
//! fifo::create(&path, 0o600)?;
//! // Each end waits for the other.
//! let options = Options::new();
//! let (sender, receiver) = tokio::join!(options.sender(&path), options.receiver(&path));
//! let (mut sender, mut receiver) = (sender?, receiver?);
//! sender.send("sweep").await?;
//! sender.close().await?;
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"sweep"[..]));
//! assert_eq!(receiver.recv().await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! A FIFO is not stale because its processes have gone: it is empty then, and as good as new. What is at
//! the path and no FIFO is refused without being opened, so nothing happens to it, and never removed.

mod create;
mod open;
mod options;

pub(crate) use create::Place;
pub use create::create;
pub use options::{Eof, Options};
