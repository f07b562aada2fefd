//! The handshake over a connected socket: glue around `wire`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use sinew_core::time::timeout;
use sinew_core::{AsyncIo, Credentials, Error, ErrorKind};
use sinew_memory::{RingFds, RingMemory};

use crate::admission::is_equal;
use crate::bell::{self, Bell, Doorbell};
use crate::link::Parts;
use crate::membarrier;
use crate::options::Options;
use crate::socket::{self, Socket};
use crate::sys::Foreign;
use crate::wire::{
    self, Features, Hello, Offer, PACKET, Packet, Reason, Terms, VERSIONS, violation,
};

/// An end's part of the channel, before the other's is known.
struct Part {
    offer: Offer,
    memory: RingMemory,
    memory_fds: RingFds,
    bell: Bell,
    bell_view: Option<OwnedFd>,
}

impl Part {
    fn new(options: &Options, version: u16, features: Features) -> Result<Self, Error> {
        let (memory, memory_fds) = RingMemory::create(options.layout()?, options.memory)?;
        let (bell, bell_view) = if features.epoll_bell() {
            let (bell, view) = Bell::eventfd()?;
            (bell, Some(view))
        } else {
            (Bell::Socket, None)
        };
        let offer = Offer {
            version,
            terms: Terms::new(features),
            layout: memory.layout(),
            max_message: options.max_message,
        };
        Ok(Self {
            offer,
            memory,
            memory_fds,
            bell,
            bell_view,
        })
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        [&self.memory_fds.control, &self.memory_fds.data]
            .into_iter()
            .chain(&self.bell_view)
            .map(AsFd::as_fd)
            .collect()
    }
}

/// What the other end sent of its part.
struct Theirs {
    offer: Offer,
    memory: RingMemory,
    bell: Option<OwnedFd>,
}

impl Theirs {
    fn open(
        offer: Offer,
        fds: Vec<Foreign>,
        features: Features,
        options: &Options,
        socket: impl AsFd,
    ) -> Result<Self, Error> {
        wire::check_offer(&offer, features, options.max_capacity)?;
        let has_bell = offer.terms.features.epoll_bell();
        let expected = 2 + usize::from(has_bell);
        let found = fds.len();
        let mut fds = fds.into_iter();
        let (Some(control), Some(data), bell, None) = (
            fds.next(),
            fds.next(),
            if has_bell { fds.next() } else { None },
            fds.next(),
        ) else {
            return Err(violation(format!("{found} descriptors, not {expected}")));
        };
        if bell.is_some() != has_bell {
            return Err(violation(format!("{found} descriptors, not {expected}")));
        }
        if bell
            .as_ref()
            .is_some_and(|bell| !bell::is_epoll(bell, socket))
        {
            return Err(violation("the doorbell is not an epoll instance"));
        }
        let prefault = options.memory.prefault;
        let memory = RingMemory::open(control.as_fd(), data.as_fd(), offer.layout, prefault)?;
        Ok(Self {
            offer,
            memory,
            bell: bell.map(Foreign::into_inner),
        })
    }
}

/// What both ends know in the end.
pub(crate) struct Outcome {
    pub(crate) parts: Parts,
    /// The longest message that the peer receives.
    pub(crate) their_max_message: u64,
}

/// What this end offers to a peer.
fn features_for(is_equal: bool, options: &Options) -> Features {
    let mut features = Features::EXPRESS.union(Features::SEGMENTS);
    if membarrier::register() {
        features = features.union(Features::MEMBARRIER);
    }
    // An epoll instance of a stranger could block for ever.
    if is_equal && options.doorbell == Doorbell::Auto {
        features = features.union(Features::EPOLL_BELL);
    }
    features
}

struct Wire {
    socket: AsyncIo<Arc<Socket>>,
}

impl Wire {
    async fn send(&self, packet: Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let bytes = packet.encode();
        self.socket
            .write_with(|socket| Ok(socket::send(socket.as_fd(), &bytes, fds)?))
            .await
            .map_err(|error| ended(Error::from_io("sendmsg", error)))
    }

    /// Sends a packet and receives the answer.
    ///
    /// A peer that has hung up before it got the packet may have said why.
    async fn ask(
        &self,
        packet: Packet,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Packet, Vec<Foreign>), Error> {
        match self.send(packet, fds).await {
            Err(error) if error.errno() == Some(Errno::PIPE.raw_os_error()) => {
                self.recv().await.map_err(|_| error)
            }
            Err(error) => Err(error),
            Ok(()) => self.recv().await,
        }
    }

