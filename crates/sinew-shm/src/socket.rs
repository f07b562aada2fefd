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
use sinew_core::{Credentials, Error, Home};

use crate::sys::{self, Foreign};
use crate::wire::MAX_FDS;

/// The most descriptors that the kernel lets a packet have: `SCM_MAX_FD` in unix(7).
const KERNEL_MAX_FDS: usize = 253;
/// Packets that are looked through when a socket is dropped, for descriptors in them.
const MAX_UNREAD: usize = 1024;

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

/// A peer's socket. Dropping it hangs up, and never blocks.
#[derive(Debug)]
pub(crate) struct Socket(Foreign, Home);

impl Socket {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(Foreign::new(socket), Home::here())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A child that was forked closes its copy, and its parent goes on.
        if !self.1.is_here() {
            return self.0.close_here();
        }
        // Nothing comes in after this. What is there already may have descriptors, which are closed
        // with the socket, and that may block.
        let _gone = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
        if !has_unread_fds(self.0.as_fd()) {
            self.0.close_here();
        }
    }
}

/// Whether a socket that was shut down may have descriptors in its queue. Takes other packets out.
fn has_unread_fds(socket: BorrowedFd<'_>) -> bool {
    for _ in 0..MAX_UNREAD {
        match has_fds(socket) {
            Ok(false) => {}
            Ok(true) => return true,
            Err(_) => return false,
        }
        let taken = rustix::net::recv(socket, &mut [0u8], RecvFlags::DONTWAIT);
        if !matches!(taken, Ok((1.., _))) {
            // The end, or a packet of no bytes, as no honest peer sends. If there is a further
            // packet, it has credentials with this option, and so something besides its bytes.
            return rustix::net::sockopt::set_socket_passcred(socket, true).is_err()
                || has_fds(socket) == Ok(true);
        }
    }
    true
}

/// Whether nothing that could be received is there.
pub(crate) fn is_empty(socket: BorrowedFd<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut [0u8], flags) == Err(Errno::AGAIN)
}

/// Whether the next packet, if there is one, has descriptors.
pub(crate) fn has_fds(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut control = RecvAncillaryBuffer::default();
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    loop {
        let mut byte = [0];
        let slices = &mut [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, slices, &mut control, flags) {
            Err(Errno::CONNRESET) => {}
            Err(errno) => return Err(errno),
            // There is no space for descriptors: none is made, and the flag says that there are
            // some.
            Ok(packet) => return Ok(packet.flags.contains(ReturnFlags::CTRUNC)),
        }
    }
}

/// Sets whether the kernel takes descriptors from peers of this socket, and of those that it
/// accepts. With `false`, they get `EPERM`, so that none is queued by a peer that is not admitted:
/// `SO_PASSRIGHTS`, socket(7). Before Linux 6.16, nothing happens.
pub(crate) fn pass_fds(socket: BorrowedFd<'_>, pass: bool) {
    let _unknown = sys::set_pass_rights(socket, pass);
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
    pub(crate) fds: Vec<Foreign>,
    /// More bytes or descriptors came than any packet has.
    pub(crate) truncated: bool,
    /// Descriptors came for which this process has no numbers left: they are closed.
    pub(crate) exhausted: bool,
}

/// Receives one packet, or says `EAGAIN`.
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, Errno> {
    // For as many as there can be: the kernel would close those that it has no space for in this
    // thread.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_MAX_FDS))];
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
            fds.extend(rights.map(Foreign::new));
        }
    }
    // There was space for all. Where some did not come, the number of open files is at its limit.
    let exhausted = received.flags.contains(ReturnFlags::CTRUNC);
    let truncated = received.flags.contains(ReturnFlags::TRUNC) || fds.len() > MAX_FDS;
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

/// The inode number of a descriptor's file.
pub(crate) fn inode(fd: impl AsFd) -> Result<u64, Errno> {
    rustix::fs::fstat(fd).map(|stat| stat.st_ino)
}

/// Whether a descriptor is a connected socket of the right kind.
pub(crate) fn is_seqpacket(socket: impl AsFd) -> bool {
    let socket = socket.as_fd();
    rustix::net::sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(socket) == Ok(SocketType::SEQPACKET)
        && rustix::net::getpeername(socket).is_ok()
}
