//! The words through which two ends speak: a cursor, a wait word, a state.

use crate::frame::Header;
use crate::loom::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// How an end describes itself to its peer, in [`ControlBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// In use.
    Open,
    /// Closed on purpose: a producer publishes nothing more, a consumer reads nothing more.
    Closed,
    /// Given up because the peer broke the protocol.
    Aborted,
    /// Of a producer: dropped before it was closed, so that more may have been meant to come.
    Dropped,
}

impl State {
    const fn to_word(self) -> u32 {
        match self {
            State::Open => 0,
            State::Closed => 1,
            State::Aborted => 2,
            State::Dropped => 3,
        }
    }

    /// A word that is none of the four can only come from a peer that breaks the protocol.
    const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(State::Open),
            1 => Some(State::Closed),
            2 => Some(State::Aborted),
            3 => Some(State::Dropped),
            _ => None,
        }
    }
}

/// How a consumer orders its cursor before its look at the producer's wait word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fence {
    /// By a fence of its own with each release.
    #[default]
    Full,
    /// By none: a producer that is about to park executes a barrier on all processors that run this
    /// consumer's process, such as membarrier(2) with `MEMBARRIER_CMD_GLOBAL_EXPEDITED`.
    ///
    /// To be chosen only where the producer [arms](crate::Producer::arm) with such a barrier.
    Asymmetric,
}

/// What one end of a ring writes and its peer only reads.
///
/// The cursor changes with every message, the wait word and the state only around a park and at the
/// end, so the two groups live on cache lines of their own: 128 bytes apart, because x86-64's
/// adjacent-line prefetcher and several AArch64 cores move lines in pairs.
///
/// An all-zero block is valid: a fresh end that has published nothing.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct ControlBlock {
    /// Bytes published (producer) or consumed (consumer) since the ring began; monotonic, a
    /// multiple of eight, never wrapped in practice (at 100 GB/s it lasts five years).
    ///
    /// Of a producer, [`EXPRESS`](Self::EXPRESS) is added while the express words hold the last frame.
    cursor: AtomicU64,
    /// Header and payload of the frame that was published last, if it was sent by express: beside the
    /// cursor, so that a waiting consumer gets both with the same cache lines.
    express: [AtomicU64; Self::EXPRESS_WORDS],
    /// Zero while awake. While the end is about to park or parked: [`ARMED`](Self::ARMED), added to
    /// the peer's cursor that it waits for.
    wait: AtomicU64,
    state: AtomicU32,
    #[cfg(not(loom))]
    _rest: [u8; 116],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<ControlBlock>() == ControlBlock::SIZE);

impl Default for ControlBlock {
    fn default() -> Self {
        Self::new()
    }
}

impl ControlBlock {
    /// Size in shared memory, bytes.
    pub const SIZE: usize = 256;
    /// Alignment in shared memory, bytes.
    pub const ALIGN: usize = 128;
    /// Added to a producer's cursor: the express words hold the last frame.
    pub const EXPRESS: u64 = 1;
    /// Where the cursor is in the block, bytes.
    pub const CURSOR_OFFSET: usize = 0;
    /// The bits of a cursor that are no position.
    pub const FLAGS: u64 = 7;
    /// Added to the cursor in a wait word: this end is about to park, or parked.
    pub const ARMED: u64 = 1;
    /// The header, and what is left of two cache lines.
    pub(crate) const EXPRESS_WORDS: usize = if cfg!(loom) { 2 } else { 15 };

    /// A block for an end that has published nothing.
    pub fn new() -> Self {
        Self {
            cursor: AtomicU64::new(0),
            express: core::array::from_fn(|_| AtomicU64::new(0)),
            wait: AtomicU64::new(0),
            state: AtomicU32::new(0),
            #[cfg(not(loom))]
            _rest: [0; 116],
        }
    }

    #[inline]
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    /// Moves the cursor.
    #[inline]
    pub(crate) fn set_cursor(&self, value: u64) {
        self.cursor.store(value, Ordering::Release);
    }

