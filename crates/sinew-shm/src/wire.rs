//! The bytes that two ends exchange, without a socket: see `docs/protocol/shm.md`.

use std::fmt;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};
use sinew_memory::Layout;

/// `SINEWSHM`, little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SINEWSHM");
/// The protocol versions that this crate speaks.
pub(crate) const VERSIONS: std::ops::RangeInclusive<u16> = 2..=2;

/// Every handshake packet has this many bytes.
pub(crate) const PACKET: usize = 128;
/// The most descriptors that one packet carries.
pub(crate) const MAX_FDS: usize = 3;

const WORDS: usize = PACKET / 8;
type Words = [u64; WORDS];

/// Packets on the socket once the channel stands, by their first byte.
pub(crate) const PACKET_BELL: u8 = 1;
pub(crate) const PACKET_MEMORY: u8 = 2;
pub(crate) const PACKET_SEGMENT: u8 = 3;

/// Kinds of frames in the ring.
pub(crate) const FRAME_DATA: u32 = 1;
pub(crate) const FRAME_MEMORY: u32 = 2;
pub(crate) const FRAME_SEGMENT: u32 = 3;
pub(crate) const FRAME_SEGMENT_END: u32 = 4;
/// Set in a kind of frame that a receiver which does not know it skips.
pub(crate) const FRAME_SKIPPABLE: u32 = 1 << 31;

/// Where the control blocks lie in an end's memory.
pub(crate) const PRODUCER_OFFSET: usize = 0;
pub(crate) const CONSUMER_OFFSET: usize = 256;
pub(crate) const CONTROL_SIZE: u64 = 4096;

/// The most segments that a sender has at a time, and the most bytes in them.
pub(crate) const MAX_SEGMENTS: usize = 8;
pub(crate) const MAX_SEGMENT_BYTES: usize = 128 << 20;

/// The most messages in memory of their own that may be under way in one direction.
pub(crate) const MAX_MEMORY_IN_FLIGHT: usize = 16;

const HELLO: u32 = 1;
const ACCEPT: u32 = 2;
const READY: u32 = 3;
const REJECT: u32 = 4;
const OPEN: u32 = 5;

/// What an end can do beyond the version, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features(pub(crate) u64);

impl Features {
    /// This end's receiver accepts frames in the express words.
    pub(crate) const EXPRESS: Self = Self(1);
    /// This process is registered with membarrier(2) as global and expedited. Where both are,
    /// receivers do not fence their releases, and a sender executes
    /// `MEMBARRIER_CMD_GLOBAL_EXPEDITED` after it has armed its wait word.
    pub(crate) const MEMBARRIER: Self = Self(1 << 1);
    /// Both ends may wait on an epoll instance that the other made.
    pub(crate) const EPOLL_BELL: Self = Self(1 << 2);
    /// This end's receiver takes messages in segments.
    pub(crate) const SEGMENTS: Self = Self(1 << 3);

    pub(crate) fn express(self) -> bool {
        self.contains(Self::EXPRESS)
    }

    pub(crate) fn membarrier(self) -> bool {
        self.contains(Self::MEMBARRIER)
    }

    pub(crate) fn segments(self) -> bool {
        self.contains(Self::SEGMENTS)
    }

