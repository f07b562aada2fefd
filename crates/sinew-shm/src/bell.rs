//! Doorbells: how a sleeping end is told that there is something to do.
//!
//! An end is woken through a descriptor that it polls. If that were an eventfd shared with the peer,
//! the sleeper could clear its `O_NONBLOCK` (which belongs to the open file that both share) and fill
//! its counter, so that the next ring would block the ringer for ever. So the ringer keeps the eventfd
//! for itself and gives the sleeper an epoll instance in which the eventfd is registered: it can be
//! polled, and nothing more. A ring is one `write` that cannot block, and nobody ever needs to read
//! the counter, because every write is an edge of its own.
//!
//! An epoll instance from a stranger could contain anything, even a file of a FUSE file system whose
//! server never answers a poll. Therefore it is only used between processes of the same user, who
//! could stop each other with a signal anyway. All others ring with a byte on the socket
//! (`MSG_DONTWAIT` cannot be taken off by anybody), which costs a few microseconds more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;
use sinew_core::Error;

use crate::socket;
use crate::wire::PACKET_BELL;

/// Which doorbell a channel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Doorbell {
    /// An eventfd behind an epoll instance if both processes run as the same user, else the socket.
    #[default]
    Auto,
    /// The socket, whoever the peer is.
    Socket,
}

const RING_TRIES: u32 = 1000;

/// What rings the peer.
#[derive(Debug)]
pub(crate) enum Bell {
    Eventfd(OwnedFd),
    Socket,
}

impl Bell {
    /// A bell of our own, and what the peer has to poll.
    pub(crate) fn eventfd() -> Result<(Self, OwnedFd), Error> {
        let error = |operation: &'static str| {
            move |errno: Errno| Error::from_raw_os_error(operation, errno.raw_os_error())
        };
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(error("eventfd"))?;
        let view = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(error("epoll_create1"))?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&view, &eventfd, epoll::EventData::new_u64(0), flags)
            .map_err(error("epoll_ctl"))?;
        Ok((Bell::Eventfd(eventfd), view))
    }

    pub(crate) fn ring(&self, socket: BorrowedFd<'_>) {
        match self {
            Bell::Eventfd(eventfd) => {
                // Cannot fail: it takes 2^64 rings to fill the counter.
                let _full = rustix::io::write(eventfd, &1u64.to_ne_bytes());
            }
            Bell::Socket => {
                for _ in 0..RING_TRIES {
                    match socket::send(socket, &[PACKET_BELL], &[]) {
                        // The kernel is out of memory just now; a ring that is not sent is a peer
                        // that sleeps on.
                        Err(Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => std::thread::yield_now(),
                        // A socket full of packets that the peer has not read wakes it as well, and a
                        // peer that is gone needs no wake-up.
                        Ok(()) | Err(_) => return,
                    }
                }
                tracing::error!("a ring was not sent for want of kernel memory");
            }
        }
    }
}

/// Whether a descriptor is an epoll instance.
///
/// Asked by taking `other` out of it, in which it cannot be: an epoll instance says `ENOENT`, anything
/// else `EINVAL`, and neither is polled for that.
pub(crate) fn is_epoll(view: impl AsFd, other: impl AsFd) -> bool {
    epoll::delete(view, other) == Err(Errno::NOENT)
}
