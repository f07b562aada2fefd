//! The end that writes frames.
#![allow(unsafe_code, reason = "writes through the memory's raw accessors")]

use core::ptr::NonNull;

use crate::control::{ControlBlock, State, must_ring};
use crate::corruption::Corruption;
use crate::frame::{HEADER_SIZE, Header, frame_size, max_payload};
use crate::loom::sync::Ordering;
use crate::memory::Memory;

/// The longest payload that goes by express, bytes.
pub(crate) const EXPRESS_MAX: usize = 8 * (ControlBlock::EXPRESS_WORDS - 1);

/// The last position at which a ring is resumed, which none comes to in practice.
pub(crate) const LATEST: u64 = 1 << 62;

/// Why a frame was not staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// No room now; there will be once the consumer has released some.
    Full,
    /// More than the ring can ever hold.
    TooLarge,
    /// The consumer broke the protocol.
    Corrupted(Corruption),
}

impl From<Corruption> for PushError {
    fn from(corruption: Corruption) -> Self {
        PushError::Corrupted(corruption)
    }
}

/// The end that writes frames: stages them, then publishes what it has staged at once.
///
/// # Waiting for room
///
/// ```text
/// loop {
///     if producer.has_room(len)? { break }
///     producer.arm(producer.cursor_for(len), barrier);
///     if producer.has_room(len)? { producer.disarm(); break }
///     park until the consumer rings;
///     producer.disarm();
/// }
/// ```
///
/// Either the look after [`arm`](Self::arm) sees the room, or the consumer sees the armed word when
/// it releases that room and is told to ring, exactly once. See the [crate's proof](crate#waking).
/// `barrier` is what the consumer's [`Fence`](crate::Fence) asks for.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    capacity: u64,
    /// End of what is staged; `published <= staged <= released + capacity`.
    staged: u64,
    published: u64,
    /// The consumer's cursor as last seen; at or behind the true one.
    released: u64,
    express: bool,
    /// The consumer's wait word that was last answered with a ring.
    rung: u64,
}

impl<M: Memory> Producer<M> {
    /// A cursor that no consumer comes to.
    pub const NEVER: u64 = !ControlBlock::FLAGS;

    /// The producing end of a fresh ring, in which nothing was published yet.
    ///
    /// # Safety
    ///
    /// This is the only producer in this memory, and both cursors are zero (a consumer's that is
    /// not is found out as [`Corruption`]).
    pub unsafe fn new(memory: M) -> Self {
        let capacity = memory.capacity();
        Self {
            memory,
            capacity,
            staged: 0,
            published: 0,
            released: 0,
            express: true,
            rung: 0,
        }
    }

    /// The producing end of a ring that another one, which is no more, has left in any state.
    ///
    /// What that had published stays published, the last frame included, even if it went by express and did not
    /// come into the ring any more. What it had merely staged is gone.
    ///
    /// # Errors
    ///
    /// Cursors, or an express frame, that no end would have left.
    ///
    /// # Safety
    ///
    /// This is the only producer in this memory.
    pub unsafe fn resume(memory: M) -> Result<Self, Corruption> {
        let capacity = memory.capacity();
        let released = memory.consumer().cursor();
        let word = memory.producer().cursor();
        let published = word & !ControlBlock::FLAGS;
        let is_express = word - published == ControlBlock::EXPRESS;
        if !released.is_multiple_of(8) || released > published {
            return Err(Corruption::ConsumerCursor {
                found: released,
                least: 0,
                most: published,
            });
        }
        if published - released > capacity
            || published > LATEST
            || !(is_express || word == published)
        {
            return Err(Corruption::ProducerCursor {
                found: word,
                least: released,
                most: released.saturating_add(capacity),
            });
        }
        if is_express {
            let block = memory.producer();
            // Nobody else writes there, if all is well.
            let Some(header) = block.express_header(word) else {
                return Err(Corruption::ProducerCursor {
                    found: word,
                    least: released,
                    most: published,
                });
            };
            let size = frame_size(u64::from(header.len));
            if header.len as usize > EXPRESS_MAX || size > published {
                return Err(Corruption::FrameLength {
                    found: u64::from(header.len),
                    published,
                });
            }
            let start = published - size;
            // SAFETY: a consumer reads it there only after the flag is gone, and the space is still that of
            // the last frame, whether that was released or not, as no other was staged after it.
            unsafe { memory.write_header(start, header) };
            let words = (header.len as usize).div_ceil(8);
            for (at, word) in block.express_body().iter().take(words).enumerate() {
                let position = start + HEADER_SIZE + 8 * at as u64;
                let word = word.load(Ordering::Relaxed).to_ne_bytes();
                // SAFETY: likewise; the padding belongs to the frame.
                unsafe { memory.write(position, &word) };
            }
            memory.producer().set_cursor(published);
        }
        Ok(Self {
            memory,
            capacity,
            staged: published,
            published,
            released,
            express: true,
            rung: 0,
        })
    }

