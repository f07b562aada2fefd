//! Packets in and out: what seqpacket and datagram sockets share.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::Shutdown;
use sinew_core::{Credentials, Error, ErrorKind, TrySendError, UnixEndpoint};

use super::message::Message;
use crate::Outgoing;
use crate::backoff::Backoff;
use crate::buffer::Buffer;
use crate::failure;
use crate::link::{Link, MAX_FDS, poll_once, send_once};
use crate::sys::{self, Control, Name, Received};

/// How often to look whether a full socket that this one is not connected to has room: nothing tells.
const RETRY: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(8));

/// What a receiver is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intake {
    pub(crate) max_message: usize,
    pub(crate) max_fds: usize,
    pub(crate) credentials: bool,
    /// A connection, which has an end. Its socket has `SO_PASSCRED` on.
    pub(crate) connected: bool,
}

/// The receiving half of a packet socket.
pub(crate) struct Inbox {
    pub(crate) link: Arc<Link>,
    intake: Intake,
    store: Store,
    /// The sender of the last datagram, as the kernel wrote it and as messages share it.
    sender: (Vec<u8>, Option<Arc<UnixEndpoint>>),
    /// The peer closed without having read all that it was sent.
    reset: Option<Error>,
}

/// What a packet is received into.
struct Store {
    buffer: Buffer,
    control: Control,
    name: Option<Name>,
    fds: Vec<OwnedFd>,
}

impl Store {
    fn take(&mut self, fd: &OwnedFd) -> io::Result<Received> {
        let limit = self.buffer.limit();
        sys::receive_packet(
            fd.as_fd(),
            self.buffer.room(),
            limit,
            &mut self.control,
            self.name.as_mut(),
            &mut self.fds,
        )
    }

    fn discard(&mut self) {
        self.fds.clear();
        self.buffer.discard();
    }
}

impl Inbox {
    pub(crate) fn new(link: Arc<Link>, intake: Intake) -> Self {
        Self {
            link,
            store: Store {
                buffer: Buffer::new(intake.max_message),
                control: Control::new(intake.max_fds),
                name: (!intake.connected).then(Name::new),
                fds: Vec::new(),
            },
            intake,
            sender: (Vec::new(), None),
            reset: None,
        }
    }

    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, Error>> {
        loop {
            let store = &mut self.store;
            let received = ready!(self.link.fd.poll_read_with(cx, |fd| store.take(fd)));
            if let Some(done) = self.finish(received) {
                return Poll::Ready(done);
            }
        }
    }

