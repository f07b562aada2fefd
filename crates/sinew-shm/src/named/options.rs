use std::time::{Duration, Instant};

use rustix::io::Errno;
use sinew_core::time::sleep;
use sinew_core::{Error, ErrorKind};
use sinew_memory::Region;

use super::block::{self, Block, CAPACITY_MAX, CAPACITY_MIN, Found, Wish};
use super::duplex::{self, Side};
use super::label::{Incoming, Outgoing};
use super::owner;
use super::place::Place;
use super::{Receiver, Sender};
use sinew_core::Wait;

/// The ring of a channel for which nothing else was asked, bytes.
const CAPACITY: u64 = 256 << 10;
/// How long somebody else may take to lay a channel.
const LAYING: Duration = Duration::from_secs(5);
/// Between two looks whether the channel is there.
const LOOK: Duration = Duration::from_millis(5);

/// How an end of a channel in named memory is opened.
///
/// # Examples
///
/// ```no_run
/// use sinew_memory::MappedFile;
/// use sinew_shm::named::Options;
///
/// # async fn run() -> Result<(), sinew_core::Error> {
/// let place = MappedFile::new("/var/tmp/ring").create(true).mode(0o660);
/// let mut receiver = Options::new()
///     .capacity(1 << 20)
///     .await_successor(true)
///     .open_receiver(place)
///     .await?;
/// loop {
///     match receiver.recv().await {
///         Ok(Some(message)) => println!("{message:?}"),
///         Ok(None) => break,
///         Err(error) if error.is_recoverable() => eprintln!("{error}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) capacity: Option<u64>,
    pub(super) max_message: Option<u64>,
    pub(super) wait: Wait,
    pub(super) spin_limit: Duration,
    pub(super) await_successor: bool,
    pub(super) crash_on_drop: bool,
    timeout: Option<Duration>,
    allowed: Vec<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            capacity: None,
            max_message: None,
            wait: Wait::default(),
            spin_limit: crate::options::SPIN_LIMIT,
            await_successor: false,
            crash_on_drop: false,
            timeout: None,
            allowed: Vec::new(),
        }
    }

    /// Bytes of the ring, from 4096 to 2³¹, rounded up to a power of two; the region has 4096 more. A channel that is there
    /// must have as many. Default: as many as fit into a region that is there, 256 KiB in one that is made.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Bytes of the longest message, up to the capacity less 24. A channel that is there must have as many. Default: that
    /// most.
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// How it waits. Default: [`Wait::Adaptive`].
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// For how long it looks before it parks, with [`Wait::Adaptive`]. Default: 100 µs.
    #[must_use]
    pub fn spin_limit(mut self, limit: Duration) -> Self {
        self.spin_limit = limit;
        self
    }

    /// Whether a sender that is dropped before it was closed is one that died, to the receiver: so
    /// a task that fails midway does not look as if it had sent all. Default: false, dropping
    /// closes it.
    #[must_use]
    pub fn crash_on_drop(mut self, crash_on_drop: bool) -> Self {
        self.crash_on_drop = crash_on_drop;
        self
    }

    /// Whether the channel goes on for this end when the other has closed it, or died: see [*Ends*](super#ends). Default:
    /// false.
    #[must_use]
    pub fn await_successor(mut self, await_successor: bool) -> Self {
        self.await_successor = await_successor;
        self
    }

    /// How long to wait for a channel to be there, for a place that does not create it, and for another process that is laying
    /// it. Default: not at all, and 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Trusts memory that belongs to this user, besides that of root and of the process's own
    /// effective user. May be called for several. Default: nobody else.
    ///
    /// The owner of the memory can change what is sent through it, or the permissions that keep
    /// others from doing so. So a name that was taken by a stranger is refused, rather than used.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.allowed.push(uid);
        self
    }

    /// Opens the end that sends.
    ///
    /// # Errors
    ///
    /// Those of opening the region; of kind [`Refused`](ErrorKind::Refused) if a process that lives
    /// has this end, or the memory belongs to a user who is not [trusted](Self::allow_uid);
    /// [`Protocol`](ErrorKind::Protocol) if something else than a channel is there, or one of
    /// another version or that was cut off, [`Corrupted`](ErrorKind::Corrupted) if its cursors
    /// cannot be, [`TimedOut`](ErrorKind::TimedOut) if there was none in time, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a capacity, or a longest message, that it does
    /// not have.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it may have made the region, and laid the channel.
    pub async fn open_sender(&self, place: impl Into<Place> + Send) -> Result<Sender, Error> {
        let mut opening = Opening::new(self, place.into(), 1)?;
        Sender::open(opening.finish().await?, self, Outgoing::Plain)
    }

    /// Opens the end that receives.
    ///
    /// # Errors
    ///
    /// As for [`open_sender`](Self::open_sender).
    ///
    /// # Cancel safety
    ///
    /// As for [`open_sender`](Self::open_sender).
    pub async fn open_receiver(&self, place: impl Into<Place> + Send) -> Result<Receiver, Error> {
        let mut opening = Opening::new(self, place.into(), 1)?;
        Receiver::open(opening.finish().await?, self, Incoming::Plain)
    }

    /// Opens the server's side of a channel of [two directions](super#two-directions): what it
    /// sends and what it receives. The other process opens the [client's](Self::open_client);
    /// either may come first.
    ///
    /// # Errors
    ///
    /// As for [`open_sender`](Self::open_sender); of kind [`Refused`](ErrorKind::Refused) if there
    /// is a server.
    ///
    /// # Cancel safety
    ///
    /// As for [`open_sender`](Self::open_sender).
    ///
    /// # Examples
    ///
    /// ```
    /// # use sinew_memory::Region;
    /// # use sinew_shm::named::Options;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sinew_core::Error> {
    /// # let region = Region::anonymous(65536)?;
    /// let (mut answers, mut requests) = Options::new().open_server(region.clone()).await?;
    /// let (mut sender, mut receiver) = Options::new().open_client(region).await?;
    /// sender.send("ping").await?;
    /// assert_eq!(requests.recv().await?.as_deref(), Some(&b"ping"[..]));
    /// answers.send("pong").await?;
    /// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"pong"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_server(
        &self,
        place: impl Into<Place> + Send,
    ) -> Result<(Sender, Receiver), Error> {
        self.open_side(place.into(), Side::Server).await
    }

    /// Opens the client's side of a channel of [two directions](super#two-directions).
    ///
    /// # Errors
    ///
    /// As for [`open_sender`](Self::open_sender); of kind [`Refused`](ErrorKind::Refused) if there
    /// is a client.
    ///
    /// # Cancel safety
    ///
    /// As for [`open_sender`](Self::open_sender).
    pub async fn open_client(
        &self,
        place: impl Into<Place> + Send,
    ) -> Result<(Sender, Receiver), Error> {
        self.open_side(place.into(), Side::Client).await
    }

    async fn open_side(&self, place: Place, side: Side) -> Result<(Sender, Receiver), Error> {
        let mut first = Opening::new(self, place, 2)?;
        let requests = first.finish().await?;
        let mut second = first.next(&requests);
        let answers = second.finish().await?;
        duplex::open(requests, answers, side, self)
    }

    /// As [`open_sender`](Self::open_sender), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`open_sender`](Self::open_sender).
    pub fn blocking_open_sender(&self, place: impl Into<Place>) -> Result<Sender, Error> {
        let block = Opening::new(self, place.into(), 1)?.block()?;
        Sender::open(block, self, Outgoing::Plain)
    }

    /// As [`open_receiver`](Self::open_receiver), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`open_sender`](Self::open_sender).
    pub fn blocking_open_receiver(&self, place: impl Into<Place>) -> Result<Receiver, Error> {
        let block = Opening::new(self, place.into(), 1)?.block()?;
        Receiver::open(block, self, Incoming::Plain)
    }
}

