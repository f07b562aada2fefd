use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::task::coop;

use crate::sys::{self, Registered};
use crate::{AdaptiveSpin, Error, Looks, StableFd};

/// A descriptor that Tokio waits for, with any system call as the operation.
///
/// Every adapter of Sinew that has a descriptor stands on this type: it is the one place where the rules
/// of edge-triggered epoll are kept.
///
/// - A readiness is forgotten only when the operation says [`WouldBlock`](io::ErrorKind::WouldBlock). A
///   short read proves nothing: on a packet pipe, a datagram socket or a message queue, the next
///   message may be waiting already.
/// - An operation that a signal interrupted is repeated.
/// - Each operation takes part in Tokio's cooperative budget, so a descriptor that is always ready
///   cannot starve the other tasks of its worker.
///
/// The descriptor must be in non-blocking mode, or the operation must not block for another reason
/// (`MSG_DONTWAIT`). This type does not set `O_NONBLOCK`, because it belongs to the open file
/// description, which other processes may share.
///
/// # Children
///
/// A child that is forked (fork(2)) may drop its copy: that closes the child's descriptor, and
/// leaves the registration to the parent.
///
/// # Descriptors that come back
///
/// Tokio keeps a hang-up forever. Where a hang-up is not final, as on a FIFO that gets a new writer, take
/// the descriptor [out](Self::into_inner) and register it anew after it; until then, waiting on it does
/// not hang, but comes back again and again.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use sinew_core::AsyncIo;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let ours = AsyncIo::new(ours)?;
///
/// theirs.write_all(b"ping")?;
/// let mut buffer = [0; 16];
/// let n = ours.read_with(|mut socket| socket.read(&mut buffer)).await?;
/// assert_eq!(&buffer[..n], b"ping");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncIo<T: AsFd> {
    fd: AsyncFd<Registered<T>>,
}

impl<T: StableFd> AsyncIo<T> {
    /// Registers a descriptor for reading and writing.
    ///
    /// # Errors
    ///
    /// Outside a Tokio runtime; of kind [`Unsupported`](crate::ErrorKind::Unsupported) for what epoll
    /// refuses (`EPERM`: regular files and directories), and in a runtime that was built without
    /// [`enable_io`](tokio::runtime::Builder::enable_io); and where the limits of epoll(7) are
    /// reached. The descriptor is closed then.
    pub fn new(inner: T) -> Result<Self, Error> {
        Self::with_interest(inner, Interest::READABLE | Interest::WRITABLE)
    }

    /// Registers a descriptor for what it is used for alone.
    ///
    /// This saves wake-ups where the other direction changes often, such as an eventfd that is only
    /// read. Waiting for what was not registered does not end.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_interest(inner: T, interest: Interest) -> Result<Self, Error> {
        sys::register_stable(inner, interest)
    }
}

impl<T: AsFd> AsyncIo<T> {
    pub(crate) fn from_registered(fd: AsyncFd<Registered<T>>) -> Self {
        Self { fd }
    }

    /// What was registered.
    #[inline]
    pub fn get_ref(&self) -> &T {
        &self.fd.get_ref().0
    }

    /// Removes the registration, and gives back what was registered.
    pub fn into_inner(self) -> T {
        self.fd.into_inner().0
    }