    /// `None` if there is nothing now.
    pub(crate) fn try_recv(&mut self) -> Option<Result<Option<Message>, Error>> {
        loop {
            let store = &mut self.store;
            match self.link.fd.try_read_with(|fd| store.take(fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                received => {
                    if let Some(done) = self.finish(received) {
                        return Some(done);
                    }
                }
            }
        }
    }

    /// `None` to go on.
    fn finish(&mut self, received: io::Result<Received>) -> Option<Result<Option<Message>, Error>> {
        match received {
            Ok(received) => Some(self.message(&received)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNRESET) => {
                let error = self.link.named(failure::of_connection("recv", error));
                if !self.intake.connected {
                    return Some(Err(error.with_lost(1)));
                }
                // What the peer sent us before is still to be had.
                self.reset = Some(error);
                None
            }
            Err(error) => Some(Err(self.link.named(failure::of_connection("recv", error)))),
        }
    }

    fn message(&mut self, received: &Received) -> Result<Option<Message>, Error> {
        // Every packet of a socket with SO_PASSCRED has credentials beside it, and the end has not.
        if self.intake.connected && received.len == 0 && received.credentials.is_none() {
            return match &self.reset {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            };
        }
        if let Some(error) = loss(
            &self.store.fds,
            received.control_truncated,
            self.intake.max_fds,
        ) {
            self.store.discard();
            return Err(self.link.named(error));
        }
        let limit = self.store.buffer.limit();
        if received.len > limit {
            self.store.discard();
            return Err(self.link.named(too_long(received.len, limit)));
        }
        let payload = match received.len {
            0 => Bytes::new(),
            _ => self.store.buffer.take(),
        };
        let fds = match self.store.fds.is_empty() {
            true => Vec::new(),
            false => std::mem::take(&mut self.store.fds),
        };
        let credentials = received.credentials.filter(|_| self.intake.credentials);
        let address = self.address();
        Ok(Some(Message::received(payload, fds, credentials, address)))
    }

    fn address(&mut self) -> Option<Arc<UnixEndpoint>> {
        let name = self.store.name.as_ref()?;
        if name.bytes() != self.sender.0 {
            self.sender = (name.bytes().to_vec(), name.endpoint().map(Arc::new));
        }
        self.sender.1.clone()
    }
}

/// The error of a packet that is longer than this end takes.
pub(crate) fn too_long(len: usize, limit: usize) -> Error {
    Error::new(ErrorKind::Lost, "recv")
        .with_lost(1)
        .with_reason(format!(
            "a message of {len} bytes was cut off, and dropped: max-message is {limit}"
        ))
        .with_remedy("raise max-message")
}

/// The error of a message with more descriptors than this end takes.
pub(crate) fn too_many_fds(max_fds: usize) -> Error {
    Error::new(ErrorKind::Lost, "recv")
        .with_lost(1)
        .with_reason(format!(
            "a message with more descriptors than max_fds, which is {max_fds}, was dropped and they were closed"
        ))
        .with_remedy("raise max_fds, or have the peer send fewer")
}

/// Whether descriptors of a message were lost, or are not allowed.
pub(crate) fn loss(fds: &[OwnedFd], truncated: bool, max_fds: usize) -> Option<Error> {
    if fds.len() > max_fds || (truncated && fds.len() >= max_fds) {
        return Some(too_many_fds(max_fds));
    }
    truncated.then(|| {
        Error::new(ErrorKind::Lost, "recv")
            .with_lost(1)
            .with_reason(format!(
                "a message was dropped: this process had numbers for {} of its descriptors only, which were closed",
                fds.len()
            ))
            .with_remedy("raise RLIMIT_NOFILE (ulimit -n) or close some descriptors")
    })
}

/// Too many descriptors for one message.
pub(crate) fn check_fds(fds: &[OwnedFd]) -> Result<(), Error> {
    if fds.len() <= MAX_FDS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "send")
        .with_detail(format!("{} descriptors", fds.len()))
        .with_reason(format!("one message carries at most {MAX_FDS}"))
        .with_remedy("send the rest with another message"))
}

fn attempt(message: &impl Outgoing<UnixEndpoint>, fd: &OwnedFd) -> io::Result<()> {
    let address = match message.address() {
        Some(endpoint) => Some(endpoint.to_socket_addr("send")?),
        None => None,
    };
    let slices = [IoSlice::new(message.payload())];
    send_once(fd.as_fd(), &slices, message.fds(), address.as_ref()).map(drop)
}

/// The sending half of a packet socket.
pub(crate) struct Outbox {
    pub(crate) link: Arc<Link>,
    /// What the sink took, and the kernel did not yet.
    pending: Option<Message>,
    backoff: Backoff,
    pub(crate) closed: bool,
}

