//! Waiting for peers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use sinew_core::time::sleep;
use sinew_core::{
    AsyncIo, BoundPath, Credentials, Error, ErrorKind, Home, UnixEndpoint as Endpoint, bind_unix,
};
use tokio::time::{Instant, Sleep};
use tracing::Instrument;

use crate::admission::{self, Claim, MUTE, Patience, Place, is_equal};
use crate::channel::Channel;
use crate::closer;
use crate::handshake::{self, Outcome, Progress};
use crate::options::{Options, Policy};
use crate::refusals::Refusals;
use crate::socket::{self, Socket};
use crate::wire::Reason;

const BACKLOG: i32 = 1024;

type Handshake =
    Pin<Box<dyn Future<Output = (Arc<Socket>, Result<Outcome, (Reason, Error)>)> + Send>>;

/// A connection and the user at its other end.
type Peer = (Arc<Socket>, Credentials);

/// The place that a handshake takes.
#[derive(Debug)]
struct Slot {
    socket: Arc<Socket>,
    uid: u32,
    since: Instant,
    progress: Arc<Progress>,
    abort: AbortHandle,
}

impl Slot {
    fn claim(&self, now: Instant) -> Claim {
        Claim {
            uid: self.uid,
            age: now.duration_since(self.since),
            has_spoken: self.progress.has_spoken.load(Ordering::Relaxed),
            owes: socket::is_empty(self.socket.as_fd()),
        }
    }
}

