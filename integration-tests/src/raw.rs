//! The wire protocol by hand, as `docs/protocol/shm.md` says it, and every way to break it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::sys::SharedMap;

/// A doorbell's packet.
pub const BELL: u8 = 1;
/// The packet that carries a message's memory.
pub const MEMORY: u8 = 2;
/// The packet that carries a segment.
pub const SEGMENT: u8 = 3;
/// A frame that holds a message.
pub const FRAME_DATA: u32 = 1;
/// A frame that announces memory.
pub const FRAME_MEMORY: u32 = 2;
/// A frame that announces a message in a segment.
pub const FRAME_SEGMENT: u32 = 3;
/// A frame that ends a segment.
pub const FRAME_SEGMENT_END: u32 = 4;

/// Bytes of a packet of the handshake.
pub const PACKET: usize = 128;
/// A duplex channel, in both directions, with payloads aligned to eight bytes.
const SHAPE: u64 = 1 | 3 << 32;
const CONTROL: u64 = 4096;

/// A hello, with everything in it to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Hello {
    /// First word.
    pub magic: u64,
    /// Least version.
    pub least: u16,
    /// Highest version.
    pub most: u16,
    /// Features offered.
    pub features: u64,
    /// Features required.
    pub required: u64,
    /// The kind of channel, its direction, and the alignment of payloads.
    pub shape: u64,
    /// The type of payloads.
    pub payload: u64,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            magic: u64::from_le_bytes(*b"SINEWSHM"),
            least: 2,
            most: 2,
            features: 0,
            required: 0,
            shape: SHAPE,
            payload: 0,
        }
    }
}

impl Hello {
    /// As a packet.
    pub fn encode(self) -> Vec<u8> {
        let kind = 1 | u64::from(self.least) << 32 | u64::from(self.most) << 48;
        words(&[
            self.magic,
            kind,
            self.features,
            self.required,
            self.shape,
            self.payload,
        ])
    }
}

/// An accept or a ready, with everything in it to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// 2 for an accept, 3 for a ready, and 5 for an open, in which nothing else matters.
    pub kind: u32,
    /// Version chosen.
    pub version: u16,
    /// Features chosen.
    pub features: u64,
    /// Bytes of the control part.
    pub control: u64,
    /// Bytes of the data part.
    pub data: u64,
    /// Longest message received.
    pub max_message: u64,
}

impl Offer {
    /// One that is right.
    pub fn new(kind: u32, data: u64) -> Self {
        Self {
            kind,
            version: 2,
            features: 0,
            control: CONTROL,
            data,
            max_message: 1 << 30,
        }
    }

    /// As a packet.
    pub fn encode(self) -> Vec<u8> {
        let kind = u64::from(self.kind) | u64::from(self.version) << 32;
        words(&[
            Hello::default().magic,
            kind,
            self.features,
            0,
            SHAPE,
            0,
            self.control,
            self.data,
            self.max_message,
        ])
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(PACKET, 0);
    bytes
}

/// A socket of a peer.
#[derive(Debug, Clone)]
pub struct Wire(Arc<OwnedFd>);

impl Wire {
    fn socket() -> OwnedFd {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    /// Connects to a listener.
    pub fn connect(path: &Path) -> Self {
        let socket = Self::socket();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(Arc::new(socket))
    }

    /// Listens at a path.
    pub fn listen(path: &Path) -> Self {
        let socket = Self::socket();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 16).unwrap();
        Self(Arc::new(socket))
    }

    /// Accepts a connection.
    pub fn accept(&self) -> Self {
        let socket = rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC).unwrap();
        Self(Arc::new(socket))
    }

