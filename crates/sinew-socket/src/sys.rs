//! The unsafe code of this crate: recvmsg and recvmmsg, memory that a system call has filled, inherited descriptors.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libc::c_int;
use rustix::net::RecvFlags;
use sinew_core::{Credentials, UnixEndpoint};
use tokio::io::ReadBuf;

use crate::buffer::Buffer;

#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PEERPIDFD: c_int = 0x0056;
#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PEERPIDFD: c_int = 77;
/// From linux/socket.h.
const SCM_PIDFD: c_int = 4;

/// From asm-generic/sockios.h. Where another number is right (MIPS, SPARC), the call fails, and no
/// end is told that it was refused.
const SIOCATMARK: libc::Ioctl = 0x8905;

/// Words.
const SLACK: usize = 8;

/// Room for what comes beside the bytes, used again for each call.
#[derive(Debug)]
pub(crate) struct Control {
    /// Words, because a `cmsghdr` is aligned so.
    space: Box<[MaybeUninit<u64>]>,
}

impl Control {
    /// Room for the sender's credentials and this many descriptors, or a few more, and for what else
    /// whoever made the socket may have turned on.
    pub(crate) fn new(max_fds: usize) -> Self {
        let fds = u32::try_from(max_fds * mem::size_of::<RawFd>()).unwrap_or(u32::MAX);
        let credentials = u32::try_from(mem::size_of::<libc::ucred>()).unwrap_or(u32::MAX);
        // SAFETY: CMSG_SPACE only computes.
        let bytes = unsafe { libc::CMSG_SPACE(credentials) + libc::CMSG_SPACE(fds) };
        Self {
            space: vec![MaybeUninit::uninit(); (bytes as usize).div_ceil(8) + SLACK].into(),
        }
    }
}

/// Where a datagram came from, as the kernel wrote it.
pub(crate) struct Name {
    address: libc::sockaddr_storage,
    len: usize,
}

