//! Payloads out of a buffer that is used again and again.

use bytes::Bytes;

/// From this length on a buffer that is at least half full is handed over rather than copied.
const HAND_OVER: usize = 16 << 10;

/// What is in `buffer` from `start` on. The buffer may be empty after it, without its memory.
///
/// A short payload gets memory of its own: it would otherwise keep a buffer alive that is made for the
/// longest message.
pub(crate) fn take(buffer: &mut Vec<u8>, start: usize) -> Bytes {
    let len = buffer.len();
    if len >= HAND_OVER && len >= buffer.capacity() / 2 {
        return Bytes::from(std::mem::take(buffer)).slice(start.min(len)..);
    }
    Bytes::copy_from_slice(buffer.get(start..).unwrap_or_default())
}
