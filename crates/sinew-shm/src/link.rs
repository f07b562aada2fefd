//! What the two halves of one end share: the memories, the socket, the bells.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use rustix::event::epoll;
use rustix::io::Errno;
use sinew_core::{AsyncIo, Credentials, Error, ErrorKind, Home};
use sinew_memory::{Frozen, RingMemory, Segment};
use tokio::io::Interest;

use crate::bell::Bell;
use crate::mappings::Mappings;
use crate::membarrier;
use crate::socket::{self, Socket};
use crate::sys::Foreign;
use crate::wire::{
    Features, MAX_MEMORY_IN_FLIGHT, MAX_SEGMENTS, PACKET_BELL, PACKET_MEMORY, PACKET_SEGMENT,
};

/// Packets that are read in a row. A peer that keeps to the rules never has more under way.
const PACKETS_AT_ONCE: usize = 4 * (MAX_MEMORY_IN_FLIGHT + MAX_SEGMENTS);

/// The halves of an end, as things that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Sender,
    Receiver,
}

impl Half {
    fn other(self) -> Self {
        match self {
            Half::Sender => Half::Receiver,
            Half::Receiver => Half::Sender,
        }
    }
}

/// Wakes both halves, since neither the bell nor the socket says which of them is meant.
#[derive(Debug, Default)]
struct Wakers {
    sender: Listening,
    receiver: Listening,
}

/// How a half hears of events.
#[derive(Debug, Default)]
struct Listening {
    /// Set with every event until this half has looked, so that one that never parks looks at the
    /// socket too. Each half has its own: what one has seen, the other still has to.
    event: AtomicBool,
    waker: AtomicWaker,
}

impl Listening {
    fn wake(&self) {
        self.event.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

impl Wakers {
    fn of(&self, half: Half) -> &Listening {
        match half {
            Half::Sender => &self.sender,
            Half::Receiver => &self.receiver,
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sender.wake();
        self.receiver.wake();
    }
}

/// What came over the socket and was not yet asked for.
#[derive(Debug, Default)]
struct Inbox {
    memory: VecDeque<Foreign>,
    segments: VecDeque<Foreign>,
    hung_up: bool,
    /// Why nothing more can be read, if it is not the end.
    broken: Option<Error>,
}

fn violation(reason: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, "recv").with_reason(reason)
}

/// The two descriptors that an end polls, registered with a Tokio runtime.
#[derive(Debug)]
struct Reactor {
    socket: AsyncIo<Arc<Socket>>,
    bell: Option<AsyncIo<Arc<OwnedFd>>>,
}

/// What the handshake hands over.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) socket: Arc<Socket>,
    pub(crate) ours: RingMemory,
    pub(crate) theirs: RingMemory,
    /// Those of both ends.
    pub(crate) features: Features,
    pub(crate) bell: Bell,
    pub(crate) their_bell: Option<OwnedFd>,
    pub(crate) peer: Credentials,
    pub(crate) address: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ours: RingMemory,
    pub(crate) theirs: RingMemory,
    pub(crate) features: Features,
    socket: Arc<Socket>,
    bell: Bell,
    their_bell: Option<Arc<OwnedFd>>,
    reactor: OnceLock<Reactor>,
    registering: Mutex<()>,
    wakers: Arc<Wakers>,
    waker: Waker,
    inbox: Mutex<Inbox>,
    mappings: Mappings,
    pub(crate) peer: Credentials,
    pub(crate) address: Arc<str>,
    /// The process that has this end.
    home: Home,
    /// For as long as this end lives; what happens to the channel is an event in it.
    pub(crate) span: tracing::Span,
}

impl Link {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let span = tracing::debug_span!(
            "channel",
            address = &*parts.address,
            peer = parts.peer.pid,
            uid = parts.peer.uid
        );
        tracing::debug!(parent: &span, "open");
        let wakers = Arc::new(Wakers::default());
        // Each half has to look once, to be registered.
        wakers.sender.wake();
        wakers.receiver.wake();
        Arc::new(Self {
            ours: parts.ours,
            theirs: parts.theirs,
            features: parts.features,
            socket: parts.socket,
            bell: parts.bell,
            their_bell: parts.their_bell.map(Arc::new),
            reactor: OnceLock::new(),
            registering: Mutex::new(()),
            waker: wakers.clone().into(),
            wakers,
            inbox: Mutex::default(),
            mappings: Mappings::default(),
            peer: parts.peer,
            address: parts.address,
            home: Home::here(),
            span,
        })
    }

    /// Whether this is the process that made the channel, and not a child that was forked since.
    pub(crate) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    /// Executes the barrier that a sender owes to the receiver before it sleeps.
    pub(crate) fn barrier(&self) -> Result<(), Error> {
        if !self.features.membarrier() {
            return Ok(());
        }
        membarrier::execute().map_err(|errno| {
            let error = Error::from_raw_os_error("membarrier", errno.raw_os_error())
                .with_reason("it was allowed when the channel was made, and is not any more")
                .with_remedy(
                    "allow membarrier(2) in the sandbox, or enter it before the channel is made",
                );
            self.error(error)
        })
    }