impl Name {
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: a sockaddr_storage is plain data, for which zeros are valid.
            address: unsafe { mem::zeroed() },
            len: 0,
        }
    }

    fn start(&self) -> *const u8 {
        (&raw const self.address).cast()
    }

    /// Of a Unix socket: the path as it was bound, or a zero and the abstract name. Empty for one that is
    /// not bound.
    pub(crate) fn unix(&self) -> &[u8] {
        let offset = mem::offset_of!(libc::sockaddr_un, sun_path);
        let end = self.len.min(mem::size_of::<libc::sockaddr_un>());
        // SAFETY: within the storage, which is initialised and larger than a sockaddr_un.
        unsafe { std::slice::from_raw_parts(self.start().add(offset), end.saturating_sub(offset)) }
    }

    pub(crate) fn endpoint(&self) -> Option<UnixEndpoint> {
        match self.unix() {
            [] => None,
            [0, name @ ..] => Some(UnixEndpoint::Abstract(name.to_vec())),
            path => {
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                Some(UnixEndpoint::Path(PathBuf::from(OsStr::from_bytes(path))))
            }
        }
    }

    /// Of a UDP socket.
    pub(crate) fn inet(&self) -> Option<SocketAddr> {
        match i32::from(self.address.ss_family) {
            libc::AF_INET if self.len >= mem::size_of::<libc::sockaddr_in>() => {
                // SAFETY: the kernel wrote an address of this family, of at least this length.
                let address = unsafe { self.start().cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some((ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 if self.len >= mem::size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let address = unsafe { self.start().cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                let flow = u32::from_be(address.sin6_flowinfo);
                Some(SocketAddrV6::new(ip, port, flow, address.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// What a packet is received into.
pub(crate) struct Slot {
    pub(crate) buffer: Buffer,
    control: Option<Control>,
    pub(crate) name: Option<Name>,
    /// Of the last packet.
    pub(crate) received: Received,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Slot {
    /// For packets of up to `limit` bytes: with descriptors, if that is how many, and where they come from.
    pub(crate) fn new(limit: usize, max_fds: Option<usize>, is_named: bool) -> Self {
        Self {
            buffer: Buffer::new(limit),
            control: max_fds.map(Control::new),
            name: is_named.then(Name::new),
            received: Received::default(),
            fds: Vec::new(),
        }
    }
}

/// What one recvmsg(2) gave, besides the bytes and the descriptors.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Bytes of the packet, also those for which there was no room.
    pub(crate) len: usize,
    /// There was no room for all that came beside the bytes, or no number for a descriptor.
    pub(crate) control_truncated: bool,
    pub(crate) credentials: Option<Credentials>,
    /// Something came beside the bytes, wanted or not.
    pub(crate) is_accompanied: bool,
}

/// Takes what came beside the bytes.
///
/// # Safety
///
/// The kernel has filled the header, and its control memory, in a call that succeeded; nobody has taken
/// the descriptors.
unsafe fn take(header: &libc::msghdr, len: usize, fds: &mut Vec<OwnedFd>) -> Received {
    let mut credentials = None;
    // SAFETY: the kernel wrote whole messages into the first msg_controllen bytes.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: null, or a header within the control memory, which is aligned for it.
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: the data follows its header, cmsg_len bytes with the header.
        let (data, header_len) = unsafe { (libc::CMSG_DATA(message), libc::CMSG_LEN(0)) };
        let data_len = message.cmsg_len.saturating_sub(header_len as _);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => {
                for index in 0..data_len / mem::size_of::<RawFd>() {
                    // SAFETY: within the data; a descriptor that was received is open, and nobody
                    // else's.
                    let fd = unsafe {
                        OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned())
                    };
                    // A pidfd that somebody else has turned on for this socket is closed.
                    if message.cmsg_type == libc::SCM_RIGHTS {
                        fds.push(fd);
                    }
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                if data_len >= mem::size_of::<libc::ucred>() =>
            {
                // SAFETY: within the data, and plain.
                let from = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                credentials = Some(credentials_of(from));
            }
            _ => {}
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    Received {
        len,
        control_truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
        credentials,
        is_accompanied: header.msg_controllen > 0,
    }
}

fn header(iov: &mut libc::iovec, control: Option<&mut Control>) -> libc::msghdr {
    // SAFETY: a msghdr is plain data, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    if let Some(control) = control {
        header.msg_control = control.space.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&*control.space) as _;
    }
    header
}

const RECEIVE: c_int = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;

#[allow(clippy::cast_possible_truncation, reason = "of small types")]
const fn size<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

fn credentials_of(from: libc::ucred) -> Credentials {
    Credentials::new(u32::try_from(from.pid).unwrap_or(0), from.uid, from.gid)
}

/// The most packets of one call.
pub(crate) const BATCH: usize = 8;

/// Receives as many packets as are there, up to as many as there are slots, of which no more than
/// [`BATCH`] are used; `EAGAIN` if there is none. If it is less, there is no further one now.
pub(crate) fn receive_packets(socket: BorrowedFd<'_>, slots: &mut [Slot]) -> io::Result<usize> {
    // SAFETY: both are plain data, for which zeros are valid.
    let (mut iovs, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let used = slots.len().min(BATCH);
    for ((slot, iov), message) in slots.iter_mut().zip(&mut iovs).zip(&mut headers) {
        let limit = slot.buffer.limit();
        let spare = slot.buffer.room().spare_capacity_mut();
        iov.iov_base = spare.as_mut_ptr().cast();
        iov.iov_len = spare.len().min(limit);
        message.msg_hdr = header(iov, slot.control.as_mut());
        if let Some(name) = &mut slot.name {
            message.msg_hdr.msg_name = (&raw mut name.address).cast();
            message.msg_hdr.msg_namelen = size::<libc::sockaddr_storage>();
        }
    }
    // SAFETY: each header refers to memory of the lengths that it says, its slot's, which outlives the
    // call.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            u32::try_from(used).unwrap_or(0),
            RECEIVE | libc::MSG_TRUNC,
            std::ptr::null_mut(),
        )
    };
    let Ok(count) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    for ((slot, iov), message) in slots.iter_mut().zip(&iovs).zip(&headers).take(count) {
        let len = message.msg_len as usize;
        // SAFETY: the call filled this header, and its slot's memory, and this is the only time.
        slot.received = unsafe { take(&message.msg_hdr, len, &mut slot.fds) };
        let filled = len.min(iov.iov_len);
        let buffer = slot.buffer.as_given();
        // SAFETY: the kernel wrote so many bytes to the spare capacity of a buffer that was empty, and
        // to which nothing has happened since.
        unsafe { buffer.set_len(filled) };
        if let Some(name) = &mut slot.name {
            name.len = message.msg_hdr.msg_namelen as usize;
        }
    }
    Ok(count)
}

/// Receives bytes of a stream, and what came beside them; `EAGAIN` if there are none.
pub(crate) fn receive_stream(
    socket: BorrowedFd<'_>,
    buffer: &mut ReadBuf<'_>,
    control: &mut Control,
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    // SAFETY: nothing that is initialised is overwritten with what is not.
    let room = unsafe { buffer.unfilled_mut() };
    let mut iov = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    let mut header = header(&mut iov, Some(control));
    // SAFETY: the header refers to memory of the lengths that it says, which outlives the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, RECEIVE) };
    let Ok(len) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the call has just filled it.
    let received = unsafe { take(&header, len, fds) };
    filled(buffer, len);
    Ok(received)
}

/// Receives bytes of a stream alone; `EAGAIN` if there are none.
pub(crate) fn receive_bytes(socket: BorrowedFd<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing that is initialised is overwritten with what is not.
    let room = unsafe { buffer.unfilled_mut() };
    let ((read, _), _) = rustix::net::recv(socket, room, RecvFlags::DONTWAIT)?;
    let len = read.len();
    filled(buffer, len);
    Ok(len)
}

fn filled(buffer: &mut ReadBuf<'_>, len: usize) {
    // SAFETY: the kernel has just written so many bytes there.
    unsafe { buffer.assume_init(len) };
    buffer.advance(len);
}

fn option<T>(socket: BorrowedFd<'_>, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size::<T>();
    // SAFETY: the kernel writes up to `len` bytes to the value, which has so many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both types that this is called with are plain data, for which any bytes are valid.
    Ok(unsafe { value.assume_init() })
}

/// Who is at the other end: for a connected socket, at the time of connect or listen.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    // Not rustix's: its pid is never zero, as that of a peer in another pid namespace is.
    option::<libc::ucred>(socket, libc::SO_PEERCRED).map(credentials_of)
}

/// A handle of the process at the other end, from Linux 6.5 on.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fd = option::<c_int>(socket, SO_PEERPIDFD)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Of TCP: bytes that the peer's host has not acknowledged. Of a Unix socket: bytes of memory in
/// which the kernel keeps what the peer has not read.
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    let mut count: c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        0 => Ok(count),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the next byte to be read was sent out of band.
pub(crate) fn is_at_mark(socket: BorrowedFd<'_>) -> bool {
    let mut answer: c_int = 0;
    // SAFETY: SIOCATMARK writes one int.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCATMARK, &raw mut answer) };
    asked == 0 && answer == 1
}
