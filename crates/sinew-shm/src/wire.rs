//! The bytes that two ends exchange, without a socket: see `docs/protocol/shm.md`.

use sinew_core::{Error, ErrorKind};
use sinew_memory::Layout;

/// `SINEWSHM`, little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SINEWSHM");
/// The protocol versions that this crate speaks.
pub(crate) const VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

/// Every handshake packet has this many bytes.
pub(crate) const PACKET: usize = 64;
/// The most descriptors that one packet carries.
pub(crate) const MAX_FDS: usize = 3;

/// Both ends may wait on an epoll instance that the other made.
pub(crate) const FEATURE_EPOLL_BELL: u64 = 1;
/// Both ends are registered with membarrier(2) as global and expedited: receivers do not fence their releases,
/// and a sender executes `MEMBARRIER_CMD_GLOBAL_EXPEDITED` after it has armed its wait word.
pub(crate) const FEATURE_MEMBARRIER: u64 = 2;
pub(crate) const FEATURES: u64 = FEATURE_EPOLL_BELL | FEATURE_MEMBARRIER;

/// Packets on the socket once the channel stands, by their first byte.
pub(crate) const PACKET_BELL: u8 = 1;
pub(crate) const PACKET_MEMORY: u8 = 2;

/// Kinds of frames in the ring.
pub(crate) const FRAME_DATA: u32 = 1;
pub(crate) const FRAME_MEMORY: u32 = 2;

/// Where the control blocks lie in an end's memory.
pub(crate) const PRODUCER_OFFSET: usize = 0;
pub(crate) const CONSUMER_OFFSET: usize = 256;
pub(crate) const CONTROL_SIZE: u64 = 4096;

/// The most messages in memory of their own that may be under way in one direction.
pub(crate) const MAX_MEMORY_IN_FLIGHT: usize = 16;

const HELLO: u32 = 1;
const ACCEPT: u32 = 2;
const READY: u32 = 3;
const REJECT: u32 = 4;
const OPEN: u32 = 5;

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
}

/// What the connecting end can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) least_version: u16,
    pub(crate) most_version: u16,
    pub(crate) features: u64,
}

/// What an end brings: its memory's layout, and the limits of what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) version: u16,
    pub(crate) features: u64,
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
        let mut words = [0u64; PACKET / 8];
        words[0] = MAGIC;
        match self {
            Packet::Hello(hello) => {
                words[1] = u64::from(HELLO)
                    | u64::from(hello.least_version) << 32
                    | u64::from(hello.most_version) << 48;
                words[2] = hello.features;
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
        let mut words = [0u64; PACKET / 8];
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
                features: words[2],
            })),
            ACCEPT => Ok(Packet::Accept(decode_offer(&words, low)?)),
            READY => Ok(Packet::Ready(decode_offer(&words, low)?)),
            OPEN => Ok(Packet::Open),
            REJECT => Ok(Packet::Reject(match words[2] {
                1 => Reason::Version,
                2 => Reason::Policy,
                3 => Reason::Busy,
                5 => Reason::Resources,
                // A reason that a later version may add is still a no.
                _ => Reason::Protocol,
            })),
            _ => Err(violation(format!("unknown packet kind {kind}"))),
        }
    }
}

fn encode_offer(words: &mut [u64; PACKET / 8], kind: u32, offer: &Offer) {
    words[1] = u64::from(kind) | u64::from(offer.version) << 32;
    words[2] = offer.features;
    words[3] = offer.layout.control();
    words[4] = offer.layout.data();
    words[5] = offer.max_message;
}

fn decode_offer(words: &[u64; PACKET / 8], version: u16) -> Result<Offer, Error> {
    let layout = Layout::new(words[3], words[4])
        .map_err(|error| violation("impossible memory layout").with_source(error))?;
    Ok(Offer {
        version,
        features: words[2],
        layout,
        max_message: words[5],
    })
}

/// The version that both ends speak, if there is one.
pub(crate) fn common_version(hello: &Hello) -> Option<u16> {
    let most = hello.most_version.min(*VERSIONS.end());
    (most >= hello.least_version && most >= *VERSIONS.start()).then_some(most)
}

/// Checks the answer to our hello or accept.
pub(crate) fn check_offer(offer: &Offer, features: u64, max_capacity: u64) -> Result<(), Error> {
    if !VERSIONS.contains(&offer.version) {
        return Err(violation(format!(
            "version {} was not offered",
            offer.version
        )));
    }
    if offer.features & !features != 0 {
        return Err(violation(format!(
            "features {:#x} of {features:#x} offered",
            offer.features
        )));
    }
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
            "the listener has too many handshakes under way",
            "try again later",
        ),
        Reason::Protocol => (
            ErrorKind::Protocol,
            "the listener does not accept our handshake",
            "check that both ends are Sinew channels of compatible versions",
        ),
        Reason::Resources => (
            ErrorKind::Refused,
            "the listener has no memory or descriptors left",
            "raise its limits (ulimit -n), or close other channels",
        ),
    };
    Error::new(kind, "connect")
        .with_reason(text)
        .with_remedy(remedy)
}

/// The descriptor frame of a message in memory of its own: its length.
pub(crate) fn encode_memory_frame(len: u64) -> [u8; 8] {
    len.to_le_bytes()
}

/// The length that a descriptor frame says, against the limit of what this end receives.
pub(crate) fn decode_memory_frame(payload: [u8; 8], max_message: u64) -> Result<usize, Error> {
    let len = u64::from_le_bytes(payload);
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
            features,
            layout: Layout::new(4096, data).unwrap(),
            max_message: 1 << 30,
        }
    }

    #[test]
    fn packets_come_back() {
        for packet in [
            Packet::Hello(Hello {
                least_version: 1,
                most_version: 7,
                features: 5,
            }),
            Packet::Accept(offer(1, 1, 4096)),
            Packet::Ready(offer(3, 0, 1 << 20)),
            Packet::Reject(Reason::Version),
            Packet::Reject(Reason::Policy),
            Packet::Reject(Reason::Busy),
            Packet::Reject(Reason::Protocol),
            Packet::Reject(Reason::Resources),
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
            features: 0,
        };
        assert_eq!(common_version(&hello(1, 1)), Some(1));
        assert_eq!(common_version(&hello(0, 9)), Some(1));
        assert_eq!(common_version(&hello(2, 9)), None);
        assert_eq!(common_version(&hello(0, 0)), None);
        assert_eq!(common_version(&hello(9, 1)), None);
    }

    #[test]
    fn offers_beyond_what_was_said_are_refused() {
        assert!(check_offer(&offer(1, 1, 4096), 1, 4096).is_ok());
        for (offer, kind) in [
            (offer(2, 1, 4096), ErrorKind::Protocol),
            (offer(0, 1, 4096), ErrorKind::Protocol),
            (offer(1, 3, 4096), ErrorKind::Protocol),
            (offer(1, 1, 8192), ErrorKind::LimitExceeded),
        ] {
            assert_eq!(check_offer(&offer, 1, 4096).unwrap_err().kind(), kind);
        }
        assert!(decode_memory_frame(encode_memory_frame(10), 10).is_ok());
        assert!(decode_memory_frame(encode_memory_frame(11), 10).is_err());
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
