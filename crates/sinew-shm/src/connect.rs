//! Finding a peer: by address, by an inherited descriptor, or by starting it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use sinew_core::time::sleep;
use sinew_core::{Error, ErrorKind, UnixEndpoint as Endpoint, take_inherited};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::listener::{Role, shake};
use crate::options::Options;
use crate::wire::is_busy;
use crate::{socket, sys};

/// The environment variable that tells a child which descriptor its end is: `FD:INODE`, the
/// descriptor's number and the inode number that fstat(2) says of it.
///
/// The environment goes to a grandchild, too, and the descriptor may not. There the inode number
/// tells that the descriptor with this number, if there is one, is something else.
pub const INHERITED_FD: &str = "SINEW_SHM_FD";

/// Between two looks whether a listener has come, or has room.
const RETRY: Duration = Duration::from_millis(5);

/// Connects with the [default options](Options).
///
/// # Errors
///
/// As for [`Options::connect`].
///
/// # Cancel safety
///
/// As for [`Options::connect`].
pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Channel, Error> {
    Options::new().connect(endpoint).await
}

/// The end that this process inherited from the one that [spawned](Options::spawn) it.
///
/// # Errors
///
/// As for [`Options::inherited`].
///
/// # Cancel safety
///
/// As for [`Options::inherited`].
pub async fn inherited() -> Result<Channel, Error> {
    Options::new().inherited().await
}

impl Options {
    /// Connects to a listener at a path, or at an abstract name that begins with `@`.
    ///
    /// A listener with too many handshakes under way may turn a peer away. It is asked again, for
    /// as long as a handshake may take.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ECONNREFUSED` if nobody listens there (at once, or after
    /// [`wait_for_listener`](Self::wait_for_listener)), `EACCES` without permission, of kind
    /// [`Refused`](ErrorKind::Refused) if its policy says no, [`TimedOut`](ErrorKind::TimedOut) if it
    /// does not answer within [`handshake_timeout`](Self::handshake_timeout), `EBUSY` if it had no
    /// place for this peer all that time, [`Protocol`](ErrorKind::Protocol) if it is no Sinew
    /// channel.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it leaves no connection behind.
    pub async fn connect(&self, endpoint: impl Into<Endpoint>) -> Result<Channel, Error> {
        let endpoint = endpoint.into();
        self.layout()?;
        self.checked_threshold(self.capacity)?;
        let addr = endpoint.to_socket_addr("connect")?;
        let address: Arc<str> = format!("shm:{endpoint}").into();
        let begun = Instant::now();
        loop {
            let socket = self.connect_socket(&endpoint, &addr, begun).await?;
            match shake(self, socket, &address, Role::Connector).await {
                Err(error) if is_busy(&error) && begun.elapsed() < self.handshake_timeout => {
                    sleep(RETRY)?.await;
                }
                result => return result,
            }
        }
    }

