use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketType;
use sinew_core::{Credentials, Error, FrameCodec, Framing, UnixEndpoint};

use super::{Connection, Listener};
use crate::link::MAX_FDS;
use crate::unix::policy::Policy;
use crate::unix::refusal;
use crate::unix::socket::{self, Setup};

/// How connections and listeners are made; both ends have their own.
///
/// | option | default | limits |
/// |---|---|---|
/// | [`framing`](Self::framing) | [`Framing::Length`] | |
/// | [`max_message`](Self::max_message) | 16 MiB | 4 GiB with `Framing::Length` |
/// | [`max_fds`](Self::max_fds) | 253 | 253, `SCM_MAX_FD` |
/// | [`credentials`](Self::credentials) | no | |
/// | [`mode`](Self::mode) | what the umask leaves of 777 | permission bits |
/// | [`backlog`](Self::backlog) | 1024 | net.core.somaxconn |
/// | [`send_buffer`](Self::send_buffer) | net.core.wmem_default | net.core.wmem_max |
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), sinew_core::Error> {
/// use sinew_socket::unix::stream::Options;
///
/// let options = Options::new().mode(0o660).max_fds(1).allow_gid(100);
/// let mut listener = options.bind("/run/app.sock").await?;
/// let connection = listener.accept().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) codec: FrameCodec,
    pub(super) max_fds: usize,
    pub(super) credentials: bool,
    setup: Setup,
    mode: Option<u32>,
    backlog: i32,
    policy: Policy,
    wait_for_listener: Option<Duration>,
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
            codec: FrameCodec::new(Framing::Length),
            max_fds: MAX_FDS,
            credentials: false,
            setup: Setup::default(),
            mode: None,
            backlog: 1024,
            policy: Policy::default(),
            wait_for_listener: None,
        }
    }

    /// How the boundaries of messages are kept; the same at both ends.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.codec = FrameCodec::new(framing).with_max_message(self.codec.max_message());
        self
    }

    /// The longest message that this end receives and sends, bytes. A longer one that comes is the end
    /// of the connection.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.codec = self.codec.with_max_message(bytes);
        self
    }

    /// The most descriptors that this end takes with a message. A message with more is dropped, its
    /// descriptors are closed, and an error that [`is_recoverable`](Error::is_recoverable) says so.
    #[must_use]
    pub fn max_fds(mut self, count: usize) -> Self {
        self.max_fds = count.min(MAX_FDS);
        self
    }

    /// Whether each message that this end receives says who sent it: the writer of its last byte. (Who
    /// connected, [`Connection::peer`] tells in any case.)
    #[must_use]
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self.setup.credentials = credentials;
        self
    }

    /// The permissions of the path, exactly, whatever the umask: who may write, may connect.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// How many peers can wait to be accepted.
    #[must_use]
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = i32::try_from(count).unwrap_or(i32::MAX);
        self
    }

    /// Bytes that can be on their way from this end, with what the kernel adds.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.setup.send_buffer = Some(bytes);
        self
    }

    /// Admits peers of this user, and of the others that are listed; nobody else.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.policy.uids.push(uid);
        self
    }

    /// Admits peers whose (effective) group is this, and the others that are listed; nobody else.
    #[must_use]
    pub fn allow_gid(mut self, gid: u32) -> Self {
        self.policy.gids.push(gid);
        self
    }

    /// Decides who of those that are listed, or of everybody where nobody is, may connect, by the
    /// credentials that the kernel vouches for.
    ///
    /// Without any of these, everybody whom the path's permissions admit may. An abstract name has no
    /// permissions, so there the default is the same user, and root.
    #[must_use]
    pub fn authorize(
        mut self,
        policy: impl Fn(&Credentials) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.decide = Some(Arc::new(policy));
        self
    }

    /// For how long `connect` waits for a listener to appear. Without this, a listener that is not
    /// there is an error at once.
    #[must_use]
    pub fn wait_for_listener(mut self, timeout: Duration) -> Self {
        self.wait_for_listener = Some(timeout);
        self
    }

    /// Listens at a path, or at an abstract name that begins with `@`.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if a live listener is there, `EEXIST` if something else is, `ENAMETOOLONG` above
    /// 107 bytes, `ENOENT` without the directory, `EACCES` without permission to write to it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves nothing behind.
    pub async fn bind(&self, endpoint: impl Into<UnixEndpoint>) -> Result<Listener, Error> {
        Listener::new(
            crate::unix::listener::Admission::bind(
                endpoint.into(),
                SocketType::STREAM,
                self.setup,
                self.mode,
                self.backlog,
                self.policy.clone(),
            )
            .await?,
            self,
        )
    }

    /// Listens on a socket that listens already, such as an
    /// [inherited](crate::unix::inherited_listeners) one. Its path is not removed.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) if it is no such socket.
    pub fn listen_on(&self, socket: impl Into<OwnedFd>) -> Result<Listener, Error> {
        Listener::new(
            crate::unix::listener::Admission::adopt(
                socket.into(),
                SocketType::STREAM,
                self.setup,
                self.policy.clone(),
            )?,
            self,
        )
    }

    /// Connects to a listener at a path, or at an abstract name that begins with `@`.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ECONNREFUSED` if nobody listens there (at once, or after
    /// [`wait_for_listener`](Self::wait_for_listener)), `EACCES` without permission, `EPROTOTYPE` if
    /// the socket there is of another type.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves no connection behind.
    pub async fn connect(&self, endpoint: impl Into<UnixEndpoint>) -> Result<Connection, Error> {
        let endpoint = endpoint.into();
        let socket = self
            .setup
            .connect(SocketType::STREAM, &endpoint, self.wait_for_listener)
            .await?;
        refusal::expect(&socket);
        let mut connection = self.connection(socket, endpoint.to_string())?;
        connection.receiver().expect_refusal();
        Ok(connection)
    }

    /// Makes a connection of a connected socket, such as one that was inherited or received.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](sinew_core::ErrorKind::InvalidInput) if it is no such socket.
    pub fn connection_on(&self, socket: impl Into<OwnedFd>) -> Result<Connection, Error> {
        let socket = socket.into();
        socket::check(&socket, SocketType::STREAM, Some(false), "connection")?;
        self.connection(socket, "inherited")
    }

    /// Two ends that are connected to each other.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files.
    pub fn pair(&self) -> Result<(Connection, Connection), Error> {
        let (left, right) = self.setup.pair(SocketType::STREAM)?;
        Ok((
            self.connection(left, "pair")?,
            self.connection(right, "pair")?,
        ))
    }

    pub(super) fn connection(
        &self,
        socket: OwnedFd,
        address: impl Into<Arc<str>>,
    ) -> Result<Connection, Error> {
        self.setup.apply(&socket)?;
        Connection::new(socket, address.into(), self)
    }
}