/// A channel that is being opened, in steps that do not wait.
struct Opening {
    place: Place,
    region: Option<Region>,
    start: usize,
    wish: Wish,
    timeout: Option<Duration>,
    allowed: Vec<u32>,
    begun: Instant,
}

impl Opening {
    fn new(options: &Options, place: Place, blocks: u64) -> Result<Self, Error> {
        let capacity = match options.capacity {
            None => None,
            Some(bytes) if bytes <= CAPACITY_MAX => {
                Some(bytes.max(CAPACITY_MIN).next_power_of_two())
            }
            Some(bytes) => {
                return Err(Error::new(ErrorKind::InvalidInput, "open")
                    .with_address(place)
                    .with_reason(format!("a ring of {bytes} bytes is too large"))
                    .with_remedy(format!("ask for {CAPACITY_MAX} at most")));
            }
        };
        Ok(Self {
            wish: Wish {
                lay: place.creates(),
                capacity,
                max_message: options.max_message,
                blocks,
                by_name: !matches!(place, Place::Region(_)),
            },
            place,
            region: None,
            start: 0,
            timeout: options.timeout,
            allowed: options.allowed.clone(),
            begun: Instant::now(),
        })
    }

    /// The block that follows one.
    fn next(self, block: &Block) -> Self {
        Self {
            start: block.end(),
            wish: Wish {
                // Whoever lays the first, lays this one too.
                lay: true,
                capacity: Some(block.capacity()),
                max_message: Some(block.max_message()),
                ..self.wish
            },
            ..self
        }
    }

    fn step(&mut self) -> Result<Found, Error> {
        let region = match self.region.take() {
            Some(region) => region,
            None => {
                let blocks = usize::try_from(self.wish.blocks).unwrap_or(usize::MAX);
                let bytes = |capacity| block::size(capacity).saturating_mul(blocks);
                let opened = self
                    .place
                    .open(self.wish.capacity.map(bytes), bytes(CAPACITY));
                let region = match opened {
                    Err(error) if !self.wish.lay && is_missing(&error) => {
                        return Ok(Found::Later(error));
                    }
                    opened => opened?,
                };
                owner::check(&region, &self.allowed)?;
                region
            }
        };
        let found = Block::open(&region, self.start, self.wish);
        // One that was removed meanwhile is not waited for, unless it has no other name than this.
        self.region = (self.wish.lay || self.start > 0).then_some(region);
        found
    }

    /// How long to wait until the next step; or what is to be said of it.
    fn wait(&self, later: Error) -> Result<Duration, Error> {
        let most = match self.timeout {
            Some(timeout) => timeout,
            None if self.wish.lay => LAYING,
            None => Duration::ZERO,
        };
        match self.begun.elapsed() < most {
            true => Ok(LOOK),
            false => Err(later),
        }
    }

    async fn finish(&mut self) -> Result<Block, Error> {
        loop {
            match self.step()? {
                Found::Ready(block) => return Ok(block),
                Found::Later(error) => sleep(self.wait(error)?)?.await,
            }
        }
    }

    fn block(&mut self) -> Result<Block, Error> {
        loop {
            match self.step()? {
                Found::Ready(block) => return Ok(block),
                Found::Later(error) => std::thread::sleep(self.wait(error)?),
            }
        }
    }
}

/// Whether there may be something later: nothing is there, or what has not been given its size yet.
fn is_missing(error: &Error) -> bool {
    [Errno::NOENT, Errno::NODATA]
        .iter()
        .any(|errno| error.errno() == Some(errno.raw_os_error()))
}
