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
use super::unread;
use crate::Outgoing;
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::failure;
use crate::link::{Link, MAX_FDS, send_once};
use crate::outlet::{self, Outlet};
use crate::sys::{self, Name, Slot};

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

type Item = Result<Option<Message>, Error>;

/// The receiving half of a packet socket.
pub(crate) struct Inbox {
    pub(crate) link: Arc<Link>,
    batch: Batch<Item>,
    reader: Reader,
    /// The peer closed without having read all that it was sent.
    reset: Option<Error>,
}

/// What makes messages of packets.
struct Reader {
    intake: Intake,
    /// The sender of the last datagram, as the kernel wrote it and as messages share it.
    sender: (Vec<u8>, Option<Arc<UnixEndpoint>>),
}

impl Inbox {
    pub(crate) fn new(link: Arc<Link>, intake: Intake) -> Self {
        Self {
            link,
            batch: Batch::new(intake.max_message, Some(intake.max_fds), !intake.connected),
            reader: Reader {
                intake,
                sender: (Vec::new(), None),
            },
            reset: None,
        }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        loop {
            let Self {
                link,
                batch,
                reader,
                ..
            } = self;
            let item = ready!(batch.poll(cx, &link.fd, |slot| reader.message(slot)));
            if let Some(done) = self.finish(item) {
                return Poll::Ready(done);
            }
        }
    }

    /// `None` if there is nothing now.
    pub(crate) fn try_recv(&mut self) -> Option<Item> {
        loop {
            let Self {
                link,
                batch,
                reader,
                ..
            } = self;
            match batch.try_next(&link.fd, |slot| reader.message(slot)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                item => {
                    if let Some(done) = self.finish(item) {
                        return Some(done);
                    }
                }
            }
        }
    }

    /// `None` to go on.
    fn finish(&mut self, item: io::Result<Item>) -> Option<Item> {
        match item {
            Ok(Ok(None)) => Some(match &self.reset {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            }),
            Ok(Err(error)) => Some(Err(self.link.named(error))),
            Ok(message) => Some(message),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNRESET) => {
                let error = self.link.failed("recv", error);
                if !self.reader.intake.connected {
                    return Some(Err(error.with_lost(1)));
                }
                // What the peer sent us before is still to be had.
                self.reset = Some(error);
                None
            }
            Err(error) => Some(Err(self.link.failed("recv", error))),
        }
    }
}

impl Reader {
    fn message(&mut self, slot: &mut Slot) -> Item {
        let received = &slot.received;
        // Every packet of a socket with SO_PASSCRED has credentials beside it, and the end has not.
        if self.intake.connected && received.len == 0 && received.credentials.is_none() {
            return Ok(None);
        }
        let max_fds = self.intake.max_fds;
        let lost = loss(&slot.fds, received.control_truncated, max_fds);
        let limit = slot.buffer.limit();
        let lost = lost.or_else(|| (received.len > limit).then(|| too_long(received.len, limit)));
        if let Some(error) = lost {
            slot.fds.clear();
            return Err(error);
        }
        let payload = match received.len {
            0 => Bytes::new(),
            _ => slot.buffer.take(),
        };
        let fds = match slot.fds.is_empty() {
            true => Vec::new(),
            false => std::mem::take(&mut slot.fds),
        };
        let credentials = received.credentials.filter(|_| self.intake.credentials);
        let address = slot.name.as_ref().and_then(|name| self.address(name));
        Ok(Some(Message::received(payload, fds, credentials, address)))
    }

    fn address(&mut self, name: &Name) -> Option<Arc<UnixEndpoint>> {
        if name.unix() != self.sender.0 {
            self.sender = (name.unix().to_vec(), name.endpoint().map(Arc::new));
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
    outlet: Outlet,
    backoff: Backoff,
    pub(crate) closed: bool,
}

impl Outbox {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            pending: None,
            outlet: Outlet::new(),
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
            let socket = self.link.fd.get_ref();
            let mut sent = self.outlet.poll(cx, socket, |fd| attempt(message, fd));
            if sent.is_pending() && message.address().is_some() {
                // The kernel wakes those that wait for their own buffer, or for the socket that they are
                // connected to.
                if self.backoff.is_waiting() {
                    ready!(self.backoff.poll_over(cx));
                    match outlet::now(socket, |fd| attempt(message, fd)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.backoff.failed()?;
                            continue;
                        }
                        result => sent = Poll::Ready(result),
                    }
                } else {
                    self.backoff.failed()?;
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

    /// Sends what the sink kept, if there is room now. False if there is none.
    pub(crate) fn try_pending(&mut self) -> Result<bool, Error> {
        let Some(message) = self.pending.take() else {
            return Ok(true);
        };
        match outlet::now(self.link.fd.get_ref(), |fd| attempt(&message, fd)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending = Some(message);
                Ok(false)
            }
            Err(error) => Err(self.error(error, &message)),
        }
    }

    pub(crate) fn try_send<M: Outgoing<UnixEndpoint>>(
        &mut self,
        message: M,
    ) -> Result<(), TrySendError<M>> {
        let before = self
            .check_open()
            .and_then(|()| self.try_pending())
            .and_then(|is_free| {
                check_fds(message.fds()).map_err(|error| self.link.named(error))?;
                Ok(is_free)
            });
        match before {
            Ok(true) => {}
            Ok(false) => return Err(TrySendError::Full(message)),
            Err(error) => return Err(TrySendError::failed(message, error)),
        }
        match outlet::now(self.link.fd.get_ref(), |fd| attempt(&message, fd)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(TrySendError::Full(message))
            }
            Err(error) => {
                let error = self.error(error, &message);
                Err(TrySendError::failed(message, error))
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

    /// Sends what the sink kept, and ends this direction; once the peer has read everything, if
    /// `is_alone`.
    pub(crate) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        is_alone: bool,
    ) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_pending(cx))?;
        if is_alone {
            ready!(unread::poll_read(&mut self.outlet, cx, &self.link))?;
        }
        self.end()
            .map_err(|error| self.link.named(Error::from_io("shutdown", error)))?;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> io::Result<()> {
        self.closed = true;
        self.link.shutdown(Shutdown::Write)
    }

    /// One try for what the sink kept: dropping cannot wait.
    pub(crate) fn send_now(&mut self) {
        if !self.closed {
            let _blocked = self.try_pending();
        }
    }

    /// Ends this direction.
    pub(crate) fn end_now(&mut self) {
        if !self.closed {
            let _gone = self.end();
        }
    }
}

/// Who is at the other end of a connection.
pub(crate) fn peer(socket: &OwnedFd) -> Result<Credentials, Error> {
    sys::peer_credentials(socket.as_fd())
        .map_err(|error| Error::from_io("getsockopt(SO_PEERCRED)", error))
}
