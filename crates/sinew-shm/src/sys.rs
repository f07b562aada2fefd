//! The unsafe code of this crate.
#![allow(unsafe_code, reason = "raw memory, and code between fork and exec")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::FdFlags;
use sinew_core::StableFd;
use sinew_memory::{Region, RingMemory, Segment};
use sinew_ring::{
    Consumer, ControlBlock, Corruption, Fence, FlatMemory, Frame, MirroredMemory, Producer,
    PushError,
};

use crate::closer;
use crate::link::Link;
use crate::named::Block;
use crate::receiver::Receiver;
use crate::socket::Socket;
use crate::trusted::TrustedReceiver;
use crate::wire::{CONSUMER_OFFSET, CONTROL_SIZE, PRODUCER_OFFSET};

const _: () = assert!(
    (CONSUMER_OFFSET + ControlBlock::SIZE) as u64 <= CONTROL_SIZE
        && PRODUCER_OFFSET + ControlBlock::SIZE <= CONSUMER_OFFSET
        && CONSUMER_OFFSET.is_multiple_of(ControlBlock::ALIGN)
);

/// A ring between the two ends of a link.
pub(crate) type Memory = MirroredMemory<Arc<Link>>;

fn block(memory: &RingMemory, offset: usize) -> NonNull<ControlBlock> {
    // SAFETY: there are at least CONTROL_SIZE bytes of control words, and the offset is a constant below that.
    unsafe { memory.control().add(offset).cast() }
}

fn ring(link: &Arc<Link>, producer: &RingMemory, consumer: &RingMemory) -> Memory {
    // SAFETY: both memories live in the link, which the ring keeps alive; they are page-aligned, their
    // data is mapped twice, and a fresh memfd holds zeros, which are valid blocks, as all words are. Control words are
    // writable here, and so is the producer's data. Nothing else in this
    // process refers to them: `halves` is called once for a link.
    unsafe {
        MirroredMemory::new(
            block(producer, PRODUCER_OFFSET),
            block(consumer, CONSUMER_OFFSET),
            producer.data(),
            producer.layout().data(),
            link.clone(),
        )
    }
}

/// The two rings of a link that was just made, each from this end's side.
pub(crate) fn halves(link: &Arc<Link>) -> (Producer<Memory>, Consumer<Memory>) {
    // SAFETY: the link is fresh, and this is its only producer; a peer that is not fresh is found out.
    let mut producer = unsafe { Producer::new(ring(link, &link.ours, &link.theirs)) };
    producer.set_express(link.features.express());
    // SAFETY: likewise its only consumer.
    let mut consumer = unsafe { Consumer::new(ring(link, &link.theirs, &link.ours)) };
    if link.features.membarrier() {
        consumer.set_fence(Fence::Asymmetric);
    }
    (producer, consumer)
}

/// A ring in a region.
pub(crate) type RegionMemory = FlatMemory<Region>;

fn flat(block: &Block) -> RegionMemory {
    let region = block.region();
    let len = block.end() - block.start();
    assert!(
        block.end() <= region.len() && region.is_writable(),
        "checked when it was opened"
    );
    debug_assert!(Block::DATA as u64 + block.capacity() <= len as u64);
    let at = |offset| region.as_ptr(block.start() + offset);
    // SAFETY: all of the block is inside of the region, which is writable and kept alive, and begins at a multiple
    // of a page. Blocks and data are used by the ring's ends alone, but for loads of a block's atomics.
    unsafe {
        FlatMemory::new(
            at(Block::PRODUCER).cast(),
            at(Block::CONSUMER).cast(),
            at(Block::DATA),
            block.capacity(),
            region.clone(),
        )
    }
}

/// The producing end of a ring in a region.
///
/// The caller holds the claim to that end, so that there is no other.
pub(crate) fn resume_producer(block: &Block) -> Result<Producer<RegionMemory>, Corruption> {
    // SAFETY: by the caller's contract this is the only one in this process. One in another process that breaks
    // the protocol costs what is in the ring, and nothing else: all is checked, and copied.
    unsafe { Producer::resume(flat(block)) }
}

/// The consuming end of a ring in a region.
///
/// The caller holds the claim to that end, so that there is no other.
pub(crate) fn resume_consumer(block: &Block) -> Result<Consumer<RegionMemory>, Corruption> {
    // SAFETY: as for the producer.
    unsafe { Consumer::resume(flat(block)) }
}

/// Space in a ring that a loan lends.
pub(crate) struct Lent(NonNull<[u8]>);