    pub(crate) fn epoll_bell(self) -> bool {
        self.contains(Self::EPOLL_BELL)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The bits by their numbers, with their names where they have one.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for bit in (0..64).filter(|bit| self.0 & 1 << bit != 0) {
            write!(f, "{separator}{bit}")?;
            match Self(1 << bit) {
                Self::EXPRESS => f.write_str(" (express)")?,
                Self::MEMBARRIER => f.write_str(" (membarrier)")?,
                Self::EPOLL_BELL => f.write_str(" (epoll bell)")?,
                Self::SEGMENTS => f.write_str(" (segments)")?,
                _ => {}
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// Why a listener turns a peer away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The protocol versions have none in common.
    Version,
    /// The listener's policy says no.
    Policy,
    /// Too many handshakes are under way.
    Busy,
    /// The peer's packet makes no sense.
    Protocol,
    /// The listener could not make its part: no memory, no descriptors.
    Resources,
    /// The peer requires features that the listener does not have: these.
    Features(Features),
    /// The peer wants another kind of channel, or direction.
    Kind,
    /// The peer's payloads have another type, or alignment.
    Payload,
}

/// What an end says of the channel that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Offered in a hello, chosen afterwards.
    pub(crate) features: Features,
    /// Those without which this end does not go on.
    pub(crate) required: Features,
    pub(crate) kind: u16,
    pub(crate) direction: u16,
    /// The base-two logarithm of the alignment of payloads.
    pub(crate) align: u8,
    /// The type of payloads; 0 for bytes.
    pub(crate) payload: u64,
}

impl Terms {
    /// A pair of rings, one for each direction, with one sender and one receiver each.
    const DUPLEX: u16 = 1;
    const BOTH_WAYS: u16 = 0;
    /// What frames guarantee, which begin at multiples of eight.
    const ALIGN: u8 = 3;
    const MAX_ALIGN: u8 = 12;

    /// Those of a channel of this crate, which carries bytes in both directions.
    pub(crate) fn new(features: Features) -> Self {
        Self {
            features,
            required: Features::default(),
            kind: Self::DUPLEX,
            direction: Self::BOTH_WAYS,
            align: Self::ALIGN,
            payload: 0,
        }
    }

    /// Checks a peer's terms, of which this end has `features`.
    pub(crate) fn check(&self, features: Features) -> Result<(), (Reason, Error)> {
        let unsupported = |reason, text| {
            let error = violation(text).with_kind(ErrorKind::Unsupported);
            Err((reason, error))
        };
        let missing = self.required.without(features);
        if missing != Features::default() {
            let text = format!("the peer requires feature {missing}, which this end does not have");
            return unsupported(Reason::Features(missing), text);
        }
        if (self.kind, self.direction) != (Self::DUPLEX, Self::BOTH_WAYS) {
            let text = format!(
                "the peer wants a channel of kind {} and direction {}; this end makes kind 1, direction 0",
                self.kind, self.direction
            );
            return unsupported(Reason::Kind, text);
        }
        if !(Self::ALIGN..=Self::MAX_ALIGN).contains(&self.align) {
            let text = format!("payloads aligned to 2^{} bytes", self.align);
            return Err((Reason::Protocol, violation(text)));
        }
        if (self.align, self.payload) != (Self::ALIGN, 0) {
            let text = format!(
                "the peer's payloads have type {:#x}, aligned to {} bytes; this end's have type 0, and 8",
                self.payload,
                1u32 << self.align
            );
            return unsupported(Reason::Payload, text);
        }
        Ok(())
    }

    fn encode(&self, words: &mut Words) {
        words[2] = self.features.0;
        words[3] = self.required.0;
        words[4] =
            u64::from(self.kind) | u64::from(self.direction) << 16 | u64::from(self.align) << 32;
        words[5] = self.payload;
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields of the word")]
    fn decode(words: &Words) -> Self {
        Self {
            features: Features(words[2]),
            required: Features(words[3]),
            kind: words[4] as u16,
            direction: (words[4] >> 16) as u16,
            align: (words[4] >> 32) as u8,
            payload: words[5],
        }
    }
}

/// What the connecting end can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) least_version: u16,
    pub(crate) most_version: u16,
    pub(crate) terms: Terms,
}

/// What an end brings: its memory's layout, and the limits of what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) version: u16,
    pub(crate) terms: Terms,
    pub(crate) layout: Layout,
    /// The longest message that this end receives, bytes.
    pub(crate) max_message: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    Hello(Hello),
    Accept(Offer),
    Ready(Offer),
    Reject(Reason),
    /// The acceptor has the channel: from now on, what is sent is received.
    Open,
}

pub(crate) fn violation(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, "shared-memory handshake")
        .with_reason(reason.into())
        .with_remedy("check that both ends are Sinew channels of compatible versions")
}

