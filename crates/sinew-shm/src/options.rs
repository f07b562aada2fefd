//! How channels are made: sizes, limits, waiting, and who may connect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Credentials, Error, ErrorKind};
use sinew_memory::{Layout, RingOptions};

use crate::bell::Doorbell;
use crate::wire::CONTROL_SIZE;
use sinew_core::Wait;

/// About what a wake-up costs.
pub(crate) const SPIN_LIMIT: Duration = Duration::from_micros(100);

/// Decides whether a peer is admitted.
pub(crate) type Policy = Arc<dyn Fn(&Credentials) -> bool + Send + Sync>;

/// How a channel is made; both ends have their own.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`capacity`](Self::capacity) | 256 KiB | a power of two, 4 KiB to 2 GiB |
/// | [`threshold`](Self::threshold) | a quarter of the capacity | up to the capacity less 8 bytes |
/// | [`max_message`](Self::max_message) | 1 GiB | |
/// | [`max_capacity`](Self::max_capacity) | 256 MiB | |
/// | [`reused_memory`](Self::reused_memory) | 64 MiB | up to 128 MiB |
/// | [`wait`](Self::wait) | [`Wait::Adaptive`] | |
/// | [`spin_limit`](Self::spin_limit) | 100 µs | |
/// | [`handshake_timeout`](Self::handshake_timeout) | 5 s | |
/// | [`hello_timeout`](Self::hello_timeout) | 1 s | the handshake's |
/// | [`max_handshakes`](Self::max_handshakes) | 64 | at least 1 |
/// | [`mode`](Self::mode) | what the umask leaves of 0666 | permission bits |
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), sinew_core::Error> {
/// use sinew_shm::{Options, Wait};
///
/// let options = Options::new().capacity(1 << 20).wait(Wait::Park).mode(0o600);
/// let mut listener = options.bind("/run/app.sock").await?;
/// let channel = listener.accept().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) capacity: u64,
    pub(crate) threshold: Option<usize>,
    pub(crate) max_message: u64,
    pub(crate) max_capacity: u64,
    pub(crate) reused_memory: usize,
    pub(crate) wait: Wait,
    pub(crate) spin_limit: Duration,
    pub(crate) doorbell: Doorbell,
    pub(crate) memory: RingOptions,
    pub(crate) handshake_timeout: Duration,
    pub(crate) hello_timeout: Duration,
    pub(crate) wait_for_listener: Option<Duration>,
    pub(crate) max_handshakes: usize,
    pub(crate) mode: Option<u32>,
    pub(crate) policy: Option<Policy>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            capacity: 256 << 10,
            threshold: None,
            max_message: 1 << 30,
            max_capacity: 256 << 20,
            reused_memory: 64 << 20,
            wait: Wait::Adaptive,
            spin_limit: SPIN_LIMIT,
            doorbell: Doorbell::Auto,
            memory: RingOptions::default(),
            handshake_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(1),
            wait_for_listener: None,
            max_handshakes: 64,
            mode: None,
            policy: None,
        }
    }

    /// Bytes of the ring in which this end sends; each message takes its length, rounded up to eight,
    /// and eight more.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// The longest message that travels in the ring, bytes. A longer one travels in [memory that is
    /// used again](Self::reused_memory) or, where that is too small, in sealed memory of its own.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = Some(bytes);
        self
    }

    /// Bytes of memory that this end keeps for its messages above the
    /// [`threshold`](Self::threshold).
    ///
    /// It is allocated when the first such message is sent, in up to eight segments whose sizes are
    /// powers of two, and kept until the channel ends. The receiver copies a message out of it, or
    /// [borrows](crate::TrustedReceiver) it. A message that is longer than this gets sealed memory of its own, which
    /// the receiver maps, and whose pages are new each time: some milliseconds for a few MiB. With
    /// zero, all do.
    #[must_use]
    pub fn reused_memory(mut self, bytes: usize) -> Self {
        self.reused_memory = bytes;
        self
    }

    /// The longest message that this end receives, bytes; the peer is told, and its `send` refuses
    /// longer ones.
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// The largest ring of a peer that this end maps, bytes.
    #[must_use]
    pub fn max_capacity(mut self, bytes: u64) -> Self {
        self.max_capacity = bytes;
        self
    }

    /// How both halves of this end wait. The peer's may wait differently.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// For how long [`Wait::Adaptive`] looks before it parks. About the cost of a wake-up is right:
    /// then the active wait at most doubles what parking at once would have cost.
    #[must_use]
    pub fn spin_limit(mut self, limit: Duration) -> Self {
        self.spin_limit = limit;
        self
    }

    /// Which doorbell to use.
    #[must_use]
    pub fn doorbell(mut self, doorbell: Doorbell) -> Self {
        self.doorbell = doorbell;
        self
    }

    /// Whether the ring's pages are made present before use: see [`RingOptions::prefault`].
    #[must_use]
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.memory.prefault = prefault;
        self
    }

    /// Whether to try for huge pages: see [`RingOptions::huge_pages`].
    #[must_use]
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.memory.huge_pages = huge_pages;
        self
    }

    /// By when a peer must have answered.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// By when a peer that a listener has accepted must have begun its handshake. A connector does
    /// that at once, so that this is short: such a peer is still unknown but for its user.
    #[must_use]
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = timeout;
        self
    }

    /// For how long `connect` waits for a listener to appear. Without this, a listener that is not
    /// there is an error at once.
    #[must_use]
    pub fn wait_for_listener(mut self, timeout: Duration) -> Self {
        self.wait_for_listener = Some(timeout);
        self
    }

    /// The most handshakes that a listener has under way at once; peers beyond it wait in the socket's
    /// backlog, or take the place of one that stalls: see [`Listener`](crate::Listener).
    ///
    /// The rings that unfinished handshakes hold have 256 MiB together at most, unless a single one
    /// has more: with a [`capacity`](Self::capacity) above 4 MiB, fewer handshakes are under way.
    #[must_use]
    pub fn max_handshakes(mut self, count: usize) -> Self {
        self.max_handshakes = count.max(1);
        self
    }

    /// The permissions of the socket's path, exactly, whatever the umask: who may write, may connect.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Decides who may connect, or (on the connecting end) to whom, by the credentials that the kernel
    /// vouches for.
    ///
    /// Without a policy, everybody whom the path's permissions admit may. An abstract name has no
    /// permissions, so there the default is the same user, and root.
    #[must_use]
    pub fn authorize(
        mut self,
        policy: impl Fn(&Credentials) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    pub(crate) fn layout(&self) -> Result<Layout, Error> {
        Layout::new(CONTROL_SIZE, self.capacity).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "channel")
                .with_detail(format!("capacity={}", self.capacity))
                .with_reason("not a power of two from 4 KiB to 2 GiB")
                .with_remedy(format!(
                    "use {}",
                    self.capacity
                        .clamp(Layout::MIN_DATA, Layout::MAX_DATA)
                        .next_power_of_two()
                ))
        })
    }

    /// The threshold for a ring of `capacity` bytes.
    pub(crate) fn checked_threshold(&self, capacity: u64) -> Result<usize, Error> {
        let most = usize::try_from(sinew_ring::max_payload(capacity)).unwrap_or(usize::MAX);
        match self.threshold {
            None => Ok(usize::try_from(capacity / 4).unwrap_or(usize::MAX)),
            Some(threshold) if threshold <= most => Ok(threshold),
            Some(threshold) => Err(Error::new(ErrorKind::InvalidInput, "channel")
                .with_detail(format!("threshold={threshold}"))
                .with_reason(format!(
                    "a ring of {capacity} bytes holds messages of up to {most}"
                ))
                .with_remedy("lower the threshold, or raise the capacity")),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("capacity", &self.capacity)
            .field("threshold", &self.threshold)
            .field("max_message", &self.max_message)
            .field("max_capacity", &self.max_capacity)
            .field("wait", &self.wait)
            .field("spin_limit", &self.spin_limit)
            .field("doorbell", &self.doorbell)
            .field("memory", &self.memory)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("hello_timeout", &self.hello_timeout)
            .field("wait_for_listener", &self.wait_for_listener)
            .field("max_handshakes", &self.max_handshakes)
            .field("mode", &self.mode)
            .field("policy", &self.policy.as_ref().map(|_| ".."))
            .finish()
    }
}
