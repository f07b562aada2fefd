//! Packets and descriptors over a Unix SOCK_SEQPACKET socket, without waiting.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use sinew_core::{Credentials, Error};

use crate::wire::MAX_FDS;

/// Flags of every socket made here. `O_NONBLOCK` is for connect and accept; packets carry
/// `MSG_DONTWAIT`, which nobody else can take off.
pub(crate) const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(crate) fn new() -> Result<OwnedFd, Error> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)
        .map_err(|errno| Error::from_raw_os_error("socket", errno.raw_os_error()))
}

pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)
        .map_err(|errno| Error::from_raw_os_error("socketpair", errno.raw_os_error()))
}

/// Sends one packet, or says `EAGAIN`.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if fds.is_empty() {
        return rustix::net::send(socket, bytes, flags).map(drop);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map(drop)
}

/// A packet as it came.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Zero at the end of the connection.
    pub(crate) len: usize,
    pub(crate) fds: Vec<OwnedFd>,
    /// More bytes or descriptors came than any packet has; those left over are closed.
    pub(crate) truncated: bool,
    /// Descriptors came for which this process has no numbers left: they are closed.
    pub(crate) exhausted: bool,
}

/// Receives one packet, or says `EAGAIN`.
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            // The peer closed without reading all that we sent. What it sent us is still to be had.
            Err(Errno::CONNRESET) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // There was space for as many as a packet has. Where not even those came, it is the number of open
    // files that is at its limit.
    let exhausted = received.flags.contains(ReturnFlags::CTRUNC) && fds.len() < MAX_FDS;
    let truncated = received.flags.contains(ReturnFlags::TRUNC)
        || received.flags.contains(ReturnFlags::CTRUNC) && !exhausted;
    Ok(Packet {
        len: received.bytes,
        fds,
        truncated,
        exhausted,
    })
}

/// Who is at the other end: for a connected socket, at the time of connect or listen.
pub(crate) fn peer_credentials(socket: impl AsFd) -> Result<Credentials, Error> {
    // Not rustix's: its pid is never zero, as that of a peer in another pid namespace is.
    let peer = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)
        .map_err(|errno| Error::from_raw_os_error("getsockopt(SO_PEERCRED)", errno as i32))?;
    let pid = u32::try_from(peer.pid()).unwrap_or(0);
    Ok(Credentials::new(pid, peer.uid(), peer.gid()))
}

/// Whether there is room in a socket, or nobody to read from it.
pub(crate) fn is_writable(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    let now = Timespec::default();
    Ok(rustix::event::poll(&mut fds, Some(&now))? > 0)
}

/// Whether a descriptor is a connected socket of the right kind.
pub(crate) fn is_seqpacket(socket: impl AsFd) -> bool {
    let socket = socket.as_fd();
    rustix::net::sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(socket) == Ok(SocketType::SEQPACKET)
        && rustix::net::getpeername(socket).is_ok()
}