impl Packet {
    pub(crate) fn encode(&self) -> [u8; PACKET] {
        let mut words = [0; WORDS];
        words[0] = MAGIC;
        match self {
            Packet::Hello(hello) => {
                words[1] = u64::from(HELLO)
                    | u64::from(hello.least_version) << 32
                    | u64::from(hello.most_version) << 48;
                hello.terms.encode(&mut words);
            }
            Packet::Accept(offer) => encode_offer(&mut words, ACCEPT, offer),
            Packet::Ready(offer) => encode_offer(&mut words, READY, offer),
            Packet::Open => words[1] = u64::from(OPEN),
            Packet::Reject(reason) => {
                words[1] = u64::from(REJECT);
                words[2] = match reason {
                    Reason::Version => 1,
                    Reason::Policy => 2,
                    Reason::Busy => 3,
                    Reason::Protocol => 4,
                    Reason::Resources => 5,
                    Reason::Features(missing) => {
                        words[3] = missing.0;
                        6
                    }
                    Reason::Kind => 7,
                    Reason::Payload => 8,
                };
            }
        }
        let mut bytes = [0; PACKET];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; PACKET] = bytes
            .try_into()
            .map_err(|_| violation(format!("a packet of {} bytes, not {PACKET}", bytes.len())))?;
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*place);
        }
        if words[0] != MAGIC {
            return Err(violation("wrong magic"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "fields of the word")]
        let (kind, low, high) = (
            words[1] as u32,
            (words[1] >> 32) as u16,
            (words[1] >> 48) as u16,
        );
        match kind {
            HELLO => Ok(Packet::Hello(Hello {
                least_version: low,
                most_version: high,
                terms: Terms::decode(&words),
            })),
            ACCEPT => Ok(Packet::Accept(decode_offer(&words, low)?)),
            READY => Ok(Packet::Ready(decode_offer(&words, low)?)),
            OPEN => Ok(Packet::Open),
            REJECT => Ok(Packet::Reject(match words[2] {
                1 => Reason::Version,
                2 => Reason::Policy,
                3 => Reason::Busy,
                5 => Reason::Resources,
                6 => Reason::Features(Features(words[3])),
                7 => Reason::Kind,
                8 => Reason::Payload,
                // A reason that a later version may add is still a no.
                _ => Reason::Protocol,
            })),
            _ => Err(violation(format!("unknown packet kind {kind}"))),
        }
    }
}

fn encode_offer(words: &mut Words, kind: u32, offer: &Offer) {
    words[1] = u64::from(kind) | u64::from(offer.version) << 32;
    offer.terms.encode(words);
    words[6] = offer.layout.control();
    words[7] = offer.layout.data();
    words[8] = offer.max_message;
}

fn decode_offer(words: &Words, version: u16) -> Result<Offer, Error> {
    let layout = Layout::new(words[6], words[7])
        .map_err(|error| violation("impossible memory layout").with_source(error))?;
    Ok(Offer {
        version,
        terms: Terms::decode(words),
        layout,
        max_message: words[8],
    })
}

/// The version that both ends speak, if there is one.
pub(crate) fn common_version(hello: &Hello) -> Option<u16> {
    let most = hello.most_version.min(*VERSIONS.end());
    (most >= hello.least_version && most >= *VERSIONS.start()).then_some(most)
}

