//! Payloads out of a buffer that is used again and again.

use std::ops::Range;

use bytes::Bytes;

/// From this length on a buffer that is at least half full is handed over rather than copied.
const HAND_OVER: usize = 16 << 10;

/// What is in this range of `buffer`, which may be left without its memory.
///
/// A short payload gets memory of its own: it would otherwise keep a buffer alive that is made for the
/// longest message.
pub(crate) fn take(buffer: &mut Vec<u8>, range: Range<usize>) -> Bytes {
    if range.len() >= HAND_OVER && range.len() >= buffer.capacity() / 2 && range.end <= buffer.len()
    {
        return Bytes::from(std::mem::take(buffer)).slice(range);
    }
    Bytes::copy_from_slice(buffer.get(range).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_payloads_are_not_copied() {
        let mut buffer = vec![7; 20_000];
        let at = buffer.as_ptr();
        let bytes = take(&mut buffer, 8..20_000);
        assert_eq!(bytes[..], [7; 19_992]);
        assert_eq!(bytes.as_ptr().addr(), at.addr() + 8);
        assert!(buffer.is_empty());
    }

    #[test]
    fn short_payloads_leave_the_buffer() {
        let mut buffer = vec![7; 40_000];
        for len in [0, 100, 17_000] {
            assert_eq!(take(&mut buffer, 8..8 + len).len(), len);
            assert_eq!(buffer.len(), 40_000);
        }
    }
}