    #[inline]
    pub(crate) fn ring(&self) {
        self.bell.ring(self.socket.as_fd());
    }

    /// Whether something happened on the socket or the bell since this half last looked. Clears it.
    #[inline]
    pub(crate) fn take_event(&self, half: Half) -> bool {
        self.has_event(half) && self.wakers.of(half).event.swap(false, Ordering::Relaxed)
    }

    /// Whether `take_event` would say yes.
    #[inline]
    pub(crate) fn has_event(&self, half: Half) -> bool {
        self.wakers.of(half).event.load(Ordering::Relaxed)
    }

    /// Has the next `take_event` of this half say yes.
    pub(crate) fn expect_event(&self, half: Half) {
        self.wakers.of(half).event.store(true, Ordering::Relaxed);
    }

    /// Has `waker` woken at the next event, from now on.
    pub(crate) fn register(&self, half: Half, waker: &Waker) {
        self.wakers.of(half).waker.register(waker);
    }

    /// Takes in all that has happened on the bell and the socket, and has both halves woken at the
    /// next event.
    ///
    /// A ring that is swallowed here is one whose reason the caller sees, if it looks afterwards.
    pub(crate) fn poll_events(&self, half: Half) -> Result<(), Error> {
        let reactor = self.reactor()?;
        let mut cx = Context::from_waker(&self.waker);
        if let Some(bell) = &reactor.bell {
            // The bell has nothing to read: every ring is an edge of its own.
            let never = bell.poll_read_with(&mut cx, |_| {
                Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
            });
            if let Poll::Ready(Err(error)) = never {
                return Err(self.error(Error::from_io("epoll_wait", error)));
            }
        }
        let inbox = &mut *self.inbox();
        if inbox.hung_up {
            return Ok(());
        }
        match reactor
            .socket
            .poll_read_with(&mut cx, |_| self.drain(half, inbox))
        {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(self.error(Error::from_io("recvmsg", error))),
        }
    }

    /// Reads the socket empty; `Ok` at its end, or where a peer sends faster than is read.
    fn drain(&self, half: Half, inbox: &mut Inbox) -> std::io::Result<()> {
        for _ in 0..PACKETS_AT_ONCE {
            if inbox.hung_up || !self.read_packet(half, inbox)? {
                return Ok(());
            }
        }
        // Others have their turn, then there is more to read.
        self.wakers.of(half).wake();
        Ok(())
    }

    /// Reads one packet. False at the end, or where the peer broke the rules.
    fn read_packet(&self, half: Half, inbox: &mut Inbox) -> Result<bool, Errno> {
        let mut buffer = [0; 8];
        let mut packet = socket::recv(self.socket.as_fd(), &mut buffer)?;
        let ended = packet.len == 0;
        match (buffer[0], packet.len, packet.fds.len()) {
            (_, 0, _) => {}
            _ if packet.exhausted => {
                let errno = Errno::MFILE.raw_os_error();
                inbox.broken = Some(Error::from_raw_os_error("recvmsg", errno));
            }
            _ if packet.truncated => {
                inbox.broken = Some(violation("an overlong packet on the socket"))
            }
            (PACKET_BELL, 1, 0) => {}
            (PACKET_MEMORY, 1, 1) if inbox.memory.len() < MAX_MEMORY_IN_FLIGHT => {
                inbox.memory.extend(packet.fds.pop());
            }
            (PACKET_SEGMENT, 1, 1) if inbox.segments.len() < MAX_SEGMENTS => {
                inbox.segments.extend(packet.fds.pop());
            }
            (PACKET_MEMORY | PACKET_SEGMENT, 1, 1) => {
                inbox.broken = Some(violation("more memory on the socket than allowed"));
            }
            _ => inbox.broken = Some(violation("an unknown packet on the socket")),
        }
        // The other half may wait for what this packet says, and it will not be said again.
        let other = self.wakers.of(half.other());
        if ended || inbox.broken.is_some() {
            inbox.hung_up = true;
            other.wake();
        } else {
            other.waker.wake();
        }
        Ok(!inbox.hung_up)
    }

