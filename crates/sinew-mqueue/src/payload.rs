//! The memory of payloads.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A shorter payload is copied into memory of its own: that costs less than to share some.
const SHARED: usize = 1024;
/// A payload keeps alive at most so many times its length: one that is shorter is copied, too.
const SHARE: usize = 8;
/// Messages of full length for which memory is allocated at once.
const MESSAGES: usize = 2;
/// Where messages are received, and from where they are handed over. Its memory is used again as soon as
/// nobody has any of the payloads that are in it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: BytesMut,
    /// For what it has been made.
    longest: usize,
}

impl Buffer {
    /// Forgets what is in it, and makes room for `longest` bytes, aligned to `align`.
    #[inline]
    pub(crate) fn prepare(&mut self, longest: usize, align: usize) -> &mut BytesMut {
        self.memory.clear();
        let padding = self.memory.as_ptr().align_offset(align);
        if self.memory.capacity() < padding.saturating_add(longest) {
            self.memory
                .reserve(MESSAGES.saturating_mul(longest).saturating_add(align));
        }
        self.longest = self.longest.max(longest);
        let padding = self.memory.as_ptr().align_offset(align);
        if padding > 0 {
            self.memory.put_bytes(0, padding);
            self.memory.advance(padding);
        }
        &mut self.memory
    }

    /// What was received.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// What was received, without its first `head` bytes.
    pub(crate) fn take(&mut self, head: usize) -> Bytes {
        let payload = self.memory.get(head..).unwrap_or_default();
        if payload.len() < SHARED || payload.len() < MESSAGES * self.longest / SHARE {
            return Bytes::copy_from_slice(payload);
        }
        let mut bytes = self.memory.split().freeze();
        bytes.advance(head);
        bytes
    }
}

/// The payloads that a message can be made of.
macro_rules! from_payload {
    ($message:ty) => {
        from_payload!(
            $message: bytes::Bytes, bytes::BytesMut, Vec<u8>, Box<[u8]>, String, &'static [u8], &'static str
        );
    };
    ($message:ty: $($payload:ty),+) => {
        $(impl From<$payload> for $message {
            fn from(payload: $payload) -> Self {
                Self::new(payload)
            }
        })+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffer: &mut Buffer, longest: usize, len: usize) -> *const u8 {
        let memory = buffer.prepare(longest, 8);
        assert!(memory.is_empty() && memory.capacity() >= longest);
        assert!(memory.as_ptr().addr().is_multiple_of(8));
        memory.put_bytes(7, len);
        memory.as_ptr()
    }

    #[test]
    fn long_payloads_are_not_copied() {
        let mut buffer = Buffer::default();
        for len in [8192, 4096, 4001, 2056] {
            let at = receive(&mut buffer, 8192, len);
            let payload = buffer.take(8);
            assert_eq!(payload.as_ptr().addr(), at.addr() + 8);
            assert_eq!(payload, vec![7; len - 8]);
        }
    }

    #[test]
    fn payloads_that_are_kept_stay_as_they_are() {
        let mut buffer = Buffer::default();
        let kept: Vec<Bytes> = (0..100)
            .map(|_| {
                receive(&mut buffer, 8192, 4096);
                buffer.take(8)
            })
            .collect();
        receive(&mut buffer, 8192, 8192);
        buffer.memory.fill(9);
        assert!(kept.iter().all(|payload| payload == &[7; 4088][..]));
    }

    #[test]
    fn memory_is_used_again() {
        let mut buffer = Buffer::default();
        let mut addresses: Vec<usize> = (0..1000)
            .map(|_| {
                let at = receive(&mut buffer, 8192, 4096);
                assert_eq!(buffer.take(0).len(), 4096);
                at.addr()
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert!(addresses.len() < 10, "{}", addresses.len());
    }

    #[test]
    fn short_payloads_have_memory_of_their_own() {
        let mut buffer = Buffer::default();
        for (longest, len) in [(8192, 0), (8192, 1000), (64, 64), (1 << 20, 100_000)] {
            let at = receive(&mut buffer, longest, len);
            let payload = buffer.take(0);
            assert_eq!(payload, vec![7; len]);
            assert_ne!(payload.as_ptr(), at);
        }
    }
}
