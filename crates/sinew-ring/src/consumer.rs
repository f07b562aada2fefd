//! The end that reads frames.
#![allow(unsafe_code, reason = "reads through the memory's raw accessors")]

use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::control::{ControlBlock, Fence, State, must_ring};
use crate::corruption::Corruption;
use crate::frame::{FRAME_ALIGN, Frame, HEADER_SIZE, Header, frame_size};
use crate::loom::sync::{AtomicU64, Ordering};
use crate::memory::Memory;
use crate::producer::{EXPRESS_MAX, LATEST};

/// The end that reads frames: looks at the oldest, copies it out, releases it.
///
/// Every shared word is loaded once and checked against what this end knows; a producer that lies
/// yields [`Corruption`] and never an access out of bounds.
///
/// Waiting for a frame is the mirror image of [waiting for room](crate::Producer#waiting-for-room),
/// with [`peek`](Self::peek) as the look.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    capacity: u64,
    /// Start of the oldest frame not yet released.
    head: u64,
    /// The producer's cursor as last seen; at or behind the true one.
    published: u64,
    /// Where the frame begins that `express` is about; older ones are in the ring.
    express_at: u64,
    express: Express,
    fence: Fence,
    /// The producer's wait word that was last answered with a ring.
    rung: u64,
}

/// A frame in the producer's express words.
#[derive(Debug, Clone, Copy, Default)]
struct Express {
    /// The producer's cursor with which it is there.
    word: u64,
    /// As it was then; checked.
    header: Header,
}

/// Copies what `words` hold from byte `offset` on, while the producer may be writing them: each
/// word is one load.
#[inline(always)]
fn copy_words(words: &[AtomicU64], offset: usize, to: &mut [MaybeUninit<u8>]) {
    let load = |word: &AtomicU64| {
        word.load(Ordering::Relaxed)
            .to_ne_bytes()
            .map(MaybeUninit::new)
    };
    let mut words = words.iter().skip(offset / 8);
    let mut to = to;
    if !offset.is_multiple_of(8)
        && let Some(word) = words.next()
    {
        let bytes = &load(word)[offset % 8..];
        let (head, rest) = to.split_at_mut(bytes.len().min(to.len()));
        head.copy_from_slice(&bytes[..head.len()]);
        to = rest;
    }
    let (chunks, tail) = to.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(&mut words) {
        *chunk = load(word);
    }
    if !tail.is_empty()
        && let Some(word) = words.next()
    {
        tail.copy_from_slice(&load(word)[..tail.len()]);
    }
}

impl<M: Memory> Consumer<M> {
    /// The consuming end of a fresh ring, in which nothing was consumed yet.
    ///
    /// # Safety
    ///
    /// This is the only consumer in this memory, and its own cursor is zero.
    pub unsafe fn new(memory: M) -> Self {
        let capacity = memory.capacity();
        Self {
            memory,
            capacity,
            head: 0,
            published: 0,
            express_at: u64::MAX,
            express: Express::default(),
            fence: Fence::Full,
            rung: 0,
        }
    }

    /// The consuming end of a ring that another one, which is no more, has left: it begins with the first frame
    /// that was not released.
    ///
    /// # Errors
    ///
    /// Cursors that no end would have left.
    ///
    /// # Safety
    ///
    /// This is the only consumer in this memory.
    pub unsafe fn resume(memory: M) -> Result<Self, Corruption> {
        let capacity = memory.capacity();
        let head = memory.consumer().cursor();
        let published = memory.producer().cursor() & !ControlBlock::FLAGS;
        if !head.is_multiple_of(8) || head > published {
            return Err(Corruption::ConsumerCursor {
                found: head,
                least: 0,
                most: published,
            });
        }
        if published - head > capacity || published > LATEST {
            return Err(Corruption::ProducerCursor {
                found: published,
                least: head,
                most: head.saturating_add(capacity),
            });
        }
        Ok(Self {
            memory,
            capacity,
            head,
            published: head,
            express_at: u64::MAX,
            express: Express::default(),
            fence: Fence::Full,
            rung: 0,
        })
    }

    /// Sets how a release is ordered before the look at the producer's wait word: [`Fence::Full`],
    /// unless this is called.
    pub fn set_fence(&mut self, fence: Fence) {
        self.fence = fence;
    }