    async fn recv(&self) -> Result<(Packet, Vec<Foreign>), Error> {
        let mut buffer = [0; PACKET + 1];
        let packet = self
            .socket
            .read_with(|socket| Ok(socket::recv(socket.as_fd(), &mut buffer)?))
            .await
            .map_err(|error| Error::from_io("recvmsg", error))?;
        if packet.len == 0 {
            return Err(ended(Error::new(
                ErrorKind::Closed,
                "shared-memory handshake",
            )));
        }
        if packet.exhausted {
            return Err(Error::from_raw_os_error(
                "recvmsg",
                Errno::MFILE.raw_os_error(),
            ));
        }
        if packet.truncated {
            return Err(violation(
                "a packet with more bytes or descriptors than any has",
            ));
        }
        Ok((Packet::decode(&buffer[..packet.len])?, packet.fds))
    }

    fn finish(self, ours: Part, theirs: Theirs, peer: Credentials, address: Arc<str>) -> Outcome {
        Outcome {
            their_max_message: theirs.offer.max_message,
            parts: Parts {
                socket: self.socket.into_inner(),
                ours: ours.memory,
                theirs: theirs.memory,
                features: theirs.offer.terms.features,
                bell: ours.bell,
                their_bell: theirs.bell,
                peer,
                address,
            },
        }
    }
}

fn ended(error: Error) -> Error {
    error
        .with_reason("the peer closed the connection during the handshake")
        .with_remedy("see what it says; a listener may be shutting down, or be no Sinew channel")
}

/// Tells a peer why it gets no channel. It may be gone, or not read: its loss.
pub(crate) fn reject(socket: &Socket, reason: Reason) {
    let packet = Packet::Reject(reason).encode();
    let _unread = socket::send(socket.as_fd(), &packet, &[]);
}

/// The error that a listener counts for a peer that its policy does not admit.
pub(crate) fn not_admitted(peer: &Credentials) -> Error {
    Error::new(ErrorKind::Refused, "accept").with_reason(format!(
        "the policy does not admit pid {}, uid {}, gid {}",
        peer.pid, peer.uid, peer.gid
    ))
}

/// How far a handshake is, for those who decide about its place.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) has_spoken: AtomicBool,
}

/// The listening end's side, with a peer that is admitted.
pub(crate) async fn accept(
    socket: Arc<Socket>,
    peer: Credentials,
    options: &Options,
    hello_timeout: Duration,
    progress: &Progress,
    address: Arc<str>,
) -> Result<Outcome, (Reason, Error)> {
    let wire = Wire {
        socket: AsyncIo::new(socket).map_err(resources)?,
    };
    let hello = async {
        let hello = timeout(hello_timeout, hello_on(&wire)).await;
        let hello = hello.map_err(resources)?;
        let hello = hello.unwrap_or_else(|| Err((Reason::Busy, late(hello_timeout))))?;
        progress.has_spoken.store(true, Ordering::Relaxed);
        accept_on(&wire, options, &peer, hello).await
    };
    let done = timeout(options.handshake_timeout, hello).await;
    let done = done.map_err(resources)?;
    match done.unwrap_or_else(|| Err((Reason::Busy, unfinished("accept", options)))) {
        Ok((ours, theirs)) => Ok(wire.finish(ours, theirs, peer, address)),
        Err((reason, error)) => {
            reject(wire.socket.get_ref(), reason);
            Err((reason, error.with_address(&address)))
        }
    }
}

fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, "accept")
        .with_reason(format!("the peer sent no hello within {timeout:?}"))
        .with_remedy("see whether its process hangs, or raise hello_timeout")
}

fn unfinished(operation: &'static str, options: &Options) -> Error {
    Error::new(ErrorKind::TimedOut, operation)
        .with_reason(format!(
            "the peer did not finish the handshake within {:?}",
            options.handshake_timeout
        ))
        .with_remedy("see whether its process hangs, or raise handshake_timeout")
}

fn resources(error: Error) -> (Reason, Error) {
    (Reason::Resources, error)
}

fn protocol(error: Error) -> (Reason, Error) {
    (Reason::Protocol, error)
}

async fn hello_on(wire: &Wire) -> Result<Hello, (Reason, Error)> {
    // They stay in the socket's queue, which is closed where nothing waits for it.
    let has_fds = wire
        .socket
        .read_with(|socket| Ok(socket::has_fds(socket.as_fd())?))
        .await
        .map_err(|error| protocol(Error::from_io("recvmsg", error)))?;
    if has_fds {
        return Err(protocol(violation("descriptors with a hello")));
    }
    match wire.recv().await.map_err(protocol)? {
        (Packet::Hello(hello), fds) if fds.is_empty() => Ok(hello),
        _ => Err(protocol(violation("the first packet is not a hello"))),
    }
}

