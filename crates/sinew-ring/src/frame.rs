//! Frames: an eight-byte header, a payload, padding to eight.

/// Bytes before a payload.
pub const HEADER_SIZE: u64 = 8;
/// Frames begin at multiples of this many bytes.
pub const FRAME_ALIGN: u64 = 8;

/// A frame's header as it lies in the ring: a little-endian `u64`, length in the low half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Payload bytes.
    pub len: u32,
    /// What the payload is; the ring does not care.
    pub kind: u32,
}

impl Header {
    /// The header as the ring's word.
    #[inline]
    pub const fn to_word(self) -> u64 {
        (((self.kind as u64) << 32) | self.len as u64).to_le()
    }

    /// The header that a ring's word says.
    #[inline]
    pub const fn from_word(word: u64) -> Self {
        let word = u64::from_le(word);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half is the length"
        )]
        Self {
            len: word as u32,
            kind: (word >> 32) as u32,
        }
    }
}

/// Bytes that a payload of `len` takes in the ring.
#[inline]
pub const fn frame_size(len: u64) -> u64 {
    (HEADER_SIZE + len + FRAME_ALIGN - 1) & !(FRAME_ALIGN - 1)
}

/// The longest payload that a ring of `capacity` bytes can ever hold.
#[inline]
pub const fn max_payload(capacity: u64) -> u64 {
    capacity - HEADER_SIZE
}

/// A published frame that the consumer has validated but not yet released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub(crate) position: u64,
    pub(crate) header: Header,
}

impl Frame {
    /// Payload bytes.
    #[inline]
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty frame is still a frame"
    )]
    pub fn len(&self) -> usize {
        self.header.len as usize
    }

    /// What the payload is.
    #[inline]
    pub fn kind(&self) -> u32 {
        self.header.kind
    }

    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.position + frame_size(u64::from(self.header.len))
    }
}

/// The frames in a private copy of a span of the ring, made by
/// [`Consumer::copy_span`](crate::Consumer::copy_span).
///
/// Yields kind and payload; stops before a frame that the span holds only in part.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads `span`, which begins with a frame's header.
    pub fn new(span: &'a [u8]) -> Self {
        Self { rest: span }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (u32, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (word, after) = self.rest.split_first_chunk::<8>()?;
        let header = Header::from_word(u64::from_ne_bytes(*word));
        let payload = after.get(..header.len as usize)?;
        let size = usize::try_from(frame_size(u64::from(header.len))).ok()?;
        self.rest = self.rest.get(size..).unwrap_or_default();
        Some((header.kind, payload))
    }
}

/// Frames collected in private memory, for [`Producer::stage_all`](crate::Producer::stage_all).
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Default)]
pub struct FrameBuffer {
    bytes: alloc::vec::Vec<u8>,
    count: usize,
    payload: usize,
}

#[cfg(feature = "alloc")]
impl FrameBuffer {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: alloc::vec::Vec::new(),
            count: 0,
            payload: 0,
        }
    }

    /// Adds a frame.
    ///
    /// # Panics
    ///
    /// If the payload has 4 GiB or more.
    #[inline]
    pub fn push(&mut self, kind: u32, payload: &[u8]) {
        assert!(
            payload.len() < u32::MAX as usize,
            "a frame's length has 32 bits"
        );
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        let len = payload.len() as u32;
        let word = Header { len, kind }.to_word();
        self.bytes.extend_from_slice(&word.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        let padded = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(padded, 0);
        self.count += 1;
        self.payload += payload.len();
    }

    /// Bytes of all payloads together.
    pub fn payload_size(&self) -> usize {
        self.payload
    }

    /// Bytes that the frames take in the ring.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes the frames, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.payload = 0;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
