//! What a peer did that no correct peer does.

use core::fmt;

/// A shared word that contradicts what this end knows.
///
/// After one of these the ring is of no use: the end that found it touches the memory no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// The producer's cursor went back, or ahead by more than the ring holds, or is not aligned.
    ProducerCursor {
        /// The word found.
        found: u64,
        /// The least that it could be.
        least: u64,
        /// The most that it could be.
        most: u64,
    },
    /// The consumer's cursor went back, or past what was published, or is not aligned.
    ConsumerCursor {
        /// The word found.
        found: u64,
        /// The least that it could be.
        least: u64,
        /// The most that it could be.
        most: u64,
    },
    /// A frame claims to be longer than what was published.
    FrameLength {
        /// Payload bytes claimed.
        found: u64,
        /// Bytes published, header included.
        published: u64,
    },
    /// A state word that is none of the states.
    State,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corruption::ProducerCursor { found, least, most } => {
                write!(
                    f,
                    "producer cursor {found} is not a multiple of 8 from {least} to {most}"
                )
            }
            Corruption::ConsumerCursor { found, least, most } => {
                write!(
                    f,
                    "consumer cursor {found} is not a multiple of 8 from {least} to {most}"
                )
            }
            Corruption::FrameLength { found, published } => {
                write!(f, "a frame of {found} bytes in {published} published bytes")
            }
            Corruption::State => f.write_str("unknown state word"),
        }
    }
}

impl core::error::Error for Corruption {}