impl Outbox {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            pending: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            closed: false,
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match self.closed {
            true => Err(self
                .link
                .named(Error::new(ErrorKind::Closed, "send").with_reason("this end was closed"))),
            false => Ok(()),
        }
    }

    fn error(&self, error: io::Error, message: &impl Outgoing<UnixEndpoint>) -> Error {
        let len = message.payload().len();
        match message.address() {
            Some(address) => failure::of_packet(error, self.link.socket(), len, address),
            None => failure::of_packet(error, self.link.socket(), len, &self.link.address),
        }
    }

    /// After what the sink kept.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &impl Outgoing<UnixEndpoint>,
    ) -> Poll<Result<(), Error>> {
        self.check_open()?;
        ready!(self.poll_pending(cx))?;
        check_fds(message.fds()).map_err(|error| self.link.named(error))?;
        self.poll_one(cx, message)
    }

    fn poll_one(
        &mut self,
        cx: &mut Context<'_>,
        message: &impl Outgoing<UnixEndpoint>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let mut sent = self.link.fd.poll_write_with(cx, |fd| attempt(message, fd));
            if sent.is_pending() && message.address().is_some() {
                // The kernel wakes those that wait for their own buffer, or for the socket that they are
                // connected to.
                if self.backoff.is_waiting() {
                    ready!(self.backoff.poll_over(cx));
                    match self.link.fd.try_write_with(|fd| attempt(message, fd)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.backoff.failed();
                            continue;
                        }
                        result => sent = Poll::Ready(result),
                    }
                } else {
                    self.backoff.failed();
                    continue;
                }
            }
            let sent = ready!(sent);
            self.backoff.succeeded();
            return Poll::Ready(sent.map_err(|error| self.error(error, message)));
        }
    }

    /// Sends what the sink kept. If it cannot be sent, it is dropped, and that is the error.
    pub(crate) fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(message) = self.pending.take() else {
            return Poll::Ready(Ok(()));
        };
        let sent = self.poll_one(cx, &message);
        if sent.is_pending() {
            self.pending = Some(message);
        }
        sent
    }

    pub(crate) fn try_send<M: Outgoing<UnixEndpoint>>(
        &mut self,
        message: M,
    ) -> Result<(), TrySendError<M>> {
        let before = self
            .check_open()
            .and_then(|()| match self.pending.is_some() {
                true => match poll_once(|cx| self.poll_pending(cx)) {
                    None => Ok(false),
                    Some(sent) => sent.map(|()| true),
                },
                false => Ok(true),
            })
            .and_then(|is_free| {
                check_fds(message.fds()).map_err(|error| self.link.named(error))?;
                Ok(is_free)
            });
        match before {
            Ok(true) => {}
            Ok(false) => return Err(TrySendError::Full(message)),
            Err(error) => return Err(TrySendError::closed(message, error)),
        }
        match self.link.fd.try_write_with(|fd| attempt(&message, fd)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(TrySendError::Full(message))
            }
            Err(error) => {
                let error = self.error(error, &message);
                Err(TrySendError::closed(message, error))
            }
        }
    }

    /// The sink's: sends at once where there is room, and keeps it where there is none.
    pub(crate) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => {
                if self.pending.is_some() {
                    return Err(self.link.named(
                        Error::new(ErrorKind::InvalidInput, "start_send")
                            .with_reason("there is no room, and poll_ready was not asked"),
                    ));
                }
                self.pending = Some(message);
                Ok(())
            }
            Err(error) => Err(error
                .error()
                .cloned()
                .unwrap_or_else(|| Error::new(ErrorKind::Closed, "send"))),
        }
    }

    /// Sends what the sink kept, and ends this direction.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_pending(cx))?;
        self.end()
            .map_err(|error| self.link.named(Error::from_io("shutdown", error)))?;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> io::Result<()> {
        self.closed = true;
        self.link.shutdown(Shutdown::Write)
    }

    /// One try for what the sink kept, and the end of this direction: dropping cannot wait.
    pub(crate) fn drop_now(&mut self) {
        if !self.closed {
            let _blocked = poll_once(|cx| self.poll_pending(cx));
            let _gone = self.end();
        }
    }
}

/// Who is at the other end of a connection.
pub(crate) fn peer(socket: &OwnedFd) -> Result<Credentials, Error> {
    sys::peer_credentials(socket.as_fd())
        .map_err(|error| Error::from_io("getsockopt(SO_PEERCRED)", error))
}