    /// Performs `operation` once the descriptor is readable.
    ///
    /// `operation` is called when the descriptor may be readable, and again after each
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); it must not block. Several tasks may wait at once.
    ///
    /// # Errors
    ///
    /// Those of `operation`, and one without an errno if the runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: `operation` runs only in the poll that completes the future or in one that it ended
    /// with `WouldBlock`, so what it read is always returned.
    pub async fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        // Some errors that a read would report, such as those of a UDP socket, raise EPOLLERR alone.
        self.perform(
            Interest::READABLE | Interest::ERROR,
            Ready::is_read_closed,
            operation,
        )
        .await
    }

    /// Performs `operation` once the descriptor is writable.
    ///
    /// See [`read_with`](Self::read_with).
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Self::read_with).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: `operation` runs only in the poll that completes the future or in one that it ended
    /// with `WouldBlock`, so what it wrote is always reported.
    pub async fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.perform(Interest::WRITABLE, Ready::is_write_closed, operation)
            .await
    }

    /// Performs `operation` once the descriptor has an error to report.
    ///
    /// The kernel raises `EPOLLERR` for what arrived without data, such as an ICMP answer to a UDP
    /// socket. `operation` is to take it (`SO_ERROR`), or to say
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if somebody else has; it takes nothing from those that
    /// wait to read or to write.
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Self::read_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`read_with`](Self::read_with).
    pub async fn error_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.perform(Interest::ERROR, |_| false, operation).await
    }

    /// Polls `operation` for when the descriptor is readable.
    ///
    /// Only the task that polled last is woken; where several wait, use [`read_with`](Self::read_with).
    /// An error of the descriptor that comes without data (`EPOLLERR` alone, as after an ICMP answer to a
    /// UDP socket) wakes `read_with` and not this.
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Self::read_with).
    #[inline]
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_read_spinning(cx, &mut AdaptiveSpin::never(), |fd| {
            Ok((operation(fd)?, false))
        })
    }

    /// Polls `operation` for when the descriptor is writable.
    ///
    /// Only the task that polled last is woken; where several wait, use
    /// [`write_with`](Self::write_with).
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Self::read_with).
    #[inline(always)]
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match uninterrupted(|| operation(self.get_ref())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let closed = guard.ready().is_write_closed();
                    guard.clear_ready();
                    if closed {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// As [`poll_read_with`](Self::poll_read_with), for one receiver: before it waits, `operation` is tried again
    /// for a moment, as `spin` says.
    ///
    /// `operation` also says whether it *drained* the descriptor. It did if it read something, but less than it asked
    /// for, and there was no other reason for that than that there is no more. The readiness is forgotten then, which
    /// saves the system call that would only say [`WouldBlock`](io::ErrorKind::WouldBlock). On anything that has
    /// messages, a short read proves nothing.
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Self::read_with).
    #[inline(always)]
    pub fn poll_read_spinning<R>(
        &self,
        cx: &mut Context<'_>,
        spin: &mut AdaptiveSpin,
        mut operation: impl FnMut(&T) -> io::Result<(R, bool)>,
    ) -> Poll<io::Result<R>> {
        loop {
            let mut guard = match self.fd.poll_read_ready(cx) {
                Poll::Ready(guard) => Some(guard?),
                Poll::Pending if !coop::has_budget_remaining() => return Poll::Pending,
                // The runtime has not heard of anything, and wakes this task when it does.
                Poll::Pending if !ready!(spin.poll_again(cx, Looks::RECEIVE)) => {
                    return Poll::Pending;
                }
                Poll::Pending => None,
            };
            match uninterrupted(|| operation(self.get_ref())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(guard) = &mut guard {
                        let closed = guard.ready().is_read_closed();
                        guard.clear_ready();
                        if closed {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                    }
                }
                result => {
                    spin.succeed();
                    if guard.is_none()
                        && let Poll::Ready(turn) = coop::poll_proceed(cx)
                    {
                        // The runtime, which has heard of nothing, has counted nothing.
                        turn.made_progress();
                    }
                    return Poll::Ready(result.map(|(result, drained)| {
                        if let (true, Some(guard)) = (drained, &mut guard) {
                            guard.clear_ready();
                        }
                        result
                    }));
                }
            }
        }
    }

    /// Performs `operation` now, or says [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// Unlike [`AsyncFd::try_io`], it asks the kernel even if the runtime has not yet heard that the
    /// descriptor is readable, so it finds what is there. An edge is never lost by it.
    ///
    /// # Errors
    ///
    /// Those of `operation`.
    pub fn try_read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.attempt(Interest::READABLE, operation)
    }

    /// Performs `operation` now, or says [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// See [`try_read_with`](Self::try_read_with).
    ///
    /// # Errors
    ///
    /// Those of `operation`.
    pub fn try_write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.attempt(Interest::WRITABLE, operation)
    }

    async fn perform<R>(
        &self,
        interest: Interest,
        is_closed: fn(Ready) -> bool,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let mut guard = self.fd.ready(interest).await?;
            // Tokio counts readiness against the budget in its poll methods only. The budget is spent
            // even if the operation would block: a loop of stale readiness must yield too.
            poll_fn(|cx| coop::poll_proceed(cx).map(|budget| budget.made_progress())).await;
            match uninterrupted(|| operation(self.get_ref())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let closed = is_closed(guard.ready());
                    guard.clear_ready();
                    if closed {
                        tokio::task::yield_now().await;
                    }
                }
                result => return result,
            }
        }
    }

    fn attempt<R>(
        &self,
        interest: Interest,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut asked = false;
        let result = self.fd.try_io(interest, |registered| {
            asked = true;
            uninterrupted(|| operation(&registered.0))
        });
        if asked {
            return result;
        }
        // The runtime holds no readiness that a WouldBlock could prove stale.
        uninterrupted(|| operation(self.get_ref()))
    }
}

impl<T: AsFd> AsFd for AsyncIo<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

#[inline]
fn uninterrupted<R>(mut operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