    /// The ring's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes consumed since the ring began.
    #[inline]
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Whether a frame is there, without validating it.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.head != self.published
            || self.memory.producer().cursor() & !ControlBlock::FLAGS != self.head
    }

    #[inline]
    fn refresh(&mut self) -> Result<(), Corruption> {
        if self.express_at == self.head {
            // The oldest frame is known, and stays the oldest until it is released.
            return Ok(());
        }
        let word = self.memory.producer().cursor();
        let found = word & !ControlBlock::FLAGS;
        let most = self.head.saturating_add(self.capacity);
        let is_express = word - found == ControlBlock::EXPRESS;
        if found < self.published || found > most || !(is_express || word == found) {
            return Err(self.bad_cursor(word));
        }
        if is_express
            && found != self.head
            && let Some(header) = self.memory.producer().express_header(word)
        {
            return self.take_express(word, header);
        }
        self.published = found;
        Ok(())
    }

    #[cold]
    fn bad_cursor(&self, found: u64) -> Corruption {
        Corruption::ProducerCursor {
            found,
            least: self.published,
            most: self.head.saturating_add(self.capacity),
        }
    }

    /// The last frame, which ends where `word` says, is in the express words, and perhaps not yet in the ring.
    #[inline]
    fn take_express(&mut self, word: u64, header: Header) -> Result<(), Corruption> {
        let (found, len) = (word & !ControlBlock::FLAGS, u64::from(header.len));
        if frame_size(len) == found - self.head && len <= EXPRESS_MAX as u64 {
            self.express_at = self.head;
            self.express = Express { word, header };
            self.published = found;
            return Ok(());
        }
        self.step_before_express(found, len)
    }

    #[cold]
    fn step_before_express(&mut self, found: u64, len: u64) -> Result<(), Corruption> {
        match found.checked_sub(frame_size(len)) {
            // Frames before it come first.
            Some(start) if start > self.head && start >= self.published => {
                self.published = start;
                Ok(())
            }
            _ => Err(Corruption::FrameLength {
                found: len,
                published: found - self.head,
            }),
        }
    }

    /// The oldest frame, or `None` if there is none now.
    ///
    /// # Errors
    ///
    /// A cursor out of range, or a frame that reaches past what was published.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Frame>, Corruption> {
        if self.head == self.published {
            self.refresh()?;
            if self.head == self.published {
                return Ok(None);
            }
        }
        let header = if self.express_at == self.head {
            self.express.header
        } else {
            // SAFETY: at least eight published, unreleased bytes lie at `head`, both being multiples of
            // eight.
            unsafe { self.memory.read_header(self.head) }
        };
        let available = self.published - self.head;
        if frame_size(u64::from(header.len)) > available {
            return Err(Corruption::FrameLength {
                found: u64::from(header.len),
                published: available,
            });
        }
        Ok(Some(Frame {
            position: self.head,
            header,
        }))
    }

    /// Copies a part of the frame's payload out, beginning at byte `offset`.
    ///
    /// # Panics
    ///
    /// If the part reaches past the frame, or the frame was released.
    #[inline(always)]
    pub fn copy_part(&self, frame: &Frame, offset: usize, to: &mut [MaybeUninit<u8>]) {
        assert!(
            self.is_oldest(frame) && offset <= frame.len() && to.len() <= frame.len() - offset,
            "a part must lie in the oldest frame"
        );
        if frame.position == self.express_at {
            let producer = self.memory.producer();
            copy_words(producer.express_body(), offset, to);
            if producer.is_still(self.express.word) {
                return;
            }
            // The producer has sent more since, and put this frame into the ring before that.
        }
        // SAFETY: `peek` validated the frame, it is not released, and the part lies inside it.
        unsafe {
            self.memory.read(
                self.head + HEADER_SIZE + offset as u64,
                to.as_mut_ptr().cast(),
                to.len(),
            );
        }
    }

    /// Copies a part of the frame's payload out, beginning at byte `offset`.
    ///
    /// # Panics
    ///
    /// As for [`copy_part`](Self::copy_part).
    #[inline]
    pub fn copy_to(&self, frame: &Frame, offset: usize, to: &mut [u8]) {
        let uninit: *mut [u8] = to;
        // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and `copy_part` only initialises.
        self.copy_part(frame, offset, unsafe {
            &mut *(uninit as *mut [MaybeUninit<u8>])
        });
    }

    /// Appends a copy of the frame's payload.
    ///
    /// # Panics
    ///
    /// If the frame was released.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub fn append_to(&self, frame: &Frame, to: &mut alloc::vec::Vec<u8>) {
        let (start, len) = (to.len(), frame.len());
        to.reserve(len);
        self.copy_part(frame, 0, &mut to.spare_capacity_mut()[..len]);
        // SAFETY: the line above initialised them.
        unsafe { to.set_len(start + len) };
    }

    /// Where the frame's payload lies until it is released, if this memory keeps it contiguous, and it does not lie
    /// beside the cursor, where the next takes its place.
    ///
    /// The bytes may change under the reader's eyes unless the producer is trusted.
    pub fn payload(&self, frame: &Frame) -> Option<NonNull<[u8]>> {
        if frame.position == self.express_at {
            return None;
        }
        let start = self.memory.contiguous(frame.position + HEADER_SIZE)?;
        Some(NonNull::slice_from_raw_parts(start, frame.len()))
    }

    /// Appends a copy of what is published, `most` bytes at most, for [`Frames`](crate::Frames) to
    /// read; releases nothing.
    ///
    /// Once copied, the bytes cannot change any more, so that a walk over them sees one truth.
    ///
    /// # Errors
    ///
    /// A cursor out of range.
    #[cfg(feature = "alloc")]
    pub fn copy_span(
        &mut self,
        to: &mut alloc::vec::Vec<u8>,
        most: usize,
    ) -> Result<usize, Corruption> {
        self.refresh()?;
        let available = usize::try_from(self.published - self.head).unwrap_or(usize::MAX);
        if self.express_at == self.head && available > 0 {
            let frame = Frame {
                position: self.head,
                header: self.express.header,
            };
            if available > most {
                return Ok(0);
            }
            let start = to.len();
            to.extend_from_slice(&frame.header.to_word().to_ne_bytes());
            self.append_to(&frame, to);
            to.resize(start + available, 0);
            return Ok(available);
        }
        let len = available.min(most) & !7;
        to.reserve(len);
        let start = to.len();
        let room = to.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: `len` bytes at `head` are published and unreleased, and `reserve` made room.
        unsafe { self.memory.read(self.head, room, len) };
        // SAFETY: the line above initialised them.
        unsafe { to.set_len(start + len) };
        Ok(len)
    }

    /// Whether `size` bytes from the oldest frame on would be [`release_span`](Self::release_span)'s
    /// to release.
    fn holds(&self, size: u64) -> bool {
        size.is_multiple_of(8) && size <= self.published - self.head
    }

    /// Whether it is this consumer's oldest frame, or one that would do no harm in its place: with nothing of it beyond
    /// what is published.
    #[inline]
    fn is_oldest(&self, frame: &Frame) -> bool {
        frame.position == self.head && self.holds(frame.end() - frame.position)
    }

    /// Gives the frame's space back. True if the producer sleeps and must be rung.
    ///
    /// # Panics
    ///
    /// If the frame is not the oldest.
    #[must_use = "true means that the producer sleeps and must be rung"]
    #[inline]
    pub fn release(&mut self, frame: Frame) -> bool {
        assert!(self.is_oldest(&frame), "frames are released in order");
        self.advance(frame.end())
    }

    /// Gives back the space of whole frames, `size` bytes in all. True if the producer must be rung.
    ///
    /// # Panics
    ///
    /// If that is more than was seen to be published.
    #[must_use = "true means that the producer sleeps and must be rung"]
    pub fn release_span(&mut self, size: u64) -> bool {
        assert!(self.holds(size), "only published bytes are released");
        self.advance(self.head + size)
    }

    #[inline]
    fn advance(&mut self, head: u64) -> bool {
        self.head = head;
        match self.fence {
            Fence::Asymmetric => self.memory.consumer().set_cursor_light(head),
            Fence::Full => self.memory.consumer().set_cursor_fenced(head),
        }
        let word = self.memory.producer().wait_word();
        must_ring(word, head, &mut self.rung)
    }

    /// Announces that this end is about to park until a frame comes.
    pub fn arm(&mut self) {
        // The next frame moves the producer's cursor at least so far.
        self.memory.consumer().arm(self.head + FRAME_ALIGN);
    }

    /// Takes [`arm`](Self::arm) back.
    pub fn disarm(&mut self) {
        self.memory.consumer().disarm();
    }

    /// Declares the end. True if the producer must be rung.
    #[must_use = "true means that the producer sleeps and must be rung"]
    pub fn close(&mut self, state: State) -> bool {
        self.memory.consumer().set_cursor_fenced(self.head);
        self.memory.consumer().set_state(state);
        let word = self.memory.producer().wait_word();
        // The end wakes a producer whatever it waits for.
        must_ring(word, u64::MAX, &mut self.rung)
    }

    /// What the producer says of itself. Frames published before it closed are still to be read:
    /// look at the state first, then [`peek`](Self::peek).
    ///
    /// # Errors
    ///
    /// A word that is no state.
    pub fn peer_state(&self) -> Result<State, Corruption> {
        self.memory.producer().state().ok_or(Corruption::State)
    }
}