/// Checks the answer to our hello or accept.
pub(crate) fn check_offer(
    offer: &Offer,
    features: Features,
    max_capacity: u64,
) -> Result<(), Error> {
    if !VERSIONS.contains(&offer.version) {
        return Err(violation(format!(
            "version {} was not offered",
            offer.version
        )));
    }
    let excess = offer.terms.features.without(features);
    if excess != Features::default() {
        return Err(violation(format!(
            "the peer chose feature {excess}, which was not offered"
        )));
    }
    offer
        .terms
        .check(offer.terms.features)
        .map_err(|(_, error)| error)?;
    if offer.layout.data() > max_capacity {
        return Err(
            Error::new(ErrorKind::LimitExceeded, "shared-memory handshake")
                .with_reason(format!(
                    "the peer's ring has {} bytes, more than the {max_capacity} allowed",
                    offer.layout.data()
                ))
                .with_remedy("raise max_capacity here, or lower capacity there"),
        );
    }
    Ok(())
}

/// The error that a peer's refusal is for the end that asked.
pub(crate) fn rejection(reason: Reason) -> Error {
    let missing;
    let (kind, text, remedy) = match reason {
        Reason::Version => (
            ErrorKind::Unsupported,
            "the listener speaks none of our protocol versions",
            "upgrade the older of the two ends",
        ),
        Reason::Policy => (
            ErrorKind::Refused,
            "the listener's policy does not admit this user or process",
            "run as a user that the listener admits, or change its policy",
        ),
        Reason::Busy => (
            ErrorKind::Refused,
            "the listener has too many handshakes under way, or has waited too long for ours",
            "try again later",
        ),
        Reason::Protocol => (
            ErrorKind::Protocol,
            "the listener does not accept our handshake",
            "check that both ends are Sinew channels of compatible versions",
        ),
        Reason::Resources => (
            ErrorKind::Refused,
            "the listener has no memory or no descriptors for it",
            "see the listener's own error; raise its limits (ulimit -n, ulimit -f), or close other channels",
        ),
        Reason::Features(features) => {
            missing =
                format!("the listener does not have feature {features}, which is required here");
            (
                ErrorKind::Unsupported,
                missing.as_str(),
                "upgrade the listener, or do not require the feature",
            )
        }
        Reason::Kind => (
            ErrorKind::Unsupported,
            "the listener makes no channel of this kind or direction",
            "ask for the kind of channel that the listener makes",
        ),
        Reason::Payload => (
            ErrorKind::Unsupported,
            "the listener's payloads have another type or alignment",
            "use the listener's type of payload",
        ),
    };
    let error = match reason {
        Reason::Busy => busy().with_kind(kind),
        _ => Error::new(kind, "connect"),
    };
    error.with_reason(text.to_owned()).with_remedy(remedy)
}

fn busy() -> Error {
    Error::from_raw_os_error("connect", Errno::BUSY.raw_os_error())
}

/// Whether a listener said that it had no place for this peer, or gave its place to another.
pub(crate) fn is_busy(error: &Error) -> bool {
    error.errno() == busy().errno()
}

/// The descriptor frame of a message in memory of its own: its length.
pub(crate) fn encode_memory_frame(len: u64) -> [u8; 8] {
    len.to_le_bytes()
}

/// Bytes of the payload of a frame that announces a message in a segment.
pub(crate) const SEGMENT_FRAME: usize = 16;

/// The payload of a frame that announces a message of `len` bytes in the segment `number`.
pub(crate) fn encode_segment_frame(number: u64, len: u64) -> [u8; SEGMENT_FRAME] {
    let mut payload = [0; SEGMENT_FRAME];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload[8..].copy_from_slice(&len.to_le_bytes());
    payload
}