// SAFETY: the space is the producer's own and goes wherever the loan that borrows the producer goes.
unsafe impl Send for Lent {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Lent {}

impl Lent {
    /// Reserves space; `None` where the ring has none to lend.
    ///
    /// The caller keeps the producer borrowed mutably for as long as it uses the value.
    #[inline]
    pub(crate) fn new(
        producer: &mut Producer<Memory>,
        len: usize,
    ) -> Result<Option<Self>, PushError> {
        Ok(producer.reserve(len)?.map(Lent))
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: as for `as_mut_slice`.
        unsafe { &*self.0.as_ptr() }
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: reserved space is mapped, initialised (a memfd begins as zeros) and the producer's
        // own: the consumer was told of nothing in it and cannot write it, its mapping being
        // read-only. Nothing else is reserved or staged while the loan borrows the producer.
        unsafe { &mut *self.0.as_ptr() }
    }
}

impl Receiver {
    /// Declares the peer trusted, so that messages can be borrowed from the ring instead of copied.
    ///
    /// # Safety
    ///
    /// The peer's process never writes to a message that it has published, until it is released. Every
    /// peer that uses Sinew keeps this; one that is compromised, or of another make, may not, and then
    /// the bytes of a [`Borrowed`](crate::Borrowed) change while safe code holds a reference to them.
    pub unsafe fn into_trusted(self) -> TrustedReceiver {
        TrustedReceiver::new(self)
    }
}

/// The payload of the oldest frame, borrowed from a ring whose producer is trusted.
pub(crate) fn trusted_payload<'a>(
    receiver: &'a TrustedReceiver,
    frame: &Frame,
) -> Option<&'a [u8]> {
    let payload = receiver.get_ref().payload(frame)?;
    // SAFETY: the frame was validated and is not released while the receiver is borrowed, so that the
    // bytes are mapped; that the peer leaves them alone is `into_trusted`'s contract.
    Some(unsafe { &*payload.as_ptr() })
}

/// A part of a peer's segment.
struct Trusted {
    segment: Arc<Segment>,
    len: usize,
}

impl AsRef<[u8]> for Trusted {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` was checked against the segment, which is mapped for as long as this lives;
        // that the peer leaves the bytes alone is `into_trusted`'s contract.
        unsafe { std::slice::from_raw_parts(self.segment.start().as_ptr(), self.len) }
    }
}

/// The first `len` bytes of a segment, at most all, borrowed from a peer that is trusted.
///
/// The caller uses them no longer than until it releases the frame that announced them.
pub(crate) fn trusted_segment(segment: &Arc<Segment>, len: usize) -> Bytes {
    assert!(len <= segment.len(), "checked by the caller");
    Bytes::from_owner(Trusted {
        segment: segment.clone(),
        len,
    })
}

/// Has `command`'s child inherit the descriptor under the same number, and nobody else.
pub(crate) fn inherit(command: &mut std::process::Command, fd: OwnedFd) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec, fcntl is async-signal-safe, and nothing is allocated. The
    // descriptor lives in the closure, and so as long as the command.
    unsafe {
        command.pre_exec(move || Ok(rustix::io::fcntl_setfd(&fd, FdFlags::empty())?));
    }
}

/// A descriptor that a stranger made, so that its close may block: dropping it hands it to the
/// [closer](crate::closer).
#[derive(Debug)]
pub(crate) struct Foreign {
    fd: ManuallyDrop<OwnedFd>,
    is_harmless: bool,
}

impl Foreign {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: ManuallyDrop::new(fd),
            is_harmless: false,
        }
    }

    /// The descriptor, once it is known that closing it does not block.
    pub(crate) fn into_inner(self) -> OwnedFd {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and so the descriptor is taken once.
        unsafe { ManuallyDrop::take(&mut this.fd) }
    }

    /// Has the drop close it in its own thread, since it is known not to block.
    pub(crate) fn close_here(&mut self) {
        self.is_harmless = true;
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the value is being dropped, and so the descriptor is taken once.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        match self.is_harmless {
            true => drop(fd),
            false => closer::close(fd),
        }
    }
}

// SAFETY: it owns one descriptor in a field that only its drop takes.
unsafe impl StableFd for Socket {}

/// Sets `SO_PASSRIGHTS`: socket(7).
pub(crate) fn set_pass_rights(socket: BorrowedFd<'_>, pass: bool) -> io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    const SIZE: libc::socklen_t = 4;
    let value = i32::from(pass);
    // SAFETY: the pointer is to an integer of four bytes.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const value).cast(),
            SIZE,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
