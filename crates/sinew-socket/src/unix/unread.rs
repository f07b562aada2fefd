//! Waiting until the peer has read what was sent to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use sinew_core::Error;

use crate::link::{Link, SEND};
use crate::outlet::Outlet;
use crate::sys;

/// What the kernel counts for each message is more than this: its own bookkeeping is part of it.
/// Fewer bytes are those of a message that it has handed over and is about to free.
const LEAST: i32 = 256;

/// Ready once the peer's process has read everything that was sent through `link`, or has gone.
///
/// This end must not have ended its direction yet: after that, nothing tells whether the peer still
/// receives. The kernel reports room (`EPOLLOUT`) each time that the peer has read something, so
/// that nothing is asked in vain.
pub(crate) fn poll_read(
    outlet: &mut Outlet,
    cx: &mut Context<'_>,
    link: &Link,
) -> Poll<Result<(), Error>> {
    let looked = outlet.poll(cx, link.fd.get_ref(), |socket| look(socket, link));
    looked.map_err(|error| link.failed("close", error))
}

fn look(socket: &OwnedFd, link: &Link) -> io::Result<()> {
    let unread = sys::unsent(socket.as_fd())?;
    // The kernel notes a reset before it drops what was unread. So the count is asked for first.
    if link.was_reset() || sockopt::socket_error(socket)? == Err(Errno::CONNRESET) {
        return Err(Errno::CONNRESET.into());
    }
    if unread < LEAST {
        return Ok(());
    }
    match is_refused(socket)? {
        true => Err(Errno::PIPE.into()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Whether the peer has said that it receives no more. Packets can only tell that it has ended both
/// directions.
fn is_refused(socket: &OwnedFd) -> io::Result<bool> {
    if sockopt::socket_type(socket)? == SocketType::STREAM {
        return match rustix::net::send(socket, &[], SEND) {
            Ok(_) => Ok(false),
            Err(Errno::PIPE) => Ok(true),
            Err(errno) => Err(errno.into()),
        };
    }
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    rustix::event::poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}
