//! Waiting for peers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sinew_core::{
    AsyncIo, BoundPath, Credentials, Error, ErrorKind, UnixEndpoint as Endpoint, bind_unix,
};
use tracing::Instrument;

use crate::channel::Channel;
use crate::handshake::{self, Outcome};
use crate::options::{Options, Policy};
use crate::socket;

const BACKLOG: i32 = 1024;

type Handshake = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

/// Accepts channels at a path or an abstract name: a `Stream` of [`Channel`]s.
///
/// Handshakes go on side by side while the listener is polled, each with a deadline, so that a peer
/// that stalls keeps nobody else waiting. A peer that breaks the handshake, or that the policy does not
/// admit, is turned away, counted in [`rejected`](Self::rejected) and traced; it is not an error of
/// `accept`.
///
/// Binding takes the path of a listener that died, and never that of one that lives. Dropping the
/// listener removes its path; channels that were accepted live on.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("echo.sock");
/// use sinew_shm::{Options, connect};
///
/// let mut listener = Options::new().mode(0o600).bind(&path).await?;
/// let server = tokio::spawn(async move {
///     let mut channel = listener.accept().await?;
///     while let Some(message) = channel.recv().await? {
///         channel.send(message).await?;
///     }
///     Ok::<_, sinew_core::Error>(())
/// });
///
/// let mut channel = connect(&path).await?;
/// channel.send("hello").await?;
/// assert_eq!(channel.recv().await?.as_deref(), Some(&b"hello"[..]));
/// drop(channel);
/// server.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    /// Before the socket, which guards it.
    _path: Option<BoundPath>,
    socket: AsyncIo<OwnedFd>,
    endpoint: Endpoint,
    address: Arc<str>,
    options: Arc<Options>,
    handshakes: FuturesUnordered<Handshake>,
    rejected: u64,
}

impl Options {
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
    pub async fn bind(&self, endpoint: impl Into<Endpoint>) -> Result<Listener, Error> {
        let endpoint = endpoint.into();
        self.layout()?;
        self.checked_threshold(self.capacity)?;
        let (socket, path) = bind_unix(&endpoint, self.mode, Some(BACKLOG), socket::new).await?;
        Ok(Listener {
            _path: path,
            socket: AsyncIo::new(socket)?,
            address: format!("shm:{endpoint}").into(),
            options: Arc::new(self.clone()),
            endpoint,
            handshakes: FuturesUnordered::new(),
            rejected: 0,
        })
    }
}

impl Listener {
    /// Listens with the [default options](Options).
    ///
    /// # Errors
    ///
    /// As for [`Options::bind`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Options::bind`].
    pub async fn bind(endpoint: impl Into<Endpoint>) -> Result<Self, Error> {
        Options::new().bind(endpoint).await
    }

    /// Accepts the next channel.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM`; the listener may be used again, and the
    /// peer is still there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: handshakes that are under way go on with the next call.
    pub async fn accept(&mut self) -> Result<Channel, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many peers were turned away so far.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Channel, Error>> {
        loop {
            match self.handshakes.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(outcome))) => {
                    return Poll::Ready(Channel::new(outcome, &self.options));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.rejected += 1;
                    tracing::warn!(address = &*self.address, %error, "peer was turned away");
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            if self.handshakes.len() >= self.options.max_handshakes {
                return Poll::Pending;
            }
            let accepted = self.socket.poll_read_with(cx, |socket| {
                rustix::net::accept_with(socket, socket::FLAGS).map_err(io::Error::from)
            });
            match ready!(accepted) {
                Ok(peer) => self.handshakes.push(self.handshake(peer)),
                // The peer went away before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let error = Error::from_io("accept", error).with_address(&self.endpoint);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn handshake(&self, socket: OwnedFd) -> Handshake {
        let options = self.options.clone();
        let address = self.address.clone();
        let admits = admission(&options, &self.endpoint);
        Box::pin(async move {
            let timeout = options.handshake_timeout;
            let handshake =
                handshake::accept(socket, &options, |peer| admits(peer), address.clone());
            let span = tracing::debug_span!("accept", address = &*address);
            within(timeout, "accept", &address, handshake)
                .instrument(span)
                .await
        })
    }
}

/// The policy, or the default: for an abstract name, which has no permissions, the same user and root.
fn admission(options: &Options, endpoint: &Endpoint) -> Policy {
    match (&options.policy, endpoint) {
        (Some(policy), _) => policy.clone(),
        (None, Endpoint::Path(_)) => Arc::new(|_| true),
        (None, Endpoint::Abstract(_)) => {
            let us = rustix::process::geteuid().as_raw();
            Arc::new(move |peer| peer.uid == us || peer.uid == 0)
        }
    }
}

async fn within<T>(
    timeout: Duration,
    operation: &'static str,
    address: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut, operation)
                .with_address(address)
                .with_reason(format!(
                    "the peer did not finish the handshake within {timeout:?}"
                ))
                .with_remedy("see whether its process hangs, or raise handshake_timeout"))
        })
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("endpoint", &self.endpoint)
            .field("handshakes", &self.handshakes.len())
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

impl Stream for Listener {
    type Item = Result<Channel, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_accept(cx).map(Some)
    }
}

/// Which side of a handshake an end takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Acceptor,
    /// As the acceptor, of a child with this process number. (The kernel's credentials of a socket pair
    /// are those of the process that made it.)
    Parent(Option<u32>),
    Connector,
}

/// A channel over a connected socket.
pub(crate) async fn shake(
    options: &Options,
    socket: OwnedFd,
    address: &Arc<str>,
    role: Role,
) -> Result<Channel, Error> {
    let admits: Policy = options
        .policy
        .clone()
        .unwrap_or_else(|| Arc::new(|_: &Credentials| true));
    let timeout = options.handshake_timeout;
    let mut outcome = match role {
        Role::Acceptor | Role::Parent(_) => {
            let handshake =
                handshake::accept(socket, options, |peer| admits(peer), address.clone());
            within(timeout, "accept", address, handshake).await?
        }
        Role::Connector => {
            let handshake =
                handshake::connect(socket, options, |peer| admits(peer), address.clone());
            let span = tracing::debug_span!("connect", address = &**address);
            within(timeout, "connect", address, handshake)
                .instrument(span)
                .await?
        }
    };
    if let Role::Parent(Some(pid)) = role {
        outcome.parts.peer.pid = pid;
    }
    Channel::new(outcome, options)
}
