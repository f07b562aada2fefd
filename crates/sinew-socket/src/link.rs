//! A connected socket, which its two halves share.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sockopt};
use sinew_core::{AsyncIo, Error, Home};
use tokio::io::{AsyncWrite, Interest};
use tokio::task::coop;

use crate::failure;
use crate::outlet::{self, Outlet};
use crate::unix::{refusal, unread};

/// Never blocks, whatever others do to the open file, and never a signal.
pub(crate) const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The most descriptors in one message: `SCM_MAX_FD` of unix(7).
pub(crate) const MAX_FDS: usize = 253;

#[derive(Debug)]
pub(crate) struct Link {
    /// Waited for to read; those who write have an [`Outlet`].
    pub(crate) fd: AsyncIo<OwnedFd>,
    pub(crate) address: Arc<str>,
    /// Whether the kernel has said, which it does once, that the connection was reset.
    reset: AtomicBool,
    /// The process that has the connection.
    home: Home,
}

impl Link {
    pub(crate) fn new(fd: OwnedFd, address: impl Into<Arc<str>>) -> Result<Arc<Self>, Error> {
        let address = address.into();
        Ok(Arc::new(Self {
            fd: AsyncIo::with_interest(fd, Interest::READABLE)
                .map_err(|error| error.with_address(&address))?,
            address,
            reset: AtomicBool::new(false),
            home: Home::here(),
        }))
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// The error of a system call on this connection.
    pub(crate) fn failed(&self, operation: &'static str, error: io::Error) -> Error {
        if Errno::from_io_error(&error) == Some(Errno::CONNRESET) {
            self.reset.store(true, Ordering::Relaxed);
        }
        let errno = Errno::from_io_error(&error);
        let ends = [Errno::CONNRESET, Errno::PIPE, Errno::CONNREFUSED];
        if errno.is_some_and(|errno| ends.contains(&errno)) && refusal::was_told(self.socket()) {
            return self.named(refusal::error(operation));
        }
        self.named(failure::of_connection(operation, error))
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether this is the process that has the connection, and not a child that was forked since.
    pub(crate) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    /// Ends one direction. A peer that is gone has done so already.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match rustix::net::shutdown(self.socket(), how) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn named(&self, error: Error) -> Error {
        match error.address() {
            Some(_) => error,
            None => error.with_address(&self.address),
        }
    }
}

/// Sends once, with descriptors where there are some.
pub(crate) fn send_once(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[OwnedFd],
    address: Option<&rustix::net::SocketAddrUnix>,
) -> io::Result<usize> {
    if let ([bytes], [], None) = (slices, fds, address) {
        return Ok(rustix::net::send(socket, bytes, SEND)?);
    }
    if let ([bytes], [], Some(address)) = (slices, fds, address) {
        return Ok(rustix::net::sendto(socket, bytes, SEND, address)?);
    }
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::MSGSIZE.into());
    }
    Ok(match address {
        Some(address) => rustix::net::sendmsg_addr(socket, address, slices, &mut control, SEND)?,
        None => rustix::net::sendmsg(socket, slices, &mut control, SEND)?,
    })
}

/// The writing half of a stream.
#[derive(Debug)]
pub(crate) struct WriteIo {
    pub(crate) link: Arc<Link>,
    /// To go with the first of the next bytes.
    pub(crate) attached: Vec<OwnedFd>,
    /// Do not wait.
    pub(crate) at_once: bool,
    outlet: Outlet,
}

impl WriteIo {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            attached: Vec::new(),
            at_once: false,
            outlet: Outlet::new(),
        }
    }

    /// Ready once the peer, of a Unix socket, has read everything.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        unread::poll_read(&mut self.outlet, cx, &self.link)
    }

    /// Makes the buffer of what is sent larger, where the system allows it, so that there is room
    /// at once.
    pub(crate) fn enlarge(&self) {
        let socket = self.link.socket();
        let size = sockopt::socket_send_buffer_size(socket).unwrap_or(0);
        let _as_before = sockopt::set_socket_send_buffer_size(socket, size);
    }

    /// Sends the beginning of a message that never ends, so that a peer that frames by length takes
    /// the end that follows for a crash. Everything else must have been sent. True if the kernel
    /// took it.
    pub(crate) fn cut_off(&self) -> bool {
        let begin = || rustix::net::send(self.link.socket(), &[0], SEND).is_ok();
        begin() || {
            self.enlarge();
            begin()
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self {
            link,
            attached,
            outlet,
            ..
        } = self;
        let send = |fd: &OwnedFd| send_once(fd.as_fd(), slices, attached, None);
        let sent = if self.at_once {
            match outlet::now(link.fd.get_ref(), send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                sent => Poll::Ready(sent),
            }
        } else {
            outlet.poll(cx, link.fd.get_ref(), send)
        };
        sent.map(|sent| match sent {
            Ok(count) => {
                if count > 0 {
                    attached.clear();
                }
                Ok(count)
            }
            Err(error) => Err(link.failed("send", error).into()),
        })
    }
}

impl AsyncWrite for WriteIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &self.link;
        Poll::Ready(
            link.shutdown(Shutdown::Write)
                .map_err(|error| link.named(Error::from_io("shutdown", error)).into()),
        )
    }
}

/// Polls once, outside of any task: for what is tried and not waited for.
pub(crate) fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let future = pin!(coop::unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// As [`once`], for a poll method.
pub(crate) fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    once(poll_fn(|cx| poll(cx)))
}
