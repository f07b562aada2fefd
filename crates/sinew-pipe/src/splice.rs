//! Moving bytes without copying them: splice(2) and tee(2).

mod end;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, thread};
use tokio::sync::oneshot;

use crate::{Reader, Writer, sys};
use end::End;
pub use end::{SpliceFrom, SpliceTo};

/// Bytes that are moved at a time.
const STEP: u64 = 1 << 20;
/// Bytes for which there is room in a socket that is ready to be written to.
const READY: usize = 4096;

/// Moves bytes from one descriptor to another within the kernel, of which one must be a pipe.
///
/// From and to can be a [`Reader`], a [`Writer`], a [`File`](std::fs::File), a `TcpStream` or
/// `UnixStream` of Tokio, or anything in an [`AsyncIo`](sinew_core::AsyncIo). It waits for both
/// sides, and moves no more than the slower one takes. Steps that touch a file, or a socket that
/// was inherited in blocking mode, are made by a thread of their own.
///
/// # Examples
///
/// ```
/// use sinew_pipe::{Options, Splice};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut first, mut from) = Options::new().byte_pair()?;
/// let (mut to, mut last) = Options::new().byte_pair()?;
/// first.write_all(b"all of this").await?;
/// first.shutdown().await?;
///
/// let moved = Splice::new(&mut from, &mut to).run().await?;
/// assert_eq!(moved, 11);
/// to.shutdown().await?;
/// let mut received = String::new();
/// last.read_to_string(&mut received).await?;
/// assert_eq!(received, "all of this");
/// # Ok(())
/// # }
/// ```
pub struct Splice<'a, A, B> {
    from: &'a mut A,
    to: &'a mut B,
    left: u64,
    moved: u64,
    step: Step,
}

impl<'a, A: SpliceFrom, B: SpliceTo> Splice<'a, A, B> {
    /// Moves everything until `from` ends.
    pub fn new(from: &'a mut A, to: &'a mut B) -> Self {
        Self {
            from,
            to,
            left: u64::MAX,
            moved: 0,
            step: Step::default(),
        }
    }

    /// Moves no more than this many bytes.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.left = bytes;
        self
    }

    /// Bytes that were moved so far.
    ///
    /// After a [`run`](Self::run) that was dropped, a step that touches a file may still be under way; the
    /// next `run` takes it into account.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves bytes until `from` ends, or the limit is reached. Returns [`moved`](Self::moved).
    ///
    /// # Errors
    ///
    /// Those of splice(2): `EPIPE` and `ECONNRESET` where nobody reads any more; of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) (`EINVAL`) if neither is a pipe, or a file is in append
    /// mode. What was moved before stays counted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from one side without being given to the other, and a further call
    /// goes on. [`moved`](Self::moved) tells how much that was.
    pub async fn run(&mut self) -> Result<u64, Error> {
        while self.left > 0 {
            let count = self.step.make(self.from, self.to, self.left).await?;
            if count == 0 {
                break;
            }
            self.left = self.left.saturating_sub(count);
            self.moved += count;
        }
        Ok(self.moved)
    }
}

impl<A: fmt::Debug, B: fmt::Debug> fmt::Debug for Splice<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splice")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("left", &self.left)
            .field("moved", &self.moved)
            .finish_non_exhaustive()
    }
}

/// Moves bytes from a pipe, and duplicates them into another on the way, within the kernel.
///
/// # Examples
///
/// ```
/// use sinew_pipe::{Options, Tee};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut first, mut from) = Options::new().byte_pair()?;
/// let (mut to, mut last) = Options::new().byte_pair()?;
/// let (mut copy, mut log) = Options::new().byte_pair()?;
/// first.write_all(b"twice").await?;
/// first.shutdown().await?;
///
/// assert_eq!(Tee::new(&mut from, &mut to, &mut copy).run().await?, 5);
/// for (writer, reader) in [(to, &mut last), (copy, &mut log)] {
///     drop(writer);
///     let mut received = String::new();
///     reader.read_to_string(&mut received).await?;
///     assert_eq!(received, "twice");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Tee<'a, B> {
    from: &'a mut Reader,
    to: &'a mut B,
    copy: &'a mut Writer,
    /// Bytes that are duplicated and not moved yet.
    owed: u64,
    moved: u64,
    step: Step,
}

impl<'a, B: SpliceTo> Tee<'a, B> {
    /// Moves everything from `from` to `to`, with a copy to `copy`, which must be a pipe as `from` is.
    pub fn new(from: &'a mut Reader, to: &'a mut B, copy: &'a mut Writer) -> Self {
        Self {
            from,
            to,
            copy,
            owed: 0,
            moved: 0,
            step: Step::default(),
        }
    }

    /// Bytes that both have got so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes that the copy has got before the other: what a further [`run`](Self::run) begins with.
    pub fn ahead(&self) -> u64 {
        self.owed
    }

