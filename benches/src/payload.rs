//! What travels: a payload that its writer fills afresh for each message and its reader sums.
//!
//! A payload is a row of 64-bit words. Word 0 is the [`Stamp`], which numbers the message; the
//! words after it grow by a constant step from a seed that depends on the stamp. So a reader can
//! compute the sum that it must find, and does not need to know what the writer had in mind.

use crate::Result;

const LAST: u64 = 1 << 63;
const WARM: u64 = 1 << 62;
const REPLY: u64 = 1 << 61;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0xd6e8_feb8_6659_fd93;

/// The first word of a message: its number, and the phase of the run that it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The stamp of message `number`, which starts at 1: a zeroed slot holds no message.
    pub(crate) fn new(number: u64, warm: bool, last: bool) -> Self {
        Self(number | if warm { WARM } else { 0 } | if last { LAST } else { 0 })
    }

    /// What the echoing side writes: same number, other content.
    pub(crate) fn reply(self) -> Self {
        Self(self.0 | REPLY)
    }

    pub(crate) fn number(self) -> u64 {
        self.0 & !(LAST | WARM | REPLY)
    }

    pub(crate) fn is_reply(self) -> bool {
        self.0 & REPLY != 0
    }

    /// Whether the message belongs to the warm-up, which no figure includes.
    pub(crate) fn is_warm(self) -> bool {
        self.0 & WARM != 0
    }

    /// Whether no message follows.
    pub(crate) fn is_last(self) -> bool {
        self.0 & LAST != 0
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    fn seed(self) -> u64 {
        self.0.wrapping_mul(SEED)
    }

    /// Word `index` of this message, for interfaces that initialize word by word.
    #[inline]
    pub(crate) fn at(self, index: usize) -> u64 {
        if index == 0 {
            self.0
        } else {
            self.seed().wrapping_add(STEP.wrapping_mul(index as u64))
        }
    }

    /// Writes this message over the whole of `payload`, whose length is a multiple of 8.
    #[inline]
    pub(crate) fn fill(self, payload: &mut [u8]) {
        let (words, _) = payload.as_chunks_mut::<8>();
        if let Some((head, body)) = words.split_first_mut() {
            *head = self.0.to_ne_bytes();
            self.fill_body(body.iter_mut(), |word, value| *word = value.to_ne_bytes());
        }
    }

    /// [`fill`](Self::fill) for words.
    #[inline]
    pub(crate) fn fill_words(self, payload: &mut [u64]) {
        if let Some((head, body)) = payload.split_first_mut() {
            *head = self.0;
            self.fill_body(body.iter_mut(), |word, value| *word = value);
        }
    }

    /// Writes every word but the first, through `store`.
    #[inline]
    pub(crate) fn fill_body<W>(self, body: impl Iterator<Item = W>, store: impl Fn(W, u64)) {
        let mut value = self.seed();
        for word in body {
            value = value.wrapping_add(STEP);
            store(word, value);
        }
    }

    /// The sum of a payload of `words` words with this stamp.
    fn sum(self, words: u64) -> u64 {
        let before = words.saturating_sub(1);
        self.0
            .wrapping_add(self.seed().wrapping_mul(before))
            .wrapping_add(STEP.wrapping_mul(words * before / 2))
    }
}

/// A payload as its reader finds it.
pub(crate) trait Payload {
    /// The first word, the sum of all words, and their number.
    fn survey(&self) -> (u64, u64, u64);
}

impl Payload for [u64] {
    #[inline]
    fn survey(&self) -> (u64, u64, u64) {
        let sum = self.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
        (self.first().copied().unwrap_or(0), sum, self.len() as u64)
    }
}

impl Payload for [u8] {
    #[inline]
    fn survey(&self) -> (u64, u64, u64) {
        let (words, _) = self.as_chunks::<8>();
        let sum = words.iter().fold(0_u64, |sum, word| {
            sum.wrapping_add(u64::from_ne_bytes(*word))
        });
        let first = words.first().map_or(0, |word| u64::from_ne_bytes(*word));
        (first, sum, words.len() as u64)
    }
}

/// Reads every word of `payload`, of `len` bytes, and returns its stamp.
#[inline]
pub(crate) fn read<P: Payload + ?Sized>(payload: &P, len: usize) -> Result<Stamp> {
    let (first, sum, words) = payload.survey();
    let stamp = Stamp(first);
    if words * 8 != len as u64 || sum != stamp.sum(words) {
        return Err(garbled(stamp, sum, words, len));
    }
    Ok(stamp)
}

#[cold]
fn garbled(stamp: Stamp, sum: u64, words: u64, len: usize) -> crate::Error {
    format!(
        "message {} is garbled: {} bytes where {len} were sent, sum {sum:#x} instead of {:#x}",
        stamp.number(),
        words * 8,
        stamp.sum(words)
    )
    .into()
}
