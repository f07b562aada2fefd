use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use rustix::io::Errno;
use rustix::net::sockopt;
use sinew_core::{Error, TryRecvError};

use super::Message;
use crate::batch::Batch;
use crate::link::Link;
use crate::sys::{Name, Slot};
use crate::unix::too_long;

/// Waits for an error that comes without data.
type Alarm = Pin<Box<dyn Future<Output = io::Error> + Send>>;

/// The half of a [`Socket`](super::Socket) that receives: a `Stream` of [`Message`]s without an end.
///
/// Where several datagrams wait, up to eight are received with one system call. Those that nobody has asked
/// for are dropped with the receiver.
///
/// A payload shares the memory of the block that it was received into, with others: copy small ones that
/// are kept for long.
///
/// An error that [`is_recoverable`](Error::is_recoverable) is about one datagram, and the stream goes on;
/// after another error it ends, and `recv` repeats the error.
pub struct Receiver {
    link: Arc<Link>,
    batch: Batch<Result<Message, Error>>,
    /// An ICMP answer raises an error alone, of which those that wait to read do not hear. Only connected
    /// sockets get one.
    alarm: Option<Alarm>,
    is_connected: bool,
    failed: Option<Error>,
    yielded: bool,
}

/// Errors that are an answer to an earlier datagram: ip(7), *Error handling*.
pub(super) fn is_icmp(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNREFUSED
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::PROTO
                | Errno::CONNRESET
                | Errno::OPNOTSUPP
                | Errno::ACCESS
                | Errno::MSGSIZE
        )
    )
}

pub(super) fn refused(operation: &'static str, error: io::Error, link: &Link) -> Error {
    let error = Error::from_io(operation, error).with_lost(1);
    let error = match error.errno().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => error
            .with_reason("a datagram was lost: nobody has that port")
            .with_remedy("start the receiver first"),
        Some(Errno::MSGSIZE) => error
            .with_reason("a datagram was lost: a link on the way takes shorter ones only")
            .with_remedy("send less in one message"),
        _ => error,
    };
    link.named(error)
}

impl Receiver {
    pub(super) fn new(link: Arc<Link>, max_message: usize, is_connected: bool) -> Self {
        Self {
            link,
            batch: Batch::new(max_message, None, true),
            alarm: None,
            is_connected,
            failed: None,
            yielded: false,
        }
    }

    /// Receives the next datagram.
    ///
    /// # Errors
    ///
    /// [Recoverable](Error::is_recoverable): for a datagram that is longer than
    /// [`max_message`](super::Options::max_message), and for an ICMP answer to one that was sent, such
    /// as `ECONNREFUSED`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a datagram is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a datagram if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let received = self.batch.try_next(&self.link.fd, message);
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(TryRecvError::Empty),
            received => Ok(self.finish(received)?),
        }
    }

    pub(super) fn connected(&mut self) {
        self.is_connected = true;
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let received = self.batch.poll(cx, &self.link.fd, message);
        if received.is_pending() && self.is_connected {
            let error = ready!(self.poll_alarm(cx));
            return Poll::Ready(self.finish(Err(error)));
        }
        let received = ready!(received);
        Poll::Ready(self.finish(received))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let alarm = self.alarm.get_or_insert_with(|| {
            let link = self.link.clone();
            Box::pin(async move {
                let taken = link.fd.error_with(|fd| match sockopt::socket_error(fd)? {
                    Ok(()) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(errno) => Ok(io::Error::from(errno)),
                });
                taken.await.unwrap_or_else(|error| error)
            })
        });
        let error = ready!(alarm.as_mut().poll(cx));
        self.alarm = None;
        Poll::Ready(error)
    }

    fn finish(&mut self, received: io::Result<Result<Message, Error>>) -> Result<Message, Error> {
        match received {
            Ok(message) => message.map_err(|error| self.link.named(error)),
            Err(error) if is_icmp(&error) => Err(refused("recv", error, &self.link)),
            Err(error) => {
                let error = self.link.named(Error::from_io("recv", error));
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

fn message(slot: &mut Slot) -> Result<Message, Error> {
    let (len, limit) = (slot.received.len, slot.buffer.limit());
    if len > limit {
        return Err(too_long(len, limit));
    }
    let message = Message::new(match len {
        0 => Bytes::new(),
        _ => slot.buffer.take(),
    });
    Ok(match slot.name.as_ref().and_then(Name::inet) {
        Some(address) => message.with_address(address),
        None => message,
    })
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.yielded {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx));
        receiver.yielded = receiver.failed.is_some();
        Poll::Ready(Some(item))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.link.address)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
