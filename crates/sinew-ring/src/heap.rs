//! The ring on private memory, for handing frames to another thread of the same process.
#![allow(unsafe_code, reason = "implements the raw memory accessors")]

use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;

use crate::consumer::Consumer;
use crate::control::ControlBlock;
use crate::frame::Header;
use crate::loom::cell::UnsafeCell;
use crate::loom::sync::Arc;
use crate::memory::{MAX_CAPACITY, MIN_CAPACITY, Memory};
use crate::producer::Producer;

/// A ring in the heap of this process, shared by its two ends.
pub struct HeapMemory {
    ring: Arc<Ring>,
    mask: u64,
}

struct Ring {
    producer: ControlBlock,
    consumer: ControlBlock,
    words: Box<[UnsafeCell<u64>]>,
}

// SAFETY: a word is written only between its release and its publication, and read only between its
// publication and its release, each by one end; the cursors order the two.
unsafe impl Sync for Ring {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Ring {}

impl fmt::Debug for HeapMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapMemory")
            .field("capacity", &(self.mask + 1))
            .finish_non_exhaustive()
    }
}

/// A ring of `capacity` bytes between two threads, or a signal handler and a thread.
///
/// The ends neither allocate nor lock after this. Wake-ups are the caller's: see
/// [`Producer::publish`] and [`Consumer::arm`].
///
/// # Panics
///
/// If `capacity` is not a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`].
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut producer, mut consumer) = sinew_ring::channel(1024);
/// std::thread::spawn(move || {
///     producer.stage(1, b"hello").unwrap();
///     let _nobody_sleeps = producer.publish();
/// })
/// .join()
/// .unwrap();
///
/// let mut span = Vec::new();
/// let len = consumer.copy_span(&mut span, 1024)?;
/// let frames: Vec<_> = sinew_ring::Frames::new(&span).collect();
/// assert_eq!(frames, [(1, &b"hello"[..])]);
/// let _nobody_waits = consumer.release_span(len as u64);
/// # Ok(())
/// # }
/// ```
pub fn channel(capacity: u64) -> (Producer<HeapMemory>, Consumer<HeapMemory>) {
    assert!(
        capacity.is_power_of_two() && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity),
        "a ring's capacity is a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}, not {capacity}"
    );
    let ring = Arc::new(Ring {
        producer: ControlBlock::new(),
        consumer: ControlBlock::new(),
        words: (0..capacity / 8).map(|_| UnsafeCell::new(0)).collect(),
    });
    let mask = capacity - 1;
    // SAFETY: the memory is fresh, and this is its only producer.
    let producer = unsafe {
        Producer::new(HeapMemory {
            ring: ring.clone(),
            mask,
        })
    };
    // SAFETY: the memory is fresh, and this is its only consumer.
    let consumer = unsafe { Consumer::new(HeapMemory { ring, mask }) };
    (producer, consumer)
}

impl HeapMemory {
    /// The same memory, for an end that takes another's place.
    #[cfg(loom)]
    #[cfg(test)]
    pub(crate) fn again(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            mask: self.mask,
        }
    }

    #[inline]
    fn word(&self, position: u64) -> &UnsafeCell<u64> {
        &self.ring.words[((position & self.mask) / 8) as usize]
    }
}

// SAFETY: blocks and words live in the `Arc`; every index is reduced by the mask.
unsafe impl Memory for HeapMemory {
    #[inline]
    fn producer(&self) -> &ControlBlock {
        &self.ring.producer
    }

    #[inline]
    fn consumer(&self) -> &ControlBlock {
        &self.ring.consumer
    }

    #[inline]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    unsafe fn write(&self, position: u64, bytes: &[u8]) {
        let mut at = position;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at).with_mut(|cell| {
                // SAFETY: by the caller's contract the word is the producer's alone. A frame's
                // padding belongs to the frame, so writing the whole word is in its range.
                unsafe { cell.write(u64::from_ne_bytes(word)) }
            });
            at += 8;
        }
    }

    #[inline]
    unsafe fn read(&self, position: u64, to: *mut u8, len: usize) {
        // A part of a frame may begin inside a word.
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let within = (at % 8) as usize;
            let count = (8 - within).min(len - done);
            // SAFETY: published and unreleased by the caller's contract, so nobody writes it.
            let word = self
                .word(at)
                .with(|cell| unsafe { cell.read() })
                .to_ne_bytes();
            // SAFETY: `done < len`, and `to` is valid for `len` bytes.
            let to = unsafe { to.add(done) };
            // SAFETY: `within + count <= 8`, and `count` bytes are left of `len`.
            unsafe { core::ptr::copy_nonoverlapping(word[within..].as_ptr(), to, count) };
            done += count;
        }
    }

    #[inline]
    unsafe fn write_header(&self, position: u64, header: Header) {
        // SAFETY: by the caller's contract the word is the producer's alone.
        self.word(position)
            .with_mut(|cell| unsafe { cell.write(header.to_word()) });
    }

    #[inline]
    unsafe fn read_header(&self, position: u64) -> Header {
        // SAFETY: published and unreleased by the caller's contract, so nobody writes it.
        Header::from_word(self.word(position).with(|cell| unsafe { cell.read() }))
    }

    fn contiguous(&self, _position: u64) -> Option<NonNull<u8>> {
        None
    }
}