    async fn connect_socket(
        &self,
        endpoint: &Endpoint,
        addr: &SocketAddrUnix,
        begun: Instant,
    ) -> Result<OwnedFd, Error> {
        loop {
            let socket = socket::new().map_err(|error| error.with_address(endpoint))?;
            let errno = match rustix::net::connect(&socket, addr) {
                Ok(()) => return Ok(socket),
                Err(errno) => errno,
            };
            let patience = match errno {
                Errno::INTR => Duration::ZERO,
                // Its backlog is full: it lives, and is busy.
                Errno::AGAIN => self.handshake_timeout,
                Errno::NOENT | Errno::CONNREFUSED => self.wait_for_listener.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            if errno != Errno::INTR && begun.elapsed() >= patience {
                return Err(refused(errno, endpoint, self.wait_for_listener));
            }
            sleep(RETRY)?.await;
        }
    }

    /// Starts a child process with its end of a new channel already in hand: there, call
    /// [`inherited`](crate::inherited()).
    ///
    /// Nothing has a name, so nobody else can connect, and nothing is left behind.
    ///
    /// # Errors
    ///
    /// Those of starting a process; of kind [`TimedOut`](ErrorKind::TimedOut) or
    /// [`Protocol`](ErrorKind::Protocol) if the child does not take its end within
    /// [`handshake_timeout`](Self::handshake_timeout), and is then killed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe in that nothing is leaked: dropped before it is ready, the child goes on, and finds
    /// the channel closed.
    pub async fn spawn(&self, mut command: Command) -> Result<(Channel, Child), Error> {
        self.layout()?;
        self.checked_threshold(self.capacity)?;
        let (ours, theirs) = socket::pair()?;
        command.env(INHERITED_FD, name_inherited(&theirs)?);
        let program = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        sys::inherit(command.as_std_mut(), theirs);
        let mut child = command
            .spawn()
            .map_err(|error| Error::from_io("spawn", error).with_address(&program))?;
        // With the command goes our copy of the child's end, so that its death is a hang-up.
        drop(command);
        let address: Arc<str> = format!("exec:{program}").into();
        match shake(self, ours, &address, Role::Parent(child.id())).await {
            Ok(channel) => Ok((channel, child)),
            Err(error) => {
                let _gone = child.start_kill();
                let _reaped = child.wait().await;
                Err(error)
            }
        }
    }

    /// The end that this process inherited from the one that [spawned](Self::spawn) it.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if it inherited none, or took it before;
    /// otherwise as for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the inherited end is taken once, and lost with the future.
    pub async fn inherited(&self) -> Result<Channel, Error> {
        let value = std::env::var(INHERITED_FD).ok();
        let socket = value.as_deref().and_then(parse_inherited);
        let socket = socket.and_then(|(fd, inode)| {
            take_inherited(fd, |fd| {
                fd.as_raw_fd() > 2 && socket::is_seqpacket(fd) && socket::inode(fd) == Ok(inode)
            })
            .ok()
        });
        let Some(socket) = socket else {
            let value = value.as_deref().unwrap_or("not set");
            return Err(Error::new(ErrorKind::InvalidInput, "inherited")
                .with_detail(format!("{INHERITED_FD}: {value}"))
                .with_reason(
                    "this process inherited no channel, or has taken it before, or has the variable from a \
                     process that did not pass the descriptor on",
                )
                .with_remedy("start it with Options::spawn, or use an address"));
        };
        self.connect_on(socket).await
    }

    /// Makes a channel over a connected Unix socket of type `SOCK_SEQPACKET`, whose other end calls
    /// [`accept_on`](Self::accept_on).
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the socket is lost with the future.
    pub async fn connect_on(&self, socket: OwnedFd) -> Result<Channel, Error> {
        self.on(socket, "connect", Role::Connector).await
    }

    /// Makes a channel over a connected Unix socket of type `SOCK_SEQPACKET`, whose other end calls
    /// [`connect_on`](Self::connect_on).
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the socket is lost with the future.
    pub async fn accept_on(&self, socket: OwnedFd) -> Result<Channel, Error> {
        self.on(socket, "accept", Role::Acceptor).await
    }

    async fn on(
        &self,
        socket: OwnedFd,
        operation: &'static str,
        role: Role,
    ) -> Result<Channel, Error> {
        self.layout()?;
        self.checked_threshold(self.capacity)?;
        if !socket::is_seqpacket(&socket) {
            return Err(Error::new(ErrorKind::InvalidInput, operation)
                .with_reason("the descriptor is no connected unix socket of type SOCK_SEQPACKET"));
        }
        shake(self, socket, &"shm:inherited".into(), role).await
    }
}

fn name_inherited(socket: &OwnedFd) -> Result<String, Error> {
    let inode = socket::inode(socket)
        .map_err(|errno| Error::from_raw_os_error("fstat", errno.raw_os_error()))?;
    Ok(format!("{}:{inode}", socket.as_raw_fd()))
}

fn parse_inherited(value: &str) -> Option<(RawFd, u64)> {
    let (fd, inode) = value.split_once(':')?;
    Some((fd.parse().ok()?, inode.parse().ok()?))
}

fn refused(errno: Errno, endpoint: &Endpoint, waited: Option<Duration>) -> Error {
    let error = Error::from_raw_os_error("connect", errno.raw_os_error()).with_address(endpoint);
    let error = match waited {
        Some(waited) if matches!(errno, Errno::NOENT | Errno::CONNREFUSED) => {
            error.with_detail(format!("waited {waited:?}"))
        }
        _ => error,
    };
    match errno {
        Errno::NOENT => error
            .with_reason("there is no such socket")
            .with_remedy("start the listener first, or wait for it"),
        Errno::CONNREFUSED => error
            .with_reason("nobody listens there")
            .with_remedy("start the listener first, or wait for it"),
        Errno::AGAIN => error
            .with_reason("the listener's backlog is full")
            .with_remedy("try again later; the listener accepts too slowly"),
        Errno::PROTOTYPE => error
            .with_reason("the socket there is not of type SOCK_SEQPACKET")
            .with_remedy("check the address: another kind of service listens there"),
        _ => error,
    }
}
