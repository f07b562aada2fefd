use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::SocketType;
use sinew_core::time::sleep;
use sinew_core::{BoundPath, Error, UnixEndpoint, bind_unix};
use tokio::time::Instant;

use super::Socket;
use crate::failure;
use crate::link::MAX_FDS;
use crate::unix::packet::Intake;
use crate::unix::socket::{self, Setup};

/// How sockets are made.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`max_message`](Self::max_message) | 256 KiB | |
/// | [`max_fds`](Self::max_fds) | 253 | 253, `SCM_MAX_FD` |
/// | [`credentials`](Self::credentials) | no | |
/// | [`mode`](Self::mode) | what the umask leaves of 777 | permission bits |
/// | [`send_buffer`](Self::send_buffer) | net.core.wmem_default | net.core.wmem_max |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let (log, us) = (dir.path().join("log"), dir.path().join("us"));
/// use sinew_socket::unix::datagram::Options;
///
/// let mut server = Options::new().mode(0o600).credentials(true).bind(&log).await?;
/// let mut client = Options::new().local(&us).connect(&log).await?;
/// client.send("started").await?;
///
/// let message = server.recv().await?;
/// assert_eq!(message.payload(), "started");
/// assert_eq!(message.address(), Some(&us.into()));
/// assert_eq!(message.credentials().map(|from| from.pid), Some(std::process::id()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) intake: Intake,
    setup: Setup,
    mode: Option<u32>,
    local: Option<UnixEndpoint>,
    wait_for_receiver: Option<Duration>,
}

/// Between two looks whether a receiver has come.
const RETRY: Duration = Duration::from_millis(5);

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            intake: Intake {
                max_message: 256 << 10,
                max_fds: MAX_FDS,
                credentials: false,
                connected: false,
            },
            setup: Setup::default(),
            mode: None,
            local: None,
            wait_for_receiver: None,
        }
    }

    /// The longest message that this end receives, bytes. A longer one is dropped, and an error that
    /// [`is_recoverable`](Error::is_recoverable) says how long it was.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.intake.max_message = bytes;
        self
    }

    /// The most descriptors that this end takes with a message. A message with more is dropped, its
    /// descriptors are closed, and an error that [`is_recoverable`](Error::is_recoverable) says so.
    #[must_use]
    pub fn max_fds(mut self, count: usize) -> Self {
        self.intake.max_fds = count.min(MAX_FDS);
        self
    }

    /// Whether each message that this end receives says who sent it.
    #[must_use]
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.intake.credentials = credentials;
        self.setup.credentials = credentials;
        self
    }

    /// The permissions of the path, exactly, whatever the umask: who may write, may send.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Bytes of messages that can be on their way from this end, with what the kernel adds. It is the
    /// limit of a message's length too.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.setup.send_buffer = Some(bytes);
        self
    }

    /// Where a socket that [connects](Self::connect) is bound itself, so that it can be answered.
    #[must_use]
    pub fn local(mut self, endpoint: impl Into<UnixEndpoint>) -> Self {
        self.local = Some(endpoint.into());
        self
    }

    /// For how long `connect` waits for the other socket to appear. Without this, a socket that is not
    /// there is an error at once.
    #[must_use]
    pub fn wait_for_receiver(mut self, timeout: Duration) -> Self {
        self.wait_for_receiver = Some(timeout);
        self
    }

    fn bound(&self, endpoint: &UnixEndpoint) -> Result<(OwnedFd, Option<BoundPath>), Error> {
        let setup = self.setup;
        bind_unix(endpoint, self.mode, None, || {
            setup.socket(SocketType::DGRAM)
        })
    }

    /// A socket at a path, or at an abstract name that begins with `@`.
    ///
    /// It receives from everybody who may write there, and sends messages that have an
    /// [address](crate::unix::Message::with_address).
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if a live socket is there, `EEXIST` if something else is, `ENAMETOOLONG` above 107
    /// bytes, `ENOENT` without the directory, `EACCES` without permission to write to it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn bind(&self, endpoint: impl Into<UnixEndpoint>) -> Result<Socket, Error> {
        let endpoint = endpoint.into();
        let (socket, path) = self.bound(&endpoint)?;
        Socket::new(socket, path, endpoint.to_string(), self)
    }

    /// A socket that sends to another and receives from it alone; bound itself if
    /// [`local`](Self::local) says where.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ECONNREFUSED` if there is no socket (at once, or after
    /// [`wait_for_receiver`](Self::wait_for_receiver)), `EACCES` without permission, `EPROTOTYPE` if it
    /// is of another type, `EPERM` if it is connected to somebody else; those of [`bind`](Self::bind).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn connect(&self, endpoint: impl Into<UnixEndpoint>) -> Result<Socket, Error> {
        let endpoint = endpoint.into();
        let addr = endpoint.to_socket_addr("connect")?;
        let (socket, path) = match &self.local {
            Some(local) => self.bound(local)?,
            None => (self.setup.socket(SocketType::DGRAM)?, None),
        };
        let begun = Instant::now();
        let patience = self.wait_for_receiver.unwrap_or_default();
        loop {
            let errno = match rustix::net::connect(&socket, &addr) {
                Ok(()) => break,
                Err(errno) => errno,
            };
            let is_missing = matches!(
                errno,
                rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED
            );
            if !is_missing || begun.elapsed() >= patience {
                let error = failure::of_connect(failure::system("connect", errno, &endpoint));
                return Err(if is_missing && !patience.is_zero() {
                    error.with_detail(format!("waited {patience:?}"))
                } else {
                    error
                });
            }
            sleep(RETRY)?.await;
        }
        Socket::new(socket, path, endpoint.to_string(), self)
    }

    /// A socket without an address of its own: it sends messages that have one, and is not answered.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files.
    pub fn unbound(&self) -> Result<Socket, Error> {
        Socket::new(self.setup.socket(SocketType::DGRAM)?, None, "unbound", self)
    }

    /// Takes a datagram socket over, such as an [inherited](crate::unix::inherited_listeners) one. Its
    /// path is not removed.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) if it is no such socket.
    pub fn socket_on(&self, socket: impl Into<OwnedFd>) -> Result<Socket, Error> {
        let socket = socket.into();
        socket::check(&socket, SocketType::DGRAM, None, "socket")?;
        self.setup.apply(&socket)?;
        Socket::new(socket, None, "inherited", self)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files.
    pub fn pair(&self) -> Result<(Socket, Socket), Error> {
        let (left, right) = self.setup.pair(SocketType::DGRAM)?;
        Ok((
            Socket::new(left, None, "pair", self)?,
            Socket::new(right, None, "pair", self)?,
        ))
    }
}