    /// Moves bytes until `from` ends. Returns [`moved`](Self::moved).
    ///
    /// # Errors
    ///
    /// Those of tee(2) and splice(2), as for [`Splice::run`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a further call goes on, with nothing lost and nothing twice.
    pub async fn run(&mut self) -> Result<u64, Error> {
        loop {
            while self.owed > 0 {
                let count = self.step.make(self.from, self.to, self.owed).await?;
                self.owed = self.owed.saturating_sub(count);
                self.moved += count;
                if count == 0 {
                    return Ok(self.moved);
                }
            }
            let bytes = usize::try_from(STEP).unwrap_or(usize::MAX);
            let duplicate =
                |from: &Reader, to: &Writer| sys::tee(End::fd(from)?, End::fd(to)?, bytes);
            let count = attempt(self.from, self.copy, duplicate)
                .await
                .map_err(|error| failed("tee", error))?;
            if count == 0 {
                return Ok(self.moved);
            }
            self.owed = count as u64;
        }
    }
}

impl<B: fmt::Debug> fmt::Debug for Tee<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("copy", &self.copy)
            .field("ahead", &self.owed)
            .field("moved", &self.moved)
            .finish_non_exhaustive()
    }
}

/// One splice after another, which a thread may be making.
#[derive(Default)]
struct Step {
    /// It ends when this is dropped, after the splice that it is in.
    thread: Option<mpsc::SyncSender<Splicing>>,
    under_way: Option<oneshot::Receiver<io::Result<usize>>>,
}

/// A splice for the thread, and where its result goes.
struct Splicing {
    from: OwnedFd,
    to: OwnedFd,
    bytes: usize,
    result: oneshot::Sender<io::Result<usize>>,
}

fn splice_all(queue: &mpsc::Receiver<Splicing>) {
    for splicing in queue {
        let (from, to) = (splicing.from.as_fd(), splicing.to.as_fd());
        let count = sys::splice(from, to, splicing.bytes);
        let _nobody_waits = splicing.result.send(count);
    }
}

impl Step {
    fn thread(&mut self) -> io::Result<&mpsc::SyncSender<Splicing>> {
        match &mut self.thread {
            Some(thread) => Ok(thread),
            none => {
                let (sender, queue) = mpsc::sync_channel(1);
                thread::start("sinew-splice", move || splice_all(&queue))?;
                Ok(none.insert(sender))
            }
        }
    }

    async fn make<A: End, B: End>(&mut self, from: &A, to: &B, left: u64) -> Result<u64, Error> {
        let bytes = usize::try_from(left.min(STEP)).unwrap_or(usize::MAX);
        let blocking = from.is_blocking() || to.is_blocking();
        let bytes = if blocking { bytes.min(READY) } else { bytes };
        let count = if blocking || from.is_file() || to.is_file() {
            self.on_a_thread(from, to, bytes).await
        } else {
            attempt(from, to, |from, to| {
                sys::splice(from.fd()?, to.fd()?, bytes)
            })
            .await
        };
        match count {
            Ok(count) => Ok(count as u64),
            Err(error) => Err(failed("splice", error)),
        }
    }

    async fn on_a_thread<A: End, B: End>(
        &mut self,
        from: &A,
        to: &B,
        bytes: usize,
    ) -> io::Result<usize> {
        loop {
            let step = match &mut self.under_way {
                Some(step) => step,
                None => {
                    poll_fn(|cx| from.poll_readable(cx)).await?;
                    poll_fn(|cx| to.poll_writable(cx)).await?;
                    let (result, count) = oneshot::channel();
                    let splicing = Splicing {
                        from: sys::duplicate(from.fd()?)?,
                        to: sys::duplicate(to.fd()?)?,
                        bytes,
                        result,
                    };
                    self.thread()?.send(splicing).map_err(io::Error::other)?;
                    self.under_way.insert(count)
                }
            };
            let done = step.await;
            self.under_way = None;
            match done.map_err(io::Error::other)? {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// Tries, and waits for both sides before it tries again.
async fn attempt<A: End, B: End>(
    from: &A,
    to: &B,
    mut operation: impl FnMut(&A, &B) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        tokio::task::consume_budget().await;
        match operation(from, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => return done,
        }
        // Which of the two it was, the kernel does not say.
        poll_fn(|cx| from.poll_readable(cx)).await?;
        poll_fn(|cx| to.poll_writable(cx)).await?;
    }
}

fn failed(operation: &'static str, error: io::Error) -> Error {
    let error = Error::from_io(operation, error);
    if error.errno() == Some(Errno::INVAL.raw_os_error()) {
        return error
            .with_kind(ErrorKind::InvalidInput)
            .with_reason("neither of the two is a pipe, or one is a file in append mode")
            .with_remedy("put a pipe in between, or open the file without append");
    }
    error
}