    /// Sets whether [`send`](Self::send) may write a short frame beside the cursor: true, unless
    /// this is called. A consumer that does not know of that must not get any.
    pub fn set_express(&mut self, express: bool) {
        self.express = express;
    }

    /// The ring's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes published or staged, as a count since the ring began.
    #[inline]
    pub fn position(&self) -> u64 {
        self.staged
    }

    /// The consumer's position as last seen.
    #[inline]
    pub fn released(&self) -> u64 {
        self.released
    }

    /// Looks up how far the consumer has come.
    ///
    /// # Errors
    ///
    /// A cursor that went back, or past what was published.
    pub fn refresh(&mut self) -> Result<u64, Corruption> {
        let found = self.memory.consumer().cursor();
        if found < self.released || found > self.published || !found.is_multiple_of(8) {
            return Err(Corruption::ConsumerCursor {
                found,
                least: self.released,
                most: self.published,
            });
        }
        self.released = found;
        Ok(found)
    }

    #[inline]
    fn free(&self) -> u64 {
        self.capacity - (self.staged - self.released)
    }

    /// Whether a payload of `len` bytes fits now.
    ///
    /// # Errors
    ///
    /// A consumer's cursor that contradicts what this end knows.
    #[inline]
    pub fn has_room(&mut self, len: usize) -> Result<bool, Corruption> {
        let need = frame_size(len as u64);
        if need <= self.free() {
            return Ok(true);
        }
        self.refresh()?;
        Ok(need <= self.free())
    }

    /// Stages a frame; nobody sees it before [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// The frame does not fit now, or never, or the consumer broke the protocol; nothing was staged.
    #[inline]
    pub fn stage(&mut self, kind: u32, payload: &[u8]) -> Result<(), PushError> {
        let header = self.admit(kind, payload.len())?;
        // SAFETY: `admit` saw that the frame fits in released, unpublished space.
        unsafe { self.memory.write_header(self.staged, header) };
        // SAFETY: likewise; the payload follows the header.
        unsafe { self.memory.write(self.staged + HEADER_SIZE, payload) };
        self.staged += frame_size(u64::from(header.len));
        Ok(())
    }

    /// Stages a frame and publishes it, with all that was staged before. True if the consumer must be
    /// rung.
    ///
    /// A short frame, before which nothing is staged, goes by *express*: it is written beside the cursor
    /// first, so that a consumer which waits for it gets both at once, and into the ring after that.
    ///
    /// # Errors
    ///
    /// As for [`stage`](Self::stage); nothing was staged or published.
    #[must_use = "true means that the consumer sleeps and must be rung"]
    #[inline]
    pub fn send(&mut self, kind: u32, payload: &[u8]) -> Result<bool, PushError> {
        if payload.len() > EXPRESS_MAX || self.has_staged() || !self.express {
            self.stage(kind, payload)?;
            return Ok(self.publish());
        }
        let header = self.admit(kind, payload.len())?;
        let end = self.staged + frame_size(u64::from(header.len));
        self.memory
            .producer()
            .set_express(self.published, end, header, payload);
        self.published = end;
        let ring = self.must_ring();
        // For the consumer that comes too late for the express words: the next use of this end, by which
        // they change, comes after this.
        // SAFETY: `admit` saw that the frame fits in released space. It is published already, but a consumer
        // reads it there only after the cursor has changed once more.
        unsafe { self.memory.write_header(self.staged, header) };
        // SAFETY: likewise; the payload follows the header.
        unsafe { self.memory.write(self.staged + HEADER_SIZE, payload) };
        self.staged = end;
        Ok(ring)
    }

    /// Stages the frames that were collected, with one copy.
    ///
    /// Each cache line of the ring is then written once and as a whole, which is several times faster than
    /// frame by frame when the consumer follows closely: its prefetcher would take each line away between
    /// two frames that share it.
    ///
    /// # Errors
    ///
    /// As for [`stage`](Self::stage): all of them are staged, or none.
    #[cfg(feature = "alloc")]
    pub fn stage_all(&mut self, frames: &crate::FrameBuffer) -> Result<(), PushError> {
        let size = frames.size() as u64;
        if size > self.capacity {
            return Err(PushError::TooLarge);
        }
        if size > self.free() {
            self.refresh()?;
            if size > self.free() {
                return Err(PushError::Full);
            }
        }
        // SAFETY: the lines above saw that it fits in released, unpublished space.
        unsafe { self.memory.write(self.staged, frames.as_bytes()) };
        self.staged += size;
        Ok(())
    }