    /// Sends a packet, waiting for room.
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2): a peer that has hung up is no failure of a test.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL)
    }

    /// Sends a packet if there is room.
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2).
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let slices = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.0, &slices, &mut control, flags).map(drop)
    }

    /// Receives a packet; `None` at the end, or when none comes within ten seconds.
    pub fn recv(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let timeout = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut poll = [PollFd::new(&self.0, PollFlags::IN)];
        if rustix::event::poll(&mut poll, Some(&timeout)) == Ok(0) {
            return None;
        }
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.0, &mut slices, &mut control, flags).ok()?;
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        (received.bytes > 0).then(|| (buffer[..received.bytes].to_vec(), fds))
    }

    /// Waits until the other end has hung up. False if it has not within ten seconds.
    pub fn is_hung_up(&self) -> bool {
        for _ in 0..1000 {
            match rustix::net::recv(&self.0, &mut [0u8; 256], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return true,
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        false
    }

    /// Shuts one direction down.
    pub fn shutdown(&self, how: rustix::net::Shutdown) {
        rustix::net::shutdown(&self.0, how).unwrap();
    }
}

impl From<OwnedFd> for Wire {
    fn from(socket: OwnedFd) -> Self {
        Self(Arc::new(socket))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A memfd of `len` bytes, all allocated, with these seals.
pub fn memfd(len: u64, seals: SealFlags) -> OwnedFd {
    let fd = hollow(0, SealFlags::empty());
    if len > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len).unwrap();
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// A memfd of `len` bytes, none of which is allocated, with these seals.
pub fn hollow(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("hostile", flags).unwrap();
    rustix::fs::ftruncate(&fd, len).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// A memfd with this content, sealed as a message's memory has to be.
pub fn frozen(bytes: &[u8]) -> OwnedFd {
    let fd = memfd(0, SealFlags::empty());
    assert_eq!(rustix::io::write(&fd, bytes).unwrap(), bytes.len());
    rustix::fs::fcntl_add_seals(&fd, RawMemory::IMMUTABLE).unwrap();
    fd
}

/// An end's memory, writable.
#[derive(Debug)]
pub struct RawMemory {
    control_fd: OwnedFd,
    data_fd: OwnedFd,
    control: SharedMap,
    data: SharedMap,
}

impl RawMemory {
    /// The seals of an end's control words.
    pub const FIXED_SIZE: SealFlags = SealFlags::SHRINK
        .union(SealFlags::GROW)
        .union(SealFlags::SEAL);
    /// The seals of an end's data.
    pub const SINGLE_WRITER: SealFlags = SealFlags::FUTURE_WRITE
        .union(SealFlags::SHRINK)
        .union(SealFlags::GROW)
        .union(SealFlags::SEAL);
    /// The seals of a message's memory.
    pub const IMMUTABLE: SealFlags = SealFlags::WRITE
        .union(SealFlags::SHRINK)
        .union(SealFlags::GROW)
        .union(SealFlags::SEAL);

    /// Memory for a ring of `data` bytes.
    pub fn new(data: u64) -> Self {
        let make = |size: u64, seals| {
            let fd = memfd(size, SealFlags::empty());
            let map = SharedMap::new(fd.as_fd(), size.try_into().unwrap(), true).unwrap();
            rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
            (fd, map)
        };
        let (control_fd, control) = make(CONTROL, Self::FIXED_SIZE);
        let (data_fd, data) = make(data, Self::SINGLE_WRITER);
        Self {
            control_fd,
            data_fd,
            control,
            data,
        }
    }

    /// What to send to the peer.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.control_fd.as_fd(), self.data_fd.as_fd()]
    }

    /// What to send to the peer, and more.
    pub fn fds_and<'a>(
        &'a self,
        more: impl IntoIterator<Item = &'a OwnedFd>,
    ) -> Vec<BorrowedFd<'a>> {
        let more = more.into_iter().map(AsFd::as_fd);
        self.fds().into_iter().chain(more).collect()
    }

    /// Bytes of all of it: the control words, then the data.
    pub fn len(&self) -> usize {
        self.control.len() + self.data.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        match offset.checked_sub(self.control.len()) {
            None => self.control.word(offset),
            Some(offset) => self.data.word(offset),
        }
    }
}

/// An end of an established channel, in the hands of somebody who keeps no rule.
#[derive(Debug)]
pub struct RawEnd {
    /// The socket.
    pub wire: Wire,
    /// Our memory.
    pub ours: RawMemory,
    /// The honest end's control words, which this end can write, too.
    theirs: SharedMap,
    their_control_fd: OwnedFd,
    their_data_fd: OwnedFd,
    data: u64,
    /// Where the next frame goes.
    pub position: u64,
}

impl RawEnd {
    /// Where the words lie in an end's memory.
    pub const PUBLISHED: usize = 0;
    /// The sender's wait word.
    pub const SENDER_WAIT: usize = 128;
    /// The sender's state.
    pub const SENDER_STATE: usize = 136;
    /// Bytes consumed.
    pub const RELEASED: usize = 256;
    /// The receiver's wait word.
    pub const RECEIVER_WAIT: usize = 384;
    /// The receiver's state.
    pub const RECEIVER_STATE: usize = 392;

    /// Connects to a listener and does the handshake as it should be.
    pub fn connect(path: &Path, data: u64) -> Self {
        let wire = Wire::connect(path);
        wire.send(&Hello::default().encode(), &[]).unwrap();
        let (accept, fds) = wire.recv().expect("an accept");
        assert_eq!((accept[8], fds.len()), (2, 2));
        let ours = RawMemory::new(data);
        let ready = Offer::new(3, data).encode();
        wire.send(&ready, &ours.fds()).unwrap();
        let (open, none) = wire.recv().expect("an open");
        assert_eq!((open.len(), open[8], none.len()), (PACKET, 5, 0));
        Self::new(wire, ours, &accept, &fds, data)
    }

    /// Answers a connector as it should be.
    pub fn accept(listener: &Wire, data: u64) -> Self {
        let wire = listener.accept();
        let (hello, _) = wire.recv().expect("a hello");
        assert_eq!(hello[8], 1);
        let ours = RawMemory::new(data);
        let accept = Offer::new(2, data).encode();
        wire.send(&accept, &ours.fds()).unwrap();
        let (ready, fds) = wire.recv().expect("a ready");
        assert_eq!((ready[8], fds.len()), (3, 2));
        wire.send(&Offer::new(5, data).encode(), &[]).unwrap();
        Self::new(wire, ours, &ready, &fds, data)
    }

    fn new(wire: Wire, ours: RawMemory, offer: &[u8], fds: &[OwnedFd], data: u64) -> Self {
        let size = |index: usize| {
            let word = u64::from_le_bytes(offer[index * 8..][..8].try_into().unwrap());
            usize::try_from(word).unwrap()
        };
        let map =
            |index: usize, writable| SharedMap::new(fds[index].as_fd(), size(6 + index), writable);
        let theirs = map(0, true).unwrap();
        assert!(map(1, false).is_ok());
        assert!(
            map(1, true).is_err(),
            "the peer's data can be mapped for writing"
        );
        Self {
            wire,
            ours,
            theirs,
            their_control_fd: fds[0].try_clone().unwrap(),
            their_data_fd: fds[1].try_clone().unwrap(),
            data,
            position: 0,
        }
    }

    /// Stores a word of ours.
    pub fn set(&self, offset: usize, word: u64) {
        self.ours.word(offset).store(word, Ordering::SeqCst);
    }

    /// Stores a word where only the honest end should.
    pub fn set_theirs(&self, offset: usize, word: u64) {
        self.theirs.word(offset).store(word, Ordering::SeqCst);
    }

    /// Takes the pages of both ends' control words away: they are zeros after it.
    pub fn punch(&self) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for fd in [&self.their_control_fd, &self.ours.control_fd] {
            rustix::fs::fallocate(fd, flags, 0, CONTROL).unwrap();
        }
    }

    /// Bytes that the honest end has published; the last frame may still be in the express words alone.
    pub fn their_published(&self) -> u64 {
        self.theirs.word(Self::PUBLISHED).load(Ordering::SeqCst) & !7
    }

    /// Bytes that the honest end has consumed.
    pub fn their_released(&self) -> u64 {
        self.theirs.word(Self::RELEASED).load(Ordering::SeqCst)
    }

    /// The first `len` bytes of the honest end's control words.
    pub fn their_control(&self, len: usize) -> Vec<u8> {
        read(&self.their_control_fd, len)
    }

    /// The first `len` bytes of the honest end's data.
    pub fn their_data(&self, len: usize) -> Vec<u8> {
        read(&self.their_data_fd, len)
    }

    /// Whether the ring has room for a frame with this much payload.
    pub fn has_room(&self, len: usize) -> bool {
        let size = 8 + (len as u64).next_multiple_of(8);
        (self.position + size).wrapping_sub(self.their_released()) <= self.data
    }

    /// Writes a frame that claims to be `claim` bytes long, and moves on by what `payload` takes;
    /// publishes nothing.
    pub fn stage(&mut self, kind: u32, claim: u32, payload: &[u8]) {
        let header = u64::from(kind) << 32 | u64::from(claim);
        self.put(self.position, &header.to_le_bytes());
        self.put(self.position + 8, payload);
        self.position += 8 + (payload.len() as u64).next_multiple_of(8);
    }

    /// Publishes what was staged, and rings.
    pub fn publish(&self) {
        self.set(Self::PUBLISHED, self.position);
        self.ring();
    }

    /// Publishes a frame as it should be, and rings.
    pub fn frame(&mut self, kind: u32, payload: &[u8]) {
        self.stage(kind, payload.len().try_into().unwrap(), payload);
        self.publish();
    }

    /// Announces memory of `len` bytes.
    pub fn announce(&mut self, len: u64) {
        self.frame(FRAME_MEMORY, &len.to_le_bytes());
    }

    /// Announces a message of `len` bytes in a segment.
    pub fn announce_segment(&mut self, number: u64, len: u64) {
        let payload = [number.to_le_bytes(), len.to_le_bytes()].concat();
        self.frame(FRAME_SEGMENT, &payload);
    }

    /// Rings.
    pub fn ring(&self) {
        let _full_or_gone = self.wire.try_send(&[BELL], &[]);
    }

    /// Writes bytes into the ring, where a count of `position` has them.
    pub fn put(&self, position: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let offset = (position + index as u64) % self.data;
            let offset = usize::try_from(offset).unwrap();
            self.ours.data.write(offset, std::slice::from_ref(byte));
        }
    }
}

fn read(fd: &OwnedFd, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    assert_eq!(rustix::io::pread(fd, &mut bytes, 0).unwrap(), len);
    bytes
}
