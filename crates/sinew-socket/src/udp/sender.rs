use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use sinew_core::{Error, ErrorKind, MessageSink, TrySendError};

use super::Message;
use super::receiver::is_icmp;
use crate::Outgoing;
use crate::failure;
use crate::link::{Link, SEND};
use crate::outlet::{self, Outlet};

/// Bytes of the longest datagram over IPv4.
const LONGEST: usize = 65_507;

/// The half of a [`Socket`](super::Socket) that sends: a `Sink` of [`Message`]s.
///
/// A datagram goes to its own address, or else to the peer that the socket is connected to. Each is one
/// system call. Where the send buffer is full, `send` waits and `try_send` hands the datagram back; the
/// sink takes one more, keeps it, and is not ready until that has gone.
///
/// Errors are about one datagram, and the next may be sent.
pub struct Sender {
    link: Arc<Link>,
    /// What the sink took, and the kernel did not yet.
    pending: Option<Message>,
    outlet: Outlet,
    closed: bool,
}

fn attempt(message: &impl Outgoing<SocketAddr>, fd: &OwnedFd) -> io::Result<()> {
    match message.address() {
        Some(address) => rustix::net::sendto(fd, message.payload(), SEND, address)?,
        None => rustix::net::send(fd, message.payload(), SEND)?,
    };
    Ok(())
}

impl Sender {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            pending: None,
            outlet: Outlet::new(),
            closed: false,
        }
    }

    /// Sends a datagram: bytes, or a [`Message`] with an address.
    ///
    /// It is done when the kernel has it. Whether it arrives, nobody says.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` above 65,507 bytes (65,527 over IPv6), `ENETUNREACH` if no route leads there, `EACCES`
    /// for a broadcast address without [`broadcast`](super::Options::broadcast); of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) without an address.
    /// [Recoverable](Error::is_recoverable): an ICMP answer to an earlier datagram, such as
    /// `ECONNREFUSED`; this one was not sent then either.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing.
    pub async fn send(&mut self, message: impl Outgoing<SocketAddr>) -> Result<(), Error> {
        self.check_open()?;
        poll_fn(|cx| {
            ready!(self.poll_pending(cx))?;
            self.poll_one(cx, &message)
        })
        .await
    }

    /// Sends a datagram if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The
    /// datagram is handed back.
    pub fn try_send<M: Outgoing<SocketAddr>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        if let Err(error) = self.check_open() {
            return Err(TrySendError::failed(message, error));
        }
        match self.try_pending() {
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

    /// Sends what the sink has kept.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_pending(cx)).await
    }

    /// Sends what the sink has kept, and sends nothing more. Receivers are not told: datagrams have no
    /// end.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.closed {
            true => Err(self
                .link
                .named(Error::new(ErrorKind::Closed, "send").with_reason("this end was closed"))),
            false => Ok(()),
        }
    }

    fn error(&self, error: io::Error, message: &impl Outgoing<SocketAddr>) -> Error {
        let len = message.payload().len();
        // Of one that is too long, the kernel says the same as of a path that is too narrow.
        let is_ours = len > LONGEST && error.raw_os_error() == Some(libc::EMSGSIZE);
        if is_icmp(&error) && !is_ours && message.address().is_none() {
            return super::receiver::refused("send", error, &self.link);
        }
        match message.address() {
            Some(address) => failure::of_packet(error, self.link.socket(), len, address),
            None => failure::of_packet(error, self.link.socket(), len, &self.link.address),
        }
    }

    fn poll_one(
        &mut self,
        cx: &mut Context<'_>,
        message: &impl Outgoing<SocketAddr>,
    ) -> Poll<Result<(), Error>> {
        let sent = ready!(
            self.outlet
                .poll(cx, self.link.fd.get_ref(), |fd| attempt(message, fd))
        );
        Poll::Ready(sent.map_err(|error| self.error(error, message)))
    }

    /// Sends what the sink kept. If it cannot be sent, it is dropped, and that is the error.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
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
    fn try_pending(&mut self) -> Result<bool, Error> {
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

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pending(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A child that was forked leaves that to its parent.
        if self.link.is_here() {
            let _blocked = self.try_pending();
        }
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        sender.check_open()?;
        sender.poll_pending(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let sender = self.get_mut();
        match sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) if sender.pending.is_none() => {
                sender.pending = Some(message);
                Ok(())
            }
            Err(error) => Err(error.error().cloned().unwrap_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "start_send")
                    .with_reason("there is no room, and poll_ready was not asked")
            })),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_closed(cx)
    }
}

impl MessageSink for Sender {
    type Native = Message;
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.link.address)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