    /// Moves the cursor and lets the compiler move no later load before that: the first half of the
    /// wake-up protocol, where the second half executes the barrier for both
    /// ([`Fence::Asymmetric`]).
    ///
    /// The model checker has no such barrier. What the kernel promises of it is what a fence on
    /// both sides gives, so a fence stands in for each half there.
    #[inline]
    pub(crate) fn set_cursor_light(&self, value: u64) {
        self.cursor.store(value, Ordering::Release);
        #[cfg(not(loom))]
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(loom)]
        fence(Ordering::SeqCst);
    }

    /// Moves the cursor and orders that before every later load: the first half of the wake-up
    /// protocol.
    ///
    /// A sequentially consistent store is the cheapest full barrier on x86-64 (`xchg`, a third of
    /// an `mfence`) and on AArch64 (`stlr` before `ldar`). The model checker treats it as a release
    /// store, so there the equivalent pair of store and fence stands in for it.
    #[inline]
    pub(crate) fn set_cursor_fenced(&self, value: u64) {
        #[cfg(not(loom))]
        self.cursor.store(value, Ordering::SeqCst);
        #[cfg(loom)]
        {
            self.cursor.store(value, Ordering::Release);
            fence(Ordering::SeqCst);
        }
    }

    /// Publishes a frame beside the cursor, which moves from `from` to `to`, with the order of
    /// [`set_cursor_fenced`](Self::set_cursor_fenced).
    ///
    /// The words are a seqlock with the cursor as its sequence. Before they are written the flag is taken
    /// back, with release semantics: a consumer that finds it gone, or the cursor moved, finds the frame
    /// that was here in the ring.
    #[inline]
    pub(crate) fn set_express(&self, from: u64, to: u64, header: Header, payload: &[u8]) {
        self.cursor.store(from, Ordering::Release);
        fence(Ordering::Release);
        let [head, body @ ..] = &self.express;
        head.store(header.to_word(), Ordering::Relaxed);
        let (words, rest) = payload.as_chunks::<8>();
        for (to, word) in body.iter().zip(words) {
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        if !rest.is_empty()
            && let Some(to) = body.get(words.len())
        {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            to.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        self.set_cursor_fenced(to | Self::EXPRESS);
    }

    /// The header of the frame in the express words; `None` if they changed, or may have, since the cursor was
    /// `word`: every frame up to there is in the ring then.
    #[inline]
    pub(crate) fn express_header(&self, word: u64) -> Option<Header> {
        let header = Header::from_word(self.express[0].load(Ordering::Relaxed));
        self.is_still(word).then_some(header)
    }

    /// The express words after the header, which may change at any time: what was read of them counts only if
    /// [`is_still`](Self::is_still) is true after it.
    #[inline]
    pub(crate) fn express_body(&self) -> &[AtomicU64] {
        &self.express[1..]
    }

    /// Whether the cursor is `word` as it was before the loads that precede this.
    #[inline]
    pub(crate) fn is_still(&self, word: u64) -> bool {
        fence(Ordering::Acquire);
        self.cursor.load(Ordering::Acquire) == word
    }

    /// The wait word, read after [`set_cursor_fenced`](Self::set_cursor_fenced) or
    /// [`set_cursor_light`](Self::set_cursor_light).
    #[inline]
    pub(crate) fn wait_word(&self) -> u64 {
        #[cfg(not(loom))]
        return self.wait.load(Ordering::SeqCst);
        #[cfg(loom)]
        return self.wait.load(Ordering::Relaxed);
    }

    /// Arms the wait word and orders that before every later load: the second half of the wake-up
    /// protocol.
    #[inline]
    pub(crate) fn arm(&self, cursor: u64) {
        let word = cursor | Self::ARMED;
        #[cfg(not(loom))]
        self.wait.store(word, Ordering::SeqCst);
        #[cfg(loom)]
        self.wait.store(word, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn disarm(&self) {
        self.wait.store(0, Ordering::Relaxed);
    }

    /// The state that the end declared, or `None` for a word that no end would write.
    #[inline]
    pub(crate) fn state(&self) -> Option<State> {
        State::from_word(self.state.load(Ordering::Acquire))
    }

    /// Declares the state. A peer that is armed is told by the caller, as after a publication.
    pub(crate) fn set_state(&self, state: State) {
        #[cfg(not(loom))]
        self.state.store(state.to_word(), Ordering::SeqCst);
        #[cfg(loom)]
        self.state.store(state.to_word(), Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

/// Whether the end that armed `word` must be rung, now that the cursor it waits for has come to
/// `cursor`; `rung` is the word that it was last rung for.
#[inline]
pub(crate) fn must_ring(word: u64, cursor: u64, rung: &mut u64) -> bool {
    let is_due =
        word & ControlBlock::ARMED != 0 && word != *rung && cursor >= word & !ControlBlock::FLAGS;
    if is_due {
        *rung = word;
    }
    is_due
}
