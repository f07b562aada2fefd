//! Where a ring lies: two control blocks and a power of two of bytes.
#![allow(unsafe_code, reason = "raw memory is what this file is about")]

use core::fmt;
use core::ptr::NonNull;

use crate::control::ControlBlock;
use crate::frame::Header;

/// The memory of one ring, as one of its two ends sees it.
///
/// Positions are cursor values; an implementation reduces them modulo the capacity.
///
/// # Safety
///
/// The blocks and the bytes must stay valid and at the same place for the life of the value,
/// `capacity` must always return the same power of two, at least [`MIN_CAPACITY`], and every access
/// of `len <= capacity` bytes at any position that is a multiple of eight must be in bounds.
pub unsafe trait Memory {
    /// The block that the producing end writes.
    fn producer(&self) -> &ControlBlock;

    /// The block that the consuming end writes.
    fn consumer(&self) -> &ControlBlock;

    /// Bytes in the ring.
    fn capacity(&self) -> u64;

    /// Copies `bytes` into the ring.
    ///
    /// # Safety
    ///
    /// `bytes.len() <= capacity`; only the producing end calls this, for a range that the consumer
    /// has released and that is not yet published.
    unsafe fn write(&self, position: u64, bytes: &[u8]);

    /// Copies `len` bytes out of the ring.
    ///
    /// # Safety
    ///
    /// `len <= capacity`, `to` is valid for writing `len` bytes; only the consuming end calls this,
    /// for a range that is published and not yet released.
    unsafe fn read(&self, position: u64, to: *mut u8, len: usize);

    /// Stores a frame's header.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write), with `position` a multiple of eight.
    unsafe fn write_header(&self, position: u64, header: Header);

    /// Loads a frame's header, once.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read), with `position` a multiple of eight.
    unsafe fn read_header(&self, position: u64) -> Header;

    /// Where a range lies, if this memory keeps every range contiguous.
    fn contiguous(&self, position: u64) -> Option<NonNull<u8>>;
}

/// The longest payload that is copied word by word, bytes.
const BY_WORDS: usize = 64;

/// The smallest ring, bytes.
pub const MIN_CAPACITY: u64 = 64;
/// The largest ring, bytes: a frame's length field has 32 bits.
pub const MAX_CAPACITY: u64 = 1 << 31;

/// Copies into a ring.
///
/// # Safety
///
/// `to` is aligned to eight, valid for writing as many bytes, and the caller's alone.
#[inline]
unsafe fn copy_in(mut to: *mut u8, bytes: &[u8]) {
    if bytes.len() <= BY_WORDS {
        // A short payload was often written just now, word by word; wider loads would have to wait
        // until those stores have left the store buffer.
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            // SAFETY: in the range, by the caller's contract. Volatile, so that the loop stays one.
            unsafe { to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) };
            // SAFETY: at most one past the range.
            to = unsafe { to.add(8) };
        }
        if !rest.is_empty() {
            // SAFETY: as above; less than eight bytes.
            unsafe { core::ptr::copy_nonoverlapping(rest.as_ptr(), to, rest.len()) };
        }
        return;
    }
    // SAFETY: in the range, by the caller's contract.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}

/// A ring in memory that somebody else mapped: twice in a row, so that every range is contiguous.
///
/// `K` keeps the mapping alive.
pub struct MirroredMemory<K> {
    producer: NonNull<ControlBlock>,
    consumer: NonNull<ControlBlock>,
    data: NonNull<u8>,
    mask: u64,
    keep: K,
}

// SAFETY: the blocks are atomics, and the data is touched only through raw copies by the one
// producing and the one consuming end, each of which needs `&mut`.
unsafe impl<K: Send> Send for MirroredMemory<K> {}
// SAFETY: as for `Send`; a shared reference reaches nothing but atomics and unsafe methods.
unsafe impl<K: Sync> Sync for MirroredMemory<K> {}

impl<K> fmt::Debug for MirroredMemory<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirroredMemory")
            .field("capacity", &(self.mask + 1))
            .finish_non_exhaustive()
    }
}

