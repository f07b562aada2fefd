//! The handshake over a connected socket: glue around `wire`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use sinew_core::{AsyncIo, Credentials, Error, ErrorKind};
use sinew_memory::{RingFds, RingMemory};

use crate::bell::{self, Bell, Doorbell};
use crate::link::Parts;
use crate::options::Options;
use crate::wire::{
    self, FEATURE_EPOLL_BELL, FEATURE_MEMBARRIER, FEATURES, Hello, Offer, PACKET, Packet, Reason,
    VERSIONS, violation,
};
use crate::{membarrier, socket};

/// An end's part of the channel, before the other's is known.
struct Part {
    offer: Offer,
    memory: RingMemory,
    memory_fds: RingFds,
    bell: Bell,
    bell_view: Option<OwnedFd>,
}

impl Part {
    fn new(options: &Options, version: u16, features: u64) -> Result<Self, Error> {
        let (memory, memory_fds) = RingMemory::create(options.layout()?, options.memory)?;
        let (bell, bell_view) = if features & FEATURE_EPOLL_BELL != 0 {
            let (bell, view) = Bell::eventfd()?;
            (bell, Some(view))
        } else {
            (Bell::Socket, None)
        };
        let offer = Offer {
            version,
            features,
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
        fds: Vec<OwnedFd>,
        features: u64,
        options: &Options,
        socket: impl AsFd,
    ) -> Result<Self, Error> {
        wire::check_offer(&offer, features, options.max_capacity)?;
        let has_bell = offer.features & FEATURE_EPOLL_BELL != 0;
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
            bell,
        })
    }
}

/// What both ends know in the end.
pub(crate) struct Outcome {
    pub(crate) parts: Parts,
    /// The longest message that the peer receives.
    pub(crate) their_max_message: u64,
}

/// Whether a peer could harm us anyway, being able to signal and trace us.
fn features_for(peer: &Credentials, options: &Options) -> u64 {
    let us = rustix::process::geteuid().as_raw();
    let trusted = peer.uid == us || peer.uid == 0;
    offered(trusted && options.doorbell == Doorbell::Auto)
}

/// What this process can do, with a bell that is an epoll instance or without.
fn offered(epoll_bell: bool) -> u64 {
    let mut features = FEATURES;
    if !epoll_bell {
        features &= !FEATURE_EPOLL_BELL;
    }
    if !membarrier::register() {
        features &= !FEATURE_MEMBARRIER;
    }
    features
}

struct Wire {
    socket: AsyncIo<OwnedFd>,
}

impl Wire {
    async fn send(&self, packet: Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let bytes = packet.encode();
        self.socket
            .write_with(|socket| Ok(socket::send(socket.as_fd(), &bytes, fds)?))
            .await
            .map_err(|error| ended(Error::from_io("sendmsg", error)))
    }

    async fn recv(&self) -> Result<(Packet, Vec<OwnedFd>), Error> {
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
                bell: ours.bell,
                their_bell: theirs.bell,
                features: ours.offer.features,
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

/// The listening end's side.
pub(crate) async fn accept(
    socket: OwnedFd,
    options: &Options,
    admits: impl Fn(&Credentials) -> bool,
    address: Arc<str>,
) -> Result<Outcome, Error> {
    let peer = socket::peer_credentials(&socket)?;
    let wire = Wire {
        socket: AsyncIo::new(socket)?,
    };
    match accept_on(&wire, options, admits, &peer).await {
        Ok((ours, theirs)) => Ok(wire.finish(ours, theirs, peer, address)),
        Err((reason, error)) => {
            // The peer may be gone, or not read: its loss.
            let packet = Packet::Reject(reason).encode();
            let _unread = socket::send(wire.socket.as_fd(), &packet, &[]);
            Err(error.with_address(&address))
        }
    }
}

async fn accept_on(
    wire: &Wire,
    options: &Options,
    admits: impl Fn(&Credentials) -> bool,
    peer: &Credentials,
) -> Result<(Part, Theirs), (Reason, Error)> {
    let protocol = |error| (Reason::Protocol, error);
    let (packet, fds) = wire.recv().await.map_err(protocol)?;
    let Packet::Hello(hello) = packet else {
        return Err(protocol(violation("the first packet is not a hello")));
    };
    if !fds.is_empty() {
        return Err(protocol(violation("descriptors with a hello")));
    }
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
    if !admits(peer) {
        let error = Error::new(ErrorKind::Refused, "accept").with_reason(format!(
            "the policy does not admit pid {}, uid {}, gid {}",
            peer.pid, peer.uid, peer.gid
        ));
        return Err((Reason::Policy, error));
    }
    let features = hello.features & features_for(peer, options);
    let ours = Part::new(options, version, features).map_err(|e| (Reason::Resources, e))?;
    wire.send(Packet::Accept(ours.offer), &ours.fds())
        .await
        .map_err(protocol)?;
    let (packet, fds) = wire.recv().await.map_err(protocol)?;
    let Packet::Ready(offer) = packet else {
        return Err(protocol(violation(
            "the answer to an accept is not a ready",
        )));
    };
    if offer.features != features || offer.version != version {
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
    socket: OwnedFd,
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
    let (ours, theirs) = connect_on(&wire, options, &peer)
        .await
        .map_err(|error| error.with_address(&address))?;
    Ok(wire.finish(ours, theirs, peer, address))
}

async fn connect_on(
    wire: &Wire,
    options: &Options,
    peer: &Credentials,
) -> Result<(Part, Theirs), Error> {
    let features = features_for(peer, options);
    let hello = Hello {
        least_version: *VERSIONS.start(),
        most_version: *VERSIONS.end(),
        features,
    };
    wire.send(Packet::Hello(hello), &[]).await?;
    let (packet, fds) = wire.recv().await?;
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
    let ours = Part::new(options, offer.version, offer.features)?;
    wire.send(Packet::Ready(ours.offer), &ours.fds()).await?;
    // Without this, a message could be sent, and the channel closed, to a listener that never took it.
    let (packet, fds) = wire.recv().await?;
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
    let features = offered(options.doorbell == Doorbell::Auto);
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
            socket,
            ours: part.memory,
            theirs: view,
            bell: part.bell,
            their_bell: bell_view,
            features,
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