/// Accepts channels at a path or an abstract name: a `Stream` of [`Channel`]s.
///
/// The policy is asked by the kernel's word alone, before anything of the peer is received. A peer
/// that it does not admit, or that breaks the handshake, is turned away, counted in
/// [`rejected`](Self::rejected) and traced, at most once a second when there are many; it is not an
/// error of `accept`.
///
/// Handshakes go on side by side while the listener is polled, each with a deadline. When there are
/// [as many as may be](Options::max_handshakes), the user with the most of them loses the oldest
/// that waits for its peer to another peer, after 50 ms if the peer has said nothing yet, after 250
/// ms otherwise, and later if no peer was in time. A Sinew channel that is turned away connects
/// anew. So neither peers that stall nor a crowd of one user keep others waiting for long.
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
///     channel.close().await?;
///     Ok::<_, sinew_core::Error>(())
/// });
///
/// let mut channel = connect(&path).await?;
/// channel.send("hello").await?;
/// assert_eq!(channel.recv().await?.as_deref(), Some(&b"hello"[..]));
/// channel.close().await?;
/// server.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    /// Before the socket, which guards it.
    _path: Option<BoundPath>,
    socket: AsyncIo<OwnedFd>,
    /// The process that listens.
    home: Home,
    endpoint: Endpoint,
    address: Arc<str>,
    options: Arc<Options>,
    policy: Policy,
    slots: Vec<Slot>,
    handshakes: FuturesUnordered<Handshake>,
    /// A peer that is admitted, and waits for a slot.
    next: Option<Peer>,
    patience: Patience,
    /// Until when there is nothing to be done for want of a slot.
    pause: Option<Pin<Box<Sleep>>>,
    refusals: Refusals,
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
        let (socket, path) = bind_unix(&endpoint, self.mode, Some(BACKLOG), socket::new)?;
        // Inherited by those that are accepted.
        socket::pass_fds(socket.as_fd(), false);
        Ok(Listener {
            _path: path,
            socket: AsyncIo::new(socket)?,
            home: Home::here(),
            address: format!("shm:{endpoint}").into(),
            options: Arc::new(self.clone()),
            policy: admission(self, &endpoint),
            endpoint,
            slots: Vec::new(),
            handshakes: FuturesUnordered::new(),
            next: None,
            patience: Patience::default(),
            pause: None,
            refusals: Refusals::default(),
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
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM`, `EFBIG` below a limit of file sizes
    /// that leaves no room for a ring. They are [recoverable](Error::is_recoverable): the listener
    /// may be used again, and waits for 50 ms then before it accepts another peer. A peer whose
    /// handshake had begun was told, and turned away; others are still there.
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
        self.refusals.count()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Channel, Error>> {
        loop {
            if let Poll::Ready(Some((socket, result))) = self.handshakes.poll_next_unpin(cx) {
                self.slots
                    .retain(|slot| !Arc::ptr_eq(&slot.socket, &socket));
                self.pause = None;
                match result {
                    Ok(outcome) => {
                        self.patience.finished();
                        return Poll::Ready(Channel::new(outcome, &self.options));
                    }
                    // The shortage is of this process, so the error is its own, and not the peer's.
                    Err((Reason::Resources, error)) => {
                        return Poll::Ready(Err(self.shortage(error)?));
                    }
                    Err((_, error)) => self.refusals.add(&self.address, &error),
                }
                continue;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some((_, peer)) = &self.next else {
                self.next = ready!(self.poll_next_peer(cx))?;
                continue;
            };
            let now = Instant::now();
            let slots = admission::slots(self.options.max_handshakes, self.options.capacity);
            if self.slots.len() < slots {
                self.begin(now);
                continue;
            }
            let claims: Vec<_> = self.slots.iter().map(|slot| slot.claim(now)).collect();
            match admission::place(&claims, peer.uid, &self.patience) {
                Place::Later(time) => self.pause(time)?,
                Place::Of(index) => {
                    let slot = self.slots.remove(index);
                    handshake::reject(&slot.socket, Reason::Busy);
                    // It ends with the next poll, and is counted then.
                    slot.abort.abort();
                    self.patience.displaced(slots);
                    self.begin(now);
                }
            }
        }
    }

    fn pause(&mut self, time: Duration) -> Result<(), Error> {
        self.pause = Some(Box::pin(sleep(time)?));
        Ok(())
    }

    /// Has what is missing looked for again after a while, and the listener go on.
    fn shortage(&mut self, error: Error) -> Result<Error, Error> {
        self.pause(MUTE)?;
        Ok(error.into_recoverable())
    }

    /// Accepts a connection; `None` if its peer is not admitted, or nobody can be just now.
    fn poll_next_peer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Peer>, Error>> {
        if closer::is_full() {
            self.pause(MUTE)?;
            return Poll::Ready(Ok(None));
        }
        let accepted = self.socket.poll_read_with(cx, |socket| {
            rustix::net::accept_with(socket, socket::FLAGS).map_err(io::Error::from)
        });
        let socket = match ready!(accepted) {
            Ok(socket) => Socket::new(socket),
            // The peer went away before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                return Poll::Ready(Ok(None));
            }
            Err(error) => {
                let error = Error::from_io("accept", error).with_address(&self.endpoint);
                return Poll::Ready(Err(self.shortage(error)?));
            }
        };
        let error = match socket::peer_credentials(&socket) {
            Ok(peer) if (self.policy)(&peer) => {
                return Poll::Ready(Ok(Some((Arc::new(socket), peer))));
            }
            Ok(peer) => handshake::not_admitted(&peer),
            Err(error) => error,
        };
        handshake::reject(&socket, Reason::Policy);
        self.refusals.add(&self.address, &error);
        Poll::Ready(Ok(None))
    }

    /// Begins the handshake with the peer that waits for it.
    fn begin(&mut self, now: Instant) {
        let Some((socket, peer)) = self.next.take() else {
            return;
        };
        let progress = Arc::new(Progress::default());
        let (handshake, abort) = abortable(accept(
            socket.clone(),
            peer,
            self.options.clone(),
            progress.clone(),
            self.address.clone(),
        ));
        self.slots.push(Slot {
            socket: socket.clone(),
            uid: peer.uid,
            since: now,
            progress,
            abort,
        });
        self.handshakes.push(Box::pin(async move {
            let result = handshake
                .await
                .unwrap_or_else(|_| Err((Reason::Busy, displaced())));
            (socket, result)
        }));
    }
}

async fn accept(
    socket: Arc<Socket>,
    peer: Credentials,
    options: Arc<Options>,
    progress: Arc<Progress>,
    address: Arc<str>,
) -> Result<Outcome, (Reason, Error)> {
    let span = tracing::debug_span!("accept", address = &*address);
    let hello_timeout = options.hello_timeout;
    handshake::accept(socket, peer, &options, hello_timeout, &progress, address)
        .instrument(span)
        .await
}

fn displaced() -> Error {
    Error::new(ErrorKind::LimitExceeded, "accept")
        .with_reason("the peer did not answer, and others wait for its place")
        .with_remedy("raise max_handshakes, or see why the peer is slow")
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.home.is_here() {
            return;
        }
        // Connections in the backlog may have descriptors queued. Closing the listening socket
        // would close those in this thread, which may block.
        let _failed = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        while let Ok(socket) = rustix::net::accept_with(&self.socket, socket::FLAGS) {
            drop(Socket::new(socket));
        }
    }
}

/// The policy, or the default: for an abstract name, which has no permissions, the same user and root.
fn admission(options: &Options, endpoint: &Endpoint) -> Policy {
    match (&options.policy, endpoint) {
        (Some(policy), _) => policy.clone(),
        (None, Endpoint::Path(_)) => Arc::new(|_| true),
        (None, Endpoint::Abstract(_)) => Arc::new(is_equal),
    }
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
            .field("rejected", &self.rejected())
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
    let socket = Arc::new(Socket::new(socket));
    let mut outcome = match role {
        Role::Acceptor | Role::Parent(_) => {
            let peer = socket::peer_credentials(&socket)?;
            if !admits(&peer) {
                handshake::reject(&socket, Reason::Policy);
                return Err(handshake::not_admitted(&peer).with_address(address));
            }
            let progress = Progress::default();
            // A child may take its time to start.
            let timeout = options.handshake_timeout;
            handshake::accept(socket, peer, options, timeout, &progress, address.clone())
                .await
                .map_err(|(_, error)| error)?
        }
        Role::Connector => {
            let span = tracing::debug_span!("connect", address = &**address);
            handshake::connect(socket, options, |peer| admits(peer), address.clone())
                .instrument(span)
                .await?
        }
    };
    if let Role::Parent(Some(pid)) = role {
        outcome.parts.peer.pid = pid;
    }
    Channel::new(outcome, options)
}