impl<K> MirroredMemory<K> {
    /// Describes a ring that lies in mapped memory.
    ///
    /// # Panics
    ///
    /// If `capacity` is not a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`].
    ///
    /// # Safety
    ///
    /// For as long as `keep` lives: both blocks are readable, aligned to [`ControlBlock::ALIGN`],
    /// and the one of this end's role is writable; `data` is aligned to eight and readable for
    /// `2 * capacity` bytes (writable, if this end produces), where byte `i + capacity` is the
    /// same memory as byte `i`. No reference to any of it exists elsewhere in this process, other
    /// than through the ring's other end.
    pub unsafe fn new(
        producer: NonNull<ControlBlock>,
        consumer: NonNull<ControlBlock>,
        data: NonNull<u8>,
        capacity: u64,
        keep: K,
    ) -> Self {
        assert!(
            capacity.is_power_of_two() && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity),
            "a ring's capacity is a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}, not {capacity}"
        );
        Self {
            producer,
            consumer,
            data,
            mask: capacity - 1,
            keep,
        }
    }

    /// What keeps the mapping alive.
    pub fn keeper(&self) -> &K {
        &self.keep
    }

    #[inline]
    fn at(&self, position: u64) -> *mut u8 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a capacity fits a usize, as it is mapped"
        )]
        let offset = (position & self.mask) as usize;
        // SAFETY: offset < capacity, and 2 * capacity bytes are mapped.
        unsafe { self.data.as_ptr().add(offset) }
    }
}

// SAFETY: `new`'s contract gives valid blocks and a mirrored range of 2 * capacity bytes, so that
// `capacity` bytes from any reduced position are in bounds; nothing changes after `new`.
unsafe impl<K> Memory for MirroredMemory<K> {
    #[inline]
    fn producer(&self) -> &ControlBlock {
        // SAFETY: valid for the life of `keep` by `new`'s contract; only atomics inside.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &ControlBlock {
        // SAFETY: valid for the life of `keep` by `new`'s contract; only atomics inside.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    unsafe fn write(&self, position: u64, bytes: &[u8]) {
        // SAFETY: the range is in bounds and, by the caller's contract, the producer's alone; a payload begins
        // at a multiple of eight.
        unsafe { copy_in(self.at(position), bytes) };
    }

    #[inline]
    unsafe fn read(&self, position: u64, to: *mut u8, len: usize) {
        // SAFETY: in bounds. A hostile peer may write here meanwhile: then the copy holds arbitrary
        // bytes, which is all that a caller may assume of it anyway.
        unsafe { core::ptr::copy_nonoverlapping(self.at(position), to, len) }
    }

    #[inline]
    unsafe fn write_header(&self, position: u64, header: Header) {
        // SAFETY: in bounds, aligned to eight, and the producer's alone.
        unsafe {
            self.at(position)
                .cast::<u64>()
                .write_volatile(header.to_word())
        }
    }

    #[inline]
    unsafe fn read_header(&self, position: u64) -> Header {
        // SAFETY: in bounds and aligned to eight. Volatile: one load, never repeated, whatever a
        // hostile peer does to the word meanwhile.
        Header::from_word(unsafe { self.at(position).cast::<u64>().read_volatile() })
    }

    #[inline]
    fn contiguous(&self, position: u64) -> Option<NonNull<u8>> {
        NonNull::new(self.at(position))
    }
}

/// A ring in memory that somebody else mapped, once: a range that wraps around the end is copied in two parts,
/// and none is lent.
///
/// `K` keeps the mapping alive.
pub struct FlatMemory<K> {
    producer: NonNull<ControlBlock>,
    consumer: NonNull<ControlBlock>,
    data: NonNull<u8>,
    mask: u64,
    keep: K,
}

// SAFETY: as for `MirroredMemory`.
unsafe impl<K: Send> Send for FlatMemory<K> {}
// SAFETY: as for `MirroredMemory`.
unsafe impl<K: Sync> Sync for FlatMemory<K> {}

