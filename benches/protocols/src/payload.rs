//! What travels: 64 bytes that each writer fills afresh and each reader compares in full.

/// Bytes of a payload.
pub(crate) const LEN: usize = 64;

const LAST: u64 = 1 << 63;
const WARM: u64 = 1 << 62;
const REPLY: u64 = 1 << 61;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The first word of a payload, from which the others follow: the number of the round trip, and
/// the phase of the run that it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The stamp of request `number`.
    pub(crate) fn request(number: u64, warm: bool, last: bool) -> Self {
        Self(number | if warm { WARM } else { 0 } | if last { LAST } else { 0 })
    }

    /// The stamp of the reply to this request.
    pub(crate) fn reply(self) -> Self {
        Self(self.0 | REPLY)
    }

    /// Whether no figure includes the round trip.
    pub(crate) fn is_warm(self) -> bool {
        self.0 & WARM != 0
    }

    /// Whether no request follows.
    pub(crate) fn is_last(self) -> bool {
        self.0 & LAST != 0
    }

    /// The number of the round trip, if this is a request's stamp.
    pub(crate) fn requested(self) -> Option<u64> {
        (self.0 & REPLY == 0).then_some(self.0 & !(LAST | WARM))
    }

    /// Writes the payload of this stamp.
    #[inline]
    pub(crate) fn payload(self) -> [u8; LEN] {
        let mut payload = [0; LEN];
        let (words, _) = payload.as_chunks_mut::<8>();
        let mut value = self.0;
        for word in words {
            *word = value.to_ne_bytes();
            value = value.wrapping_mul(STEP).wrapping_add(STEP);
        }
        payload
    }

    /// Reads `payload` to its last byte and returns its stamp; `None` if a byte differs from what
    /// the stamp's writer writes.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let stamp = Self(u64::from_ne_bytes(*payload.first_chunk()?));
        (stamp.payload() == payload).then_some(stamp)
    }
}