    /// Takes in what has come over the socket, without a runtime.
    pub(crate) fn drain_now(&self, half: Half) -> Result<(), Error> {
        match self.drain(half, &mut self.inbox()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.error(Error::from_io("recvmsg", error))),
        }
    }

    /// The memory that the oldest descriptor frame announces. The peer sends it before it publishes
    /// the frame, so it is here or never.
    pub(crate) fn take_memory(&self, len: usize) -> Result<Bytes, Error> {
        let fd = self.take_fd(|inbox| &mut inbox.memory)?;
        Frozen::check(fd.as_fd(), len)
            .and_then(|()| Frozen::from_fd(fd.into_inner(), len))
            .and_then(|memory| self.mappings.open(&memory))
            .map_err(|error| self.error(error))
    }

    /// The segment, of `most` bytes at most, that the oldest frame is the first to name. The peer
    /// sends it before it publishes that frame.
    pub(crate) fn take_segment(&self, most: usize) -> Result<Segment, Error> {
        let fd = self.take_fd(|inbox| &mut inbox.segments)?;
        Segment::open(fd.as_fd(), most).map_err(|error| self.error(error))
    }

    fn take_fd(
        &self,
        queue: impl Fn(&mut Inbox) -> &mut VecDeque<Foreign>,
    ) -> Result<Foreign, Error> {
        let inbox = &mut *self.inbox();
        while queue(inbox).is_empty() && !inbox.hung_up {
            match self.read_packet(Half::Receiver, inbox) {
                Ok(_) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => {
                    return Err(
                        self.error(Error::from_raw_os_error("recvmsg", errno.raw_os_error()))
                    );
                }
            }
        }
        queue(inbox).pop_front().ok_or_else(|| {
            let missing = || violation("a message was announced whose memory was not sent");
            self.error(inbox.broken.clone().unwrap_or_else(missing))
        })
    }

    /// Sends a descriptor with this packet: once the socket takes it, or, without a context,
    /// pending if it does not now.
    pub(crate) fn poll_send_fd(
        &self,
        cx: Option<&mut Context<'_>>,
        packet: u8,
        fd: BorrowedFd<'_>,
    ) -> Poll<Result<(), Error>> {
        let send = || socket::send(self.socket.as_fd(), &[packet], &[fd]);
        let sent = match cx {
            Some(cx) => self
                .reactor()?
                .socket
                .poll_write_with(cx, |_| Ok(send()?))
                .map_err(|error| Error::from_io("sendmsg", error)),
            None => match send() {
                Err(Errno::AGAIN) => Poll::Pending,
                sent => Poll::Ready(
                    sent.map_err(|errno| Error::from_raw_os_error("sendmsg", errno.raw_os_error())),
                ),
            },
        };
        sent.map_err(|error| self.error(error))
    }

    /// Ready once the socket has room.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let reactor = self.reactor()?;
        let asked = reactor.socket.poll_write_with(cx, |_| {
            match socket::is_writable(self.socket.as_fd())? {
                true => Ok(()),
                false => Err(std::io::ErrorKind::WouldBlock.into()),
            }
        });
        asked.map_err(|error| self.error(Error::from_io("poll", error)))
    }

    /// Whether the peer's end of the socket is closed, by it or by its death.
    pub(crate) fn hung_up(&self) -> bool {
        self.inbox().hung_up
    }

    /// What the peer did on the socket that it must not, or what keeps us from reading it.
    pub(crate) fn broken(&self) -> Option<Error> {
        self.inbox().broken.clone().map(|error| self.error(error))
    }

    pub(crate) fn error(&self, error: Error) -> Error {
        error.with_address(&self.address)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing in the critical sections panics half-way through a change.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reactor(&self) -> Result<&Reactor, Error> {
        if let Some(reactor) = self.reactor.get() {
            return Ok(reactor);
        }
        let _one = self
            .registering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reactor) = self.reactor.get() {
            return Ok(reactor);
        }
        let bell = match &self.their_bell {
            Some(view) => Some(AsyncIo::with_interest(view.clone(), Interest::READABLE)?),
            None => None,
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = AsyncIo::with_interest(self.socket.clone(), both)?;
        Ok(self.reactor.get_or_init(|| Reactor { socket, bell }))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        tracing::debug!(parent: &self.span, "closed");
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How a thread waits, as one half of an end: on an epoll instance of its own.
#[derive(Debug)]
pub(crate) struct Parker {
    epoll: OwnedFd,
    waker: Waker,
}

/// Wakes a parked thread when another half of its end has read what it may be waiting for.
#[derive(Debug)]
struct Nudge(OwnedFd);

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _counter_is_full = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Parker {
    pub(crate) fn new(link: &Link) -> Result<Self, Error> {
        let error = |operation: &'static str| {
            move |errno: Errno| Error::from_raw_os_error(operation, errno.raw_os_error())
        };
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let nudge = rustix::event::eventfd(0, flags).map_err(error("eventfd"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(error("epoll_create1"))?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let add = |fd: BorrowedFd<'_>, flags| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), flags).map_err(error("epoll_ctl"))
        };
        add(nudge.as_fd(), edge)?;
        add(link.as_fd(), edge | epoll::EventFlags::OUT)?;
        if let Some(bell) = &link.their_bell {
            add(bell.as_fd(), edge)?;
        }
        Ok(Self {
            epoll,
            waker: Arc::new(Nudge(nudge)).into(),
        })
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Sleeps until something happens. False when `deadline` has passed.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        let timeout = match deadline {
            None => None,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                Some(timespec(left))
            }
        };
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 4];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(Error::from_raw_os_error("epoll_wait", errno.raw_os_error())),
        }
    }
}

fn timespec(duration: Duration) -> rustix::event::Timespec {
    // Longer than a month is cut to a month; the caller looks at its deadline again.
    let duration = duration.min(Duration::from_secs(30 * 24 * 3600));
    rustix::event::Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