    /// Space in the ring for a payload of `len` bytes, to be written in place.
    ///
    /// `None` if this memory cannot lend contiguous space. The space is this end's own until a later
    /// `stage` or `reserve` hands it out again; [`commit`](Self::commit) makes a frame of it.
    ///
    /// # Errors
    ///
    /// As for [`stage`](Self::stage).
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Option<NonNull<[u8]>>, PushError> {
        self.admit(0, len)?;
        let start = self.memory.contiguous(self.staged + HEADER_SIZE);
        Ok(start.map(|start| NonNull::slice_from_raw_parts(start, len)))
    }

    /// Stages the first `len` bytes of the space that [`reserve`](Self::reserve) gave.
    ///
    /// # Errors
    ///
    /// As for [`stage`](Self::stage), but not for the length that was reserved or less.
    #[inline]
    pub fn commit(&mut self, kind: u32, len: usize) -> Result<(), PushError> {
        let header = self.admit(kind, len)?;
        // SAFETY: `admit` saw that the frame fits in released, unpublished space.
        unsafe { self.memory.write_header(self.staged, header) };
        self.staged += frame_size(u64::from(header.len));
        Ok(())
    }

    #[inline]
    fn admit(&mut self, kind: u32, len: usize) -> Result<Header, PushError> {
        if len as u64 > max_payload(self.capacity) {
            return Err(PushError::TooLarge);
        }
        if !self.has_room(len)? {
            return Err(PushError::Full);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most the capacity, 2^31"
        )]
        Ok(Header {
            len: len as u32,
            kind,
        })
    }

    /// Whether something is staged that [`publish`](Self::publish) would show.
    #[inline]
    pub fn has_staged(&self) -> bool {
        self.staged != self.published
    }

    /// Shows the consumer all that is staged. True if it must be rung.
    #[must_use = "true means that the consumer sleeps and must be rung"]
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.staged == self.published {
            return false;
        }
        self.memory.producer().set_cursor_fenced(self.staged);
        self.published = self.staged;
        self.must_ring()
    }

    #[inline]
    fn must_ring(&mut self) -> bool {
        let word = self.memory.consumer().wait_word();
        must_ring(word, self.published, &mut self.rung)
    }

    /// The consumer's cursor from which on there is room for a payload of `len` bytes.
    #[inline]
    pub fn cursor_for(&self, len: usize) -> u64 {
        (self.staged + frame_size(len as u64)).saturating_sub(self.capacity)
    }

    /// Announces that this end is about to park until the consumer's cursor has come to `cursor`,
    /// see
    /// [`cursor_for`](Self::cursor_for), or the consumer closes. [`NEVER`](Self::NEVER) is for the latter alone.
    ///
    /// `barrier` is executed after the announcement, and before this end looks again: a barrier for
    /// the consumer's processor, if that has [`Fence::Asymmetric`](crate::Fence::Asymmetric),
    /// otherwise nothing.
    #[inline]
    pub fn arm<T>(&mut self, cursor: u64, barrier: impl FnOnce() -> T) -> T {
        self.memory.producer().arm(cursor & !ControlBlock::FLAGS);
        barrier()
    }

    /// Takes [`arm`](Self::arm) back.
    pub fn disarm(&mut self) {
        self.memory.producer().disarm();
    }

    /// Publishes what is staged and declares the end. True if the consumer must be rung.
    #[must_use = "true means that the consumer sleeps and must be rung"]
    pub fn close(&mut self, state: State) -> bool {
        self.memory.producer().set_cursor_fenced(self.staged);
        self.published = self.staged;
        self.memory.producer().set_state(state);
        let word = self.memory.consumer().wait_word();
        // The end wakes a consumer whatever it waits for.
        must_ring(word, u64::MAX, &mut self.rung)
    }

    /// What the consumer says of itself.
    ///
    /// # Errors
    ///
    /// A word that is no state.
    pub fn peer_state(&self) -> Result<State, Corruption> {
        match self.memory.consumer().state() {
            // A consumer has nothing that it could have left unfinished.
            None | Some(State::Dropped) => Err(Corruption::State),
            Some(state) => Ok(state),
        }
    }
}