/// The length of a message that is not in the ring, against the limit of what this end receives.
pub(crate) fn decode_len(len: u64, max_message: u64) -> Result<usize, Error> {
    if len > max_message {
        return Err(Error::new(ErrorKind::Protocol, "recv").with_reason(format!(
            "the peer announced a message of {len} bytes, above the {max_message} it was told"
        )));
    }
    usize::try_from(len).map_err(|_| Error::new(ErrorKind::LimitExceeded, "recv"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(version: u16, features: u64, data: u64) -> Offer {
        Offer {
            version,
            terms: Terms::new(Features(features)),
            layout: Layout::new(4096, data).unwrap(),
            max_message: 1 << 30,
        }
    }

    #[test]
    fn packets_come_back() {
        let terms = Terms {
            features: Features(5),
            required: Features(1 << 63),
            kind: 2,
            direction: 3,
            align: 12,
            payload: u64::MAX,
        };
        for packet in [
            Packet::Hello(Hello {
                least_version: 1,
                most_version: 7,
                terms,
            }),
            Packet::Accept(offer(1, 1, 4096)),
            Packet::Ready(offer(3, 0, 1 << 20)),
            Packet::Reject(Reason::Version),
            Packet::Reject(Reason::Policy),
            Packet::Reject(Reason::Busy),
            Packet::Reject(Reason::Protocol),
            Packet::Reject(Reason::Resources),
            Packet::Reject(Reason::Features(Features(1 << 40))),
            Packet::Reject(Reason::Kind),
            Packet::Reject(Reason::Payload),
            Packet::Open,
        ] {
            assert_eq!(Packet::decode(&packet.encode()).unwrap(), packet);
        }
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        let hello = |least, most| Hello {
            least_version: least,
            most_version: most,
            terms: Terms::new(Features::default()),
        };
        assert_eq!(common_version(&hello(2, 2)), Some(2));
        assert_eq!(common_version(&hello(0, 9)), Some(2));
        assert_eq!(common_version(&hello(3, 9)), None);
        assert_eq!(common_version(&hello(1, 1)), None);
        assert_eq!(common_version(&hello(9, 1)), None);
    }

    #[test]
    fn offers_beyond_what_was_said_are_refused() {
        let ours = Features(1);
        assert!(check_offer(&offer(2, 1, 4096), ours, 4096).is_ok());
        for (offer, kind) in [
            (offer(3, 1, 4096), ErrorKind::Protocol),
            (offer(1, 1, 4096), ErrorKind::Protocol),
            (offer(2, 3, 4096), ErrorKind::Protocol),
            (offer(2, 1, 8192), ErrorKind::LimitExceeded),
        ] {
            assert_eq!(check_offer(&offer, ours, 4096).unwrap_err().kind(), kind);
        }
        assert!(decode_len(10, 10).is_ok());
        assert!(decode_len(11, 10).is_err());
    }

    #[test]
    fn terms_that_this_end_does_not_have_are_named() {
        let ours = Features(3);
        let good = Terms::new(Features(u64::MAX));
        assert!(good.check(ours).is_ok());
        let required = |bits| Terms {
            required: Features(bits),
            ..good
        };
        assert!(required(3).check(ours).is_ok());
        let (reason, error) = required(1 << 41 | 5).check(ours).unwrap_err();
        assert_eq!(reason, Reason::Features(Features(1 << 41 | 4)));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        for error in [error, rejection(reason)] {
            let text = error.to_string();
            assert!(text.contains("2 (epoll bell), 41"), "{text}");
        }
        for (terms, reason) in [
            (Terms { kind: 2, ..good }, Reason::Kind),
            (
                Terms {
                    direction: 1,
                    ..good
                },
                Reason::Kind,
            ),
            (Terms { align: 4, ..good }, Reason::Payload),
            (Terms { align: 12, ..good }, Reason::Payload),
            (Terms { payload: 9, ..good }, Reason::Payload),
            (Terms { align: 2, ..good }, Reason::Protocol),
            (Terms { align: 13, ..good }, Reason::Protocol),
            (Terms { align: 255, ..good }, Reason::Protocol),
        ] {
            assert_eq!(terms.check(ours).unwrap_err().0, reason, "{terms:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), lie in any::<bool>()) {
            if lie && bytes.len() >= 8 {
                bytes.resize(PACKET, 0);
                bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[8] &= 7;
                bytes[9..12].fill(0);
            }
            if let Ok(packet) = Packet::decode(&bytes) {
                let again = Packet::decode(&packet.encode()).unwrap();
                prop_assert_eq!(again, packet);
            }
        }
    }
}
