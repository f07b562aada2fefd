//! What the messages contain: something else in each, and checked to the last byte.

use crate::stage::Error;

/// Bytes of a small message.
pub(crate) const SMALL: usize = 64;

fn words(number: u64) -> impl Iterator<Item = [u8; 8]> {
    (0_u64..).map(move |index| (number ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
}

/// Writes the content of message `number`.
pub(crate) fn fill(bytes: &mut [u8], number: u64) {
    for (to, word) in bytes.chunks_exact_mut(8).zip(words(number)) {
        to.copy_from_slice(&word);
    }
}

/// A small message.
pub(crate) fn small(number: u64) -> [u8; SMALL] {
    let mut bytes = [0; SMALL];
    fill(&mut bytes, number);
    bytes
}

/// Checks that this is message `number`, `len` bytes long.
pub(crate) fn check(bytes: &[u8], len: usize, number: u64) -> Result<(), Error> {
    let same = bytes
        .chunks_exact(8)
        .zip(words(number))
        .all(|(from, word)| from == word);
    if same && bytes.len() == len {
        return Ok(());
    }
    Err(format!("message {number} is wrong").into())
}

/// What the second process answers to a message: every bit turned over.
pub(crate) fn answer(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

/// Checks the answer to message `number`.
pub(crate) fn check_answer(answered: &mut [u8], len: usize, number: u64) -> Result<(), Error> {
    answer(answered);
    check(answered, len, number)
}

/// The number at the start of a message.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, Error> {
    let start = bytes.first_chunk().ok_or("a message is too short")?;
    Ok(u64::from_le_bytes(*start))
}