impl<K> fmt::Debug for FlatMemory<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlatMemory")
            .field("capacity", &(self.mask + 1))
            .finish_non_exhaustive()
    }
}

impl<K> FlatMemory<K> {
    /// Describes a ring that lies in mapped memory.
    ///
    /// # Panics
    ///
    /// If `capacity` is not a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`].
    ///
    /// # Safety
    ///
    /// For as long as `keep` lives: both blocks are readable and writable and aligned to [`ControlBlock::ALIGN`];
    /// `data` is aligned to eight, and readable and writable for `capacity` bytes. No reference to any of it
    /// exists elsewhere in this process, other than to its atomics and through the ring's other end.
    pub unsafe fn new(
        producer: NonNull<ControlBlock>,
        consumer: NonNull<ControlBlock>,
        data: NonNull<u8>,
        capacity: u64,
        keep: K,
    ) -> Self {
        assert!(
            capacity.is_power_of_two() && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity),
            "a ring's capacity is a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}, not {capacity}"
        );
        Self {
            producer,
            consumer,
            data,
            mask: capacity - 1,
            keep,
        }
    }

    /// What keeps the mapping alive.
    pub fn keeper(&self) -> &K {
        &self.keep
    }

    /// Where a position lies, and how many bytes follow it until the end.
    #[inline]
    fn at(&self, position: u64) -> (*mut u8, usize) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a capacity fits a usize, as it is mapped"
        )]
        let (offset, capacity) = ((position & self.mask) as usize, (self.mask + 1) as usize);
        // SAFETY: offset < capacity, and so many bytes are mapped.
        (unsafe { self.data.as_ptr().add(offset) }, capacity - offset)
    }
}

// SAFETY: `new`'s contract gives valid blocks and `capacity` bytes; what reaches past their end goes on at
// their start, and is no longer than `capacity` in all by the callers' contracts.
unsafe impl<K> Memory for FlatMemory<K> {
    #[inline]
    fn producer(&self) -> &ControlBlock {
        // SAFETY: valid for the life of `keep` by `new`'s contract; only atomics inside.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &ControlBlock {
        // SAFETY: valid for the life of `keep` by `new`'s contract; only atomics inside.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    unsafe fn write(&self, position: u64, bytes: &[u8]) {
        let (to, room) = self.at(position);
        let (head, tail) = bytes.split_at(bytes.len().min(room));
        // SAFETY: in bounds and, by the caller's contract, the producer's alone; payloads begin at multiples
        // of eight.
        unsafe { copy_in(to, head) };
        if !tail.is_empty() {
            // SAFETY: likewise, from the start of the ring on.
            unsafe { copy_in(self.data.as_ptr(), tail) };
        }
    }

    #[inline]
    unsafe fn read(&self, position: u64, to: *mut u8, len: usize) {
        let (from, room) = self.at(position);
        let head = len.min(room);
        // SAFETY: in bounds. Should somebody write here meanwhile, the copy holds arbitrary bytes, which is
        // all that a caller may assume of it anyway.
        unsafe { core::ptr::copy_nonoverlapping(from, to, head) };
        // SAFETY: `head <= len`.
        let to = unsafe { to.add(head) };
        // SAFETY: likewise, from the start of the ring on.
        unsafe { core::ptr::copy_nonoverlapping(self.data.as_ptr(), to, len - head) };
    }

    #[inline]
    unsafe fn write_header(&self, position: u64, header: Header) {
        let (to, _) = self.at(position);
        // SAFETY: in bounds, aligned to eight, and the producer's alone.
        unsafe { to.cast::<u64>().write_volatile(header.to_word()) }
    }

    #[inline]
    unsafe fn read_header(&self, position: u64) -> Header {
        let (from, _) = self.at(position);
        // SAFETY: in bounds and aligned to eight. Volatile: one load, never repeated.
        Header::from_word(unsafe { from.cast::<u64>().read_volatile() })
    }

    #[inline]
    fn contiguous(&self, _position: u64) -> Option<NonNull<u8>> {
        None
    }
}