async fn accept_on(
    wire: &Wire,
    options: &Options,
    peer: &Credentials,
    hello: Hello,
) -> Result<(Part, Theirs), (Reason, Error)> {
    let Some(version) = wire::common_version(&hello) else {
        let error = violation(format!(
            "the peer speaks versions {} to {}, we {} to {}",
            hello.least_version,
            hello.most_version,
            VERSIONS.start(),
            VERSIONS.end()
        ));
        return Err((Reason::Version, error.with_kind(ErrorKind::Unsupported)));
    };
    let offered = features_for(is_equal(peer), options);
    hello.terms.check(offered)?;
    let features = hello.terms.features.common(offered);
    let ours = Part::new(options, version, features).map_err(resources)?;
    // Their ready brings some.
    socket::pass_fds(wire.socket.as_fd(), true);
    let (packet, fds) = wire
        .ask(Packet::Accept(ours.offer), &ours.fds())
        .await
        .map_err(protocol)?;
    let Packet::Ready(offer) = packet else {
        return Err(protocol(violation(
            "the answer to an accept is not a ready",
        )));
    };
    if offer.terms.features != features || offer.version != version {
        return Err(protocol(violation(
            "the peer changed its mind about what was agreed",
        )));
    }
    let theirs = Theirs::open(offer, fds, features, options, &wire.socket).map_err(protocol)?;
    wire.send(Packet::Open, &[]).await.map_err(protocol)?;
    Ok((ours, theirs))
}

/// The connecting end's side.
pub(crate) async fn connect(
    socket: Arc<Socket>,
    options: &Options,
    admits: impl Fn(&Credentials) -> bool,
    address: Arc<str>,
) -> Result<Outcome, Error> {
    let peer = socket::peer_credentials(&socket)?;
    if !admits(&peer) {
        return Err(Error::new(ErrorKind::Refused, "connect")
            .with_address(&address)
            .with_reason(format!(
                "the policy does not admit the listener: pid {}, uid {}, gid {}",
                peer.pid, peer.uid, peer.gid
            )));
    }
    let wire = Wire {
        socket: AsyncIo::new(socket)?,
    };
    let work = connect_on(&wire, options, &peer);
    let (ours, theirs) = timeout(options.handshake_timeout, work)
        .await
        .and_then(|done| done.unwrap_or_else(|| Err(unfinished("connect", options))))
        .map_err(|error| error.with_address(&address))?;
    Ok(wire.finish(ours, theirs, peer, address))
}

async fn connect_on(
    wire: &Wire,
    options: &Options,
    peer: &Credentials,
) -> Result<(Part, Theirs), Error> {
    let features = features_for(is_equal(peer), options);
    let hello = Hello {
        least_version: *VERSIONS.start(),
        most_version: *VERSIONS.end(),
        terms: Terms::new(features),
    };
    let (packet, fds) = wire.ask(Packet::Hello(hello), &[]).await?;
    let offer = match packet {
        Packet::Accept(offer) => offer,
        Packet::Reject(reason) => return Err(wire::rejection(reason)),
        Packet::Hello(_) | Packet::Ready(_) | Packet::Open => {
            return Err(violation(
                "the answer to a hello is neither an accept nor a reject",
            ));
        }
    };
    let theirs = Theirs::open(offer, fds, features, options, &wire.socket)?;
    let ours = Part::new(options, offer.version, offer.terms.features)?;
    // Without an open, a message could be sent, and the channel closed, to a listener that never
    // took it.
    let (packet, fds) = wire.ask(Packet::Ready(ours.offer), &ours.fds()).await?;
    match packet {
        Packet::Open if fds.is_empty() => Ok((ours, theirs)),
        Packet::Reject(reason) => Err(wire::rejection(reason)),
        _ => Err(violation(
            "the answer to a ready is neither an open nor a reject",
        )),
    }
}

/// Both ends within this process.
pub(crate) fn pair(options: &Options) -> Result<[Outcome; 2], Error> {
    let (a, b) = socket::pair()?;
    let features = features_for(true, options);
    let version = *VERSIONS.end();
    let (ours, theirs) = (
        Part::new(options, version, features)?,
        Part::new(options, version, features)?,
    );
    let open = |part: &Part| {
        RingMemory::open(
            part.memory_fds.control.as_fd(),
            part.memory_fds.data.as_fd(),
            part.offer.layout,
            options.memory.prefault,
        )
    };
    let (our_view, their_view) = (open(&ours)?, open(&theirs)?);
    let us = Credentials::new(
        std::process::id(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let address: Arc<str> = "shm:pair".into();
    let outcome = |socket, part: Part, view, bell_view| Outcome {
        their_max_message: options.max_message,
        parts: Parts {
            socket: Arc::new(Socket::new(socket)),
            ours: part.memory,
            theirs: view,
            features,
            bell: part.bell,
            their_bell: bell_view,
            peer: us,
            address: address.clone(),
        },
    };
    let (mut ours, mut theirs) = (ours, theirs);
    let (our_bell, their_bell) = (ours.bell_view.take(), theirs.bell_view.take());
    Ok([
        outcome(a, ours, their_view, their_bell),
        outcome(b, theirs, our_view, our_bell),
    ])
}
