//! The rules of admission, without a socket or a clock: which peer gets a slot, and which is an
//! equal.

use std::time::Duration;

use sinew_core::{Credentials, is_own_uid};

/// For how long a handshake is safe from newcomers, when all slots are taken and its peer has said
/// nothing, at first: see [`Patience`].
pub(crate) const MUTE: Duration = Duration::from_millis(50);
/// More than any handshake takes.
const MOST: Duration = Duration::from_secs(60);

/// For how long a handshake is safe from newcomers.
///
/// On a busy machine, peers may need longer than that to answer. If all slots change hands and no
/// handshake is finished meanwhile, they get a quarter more time. Otherwise peers could displace
/// one another for ever.
#[derive(Debug)]
pub(crate) struct Patience {
    mute: Duration,
    displaced: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            mute: MUTE,
            displaced: 0,
        }
    }
}

impl Patience {
    /// With a peer that has said hello, five times as long: it may be making its memory.
    fn with(&self, claim: &Claim) -> Duration {
        if claim.has_spoken {
            self.mute * 5
        } else {
            self.mute
        }
    }

    /// Notes that a handshake was displaced, of as many as there may be.
    pub(crate) fn displaced(&mut self, slots: usize) {
        self.displaced += 1;
        if self.displaced >= slots {
            self.displaced = 0;
            self.mute = (self.mute * 5 / 4).min(MOST);
        }
    }

    /// Notes that a handshake was finished.
    pub(crate) fn finished(&mut self) {
        *self = Self::default();
    }
}

/// The most ring memory that the handshakes of a listener hold together, bytes.
const MEMORY: u64 = 256 << 20;

/// A handshake that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) uid: u32,
    pub(crate) age: Duration,
    /// Whether its hello was received.
    pub(crate) has_spoken: bool,
    /// Whether the next packet is the peer's to send.
    pub(crate) owes: bool,
}

/// Where a newcomer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the place of the handshake with this index.
    Of(usize),
    /// Nowhere yet: asked again then, or when a handshake has ended.
    Later(Duration),
}

/// How many handshakes may be under way, if each may make a ring of `capacity` bytes.
pub(crate) fn slots(max_handshakes: usize, capacity: u64) -> usize {
    let rings = usize::try_from(MEMORY / capacity.max(1)).unwrap_or(usize::MAX);
    max_handshakes.min(rings).max(1)
}

/// Finds a place for a newcomer when all are taken: the user with the most handshakes, the newcomer
/// included, loses the oldest of those that are overdue.
pub(crate) fn place(claims: &[Claim], newcomer: u32, patience: &Patience) -> Place {
    let count = |uid| {
        let held = claims.iter().filter(|claim| claim.uid == uid).count();
        held + usize::from(uid == newcomer)
    };
    let most = claims.iter().map(|claim| count(claim.uid)).max();
    let due = claims
        .iter()
        .enumerate()
        .filter(|(_, claim)| claim.owes && Some(count(claim.uid)) == most)
        .map(|(index, claim)| {
            let left = patience.with(claim).saturating_sub(claim.age);
            (left, std::cmp::Reverse(claim.age), index)
        })
        .min();
    match due {
        Some((Duration::ZERO, _, index)) => Place::Of(index),
        Some((left, ..)) => Place::Later(left),
        // It is our turn in all of them.
        None => Place::Later(MUTE),
    }
}

/// Whether a peer can signal and trace us anyway: it is root, or the same user as this process.
pub(crate) fn is_equal(peer: &Credentials) -> bool {
    peer.uid == 0 || is_own_uid(peer.uid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const OLD: Duration = Duration::from_secs(1);

    fn place(claims: &[Claim], newcomer: u32) -> Place {
        super::place(claims, newcomer, &Patience::default())
    }

    fn claim(uid: u32, age: Duration) -> Claim {
        Claim {
            uid,
            age,
            has_spoken: false,
            owes: true,
        }
    }

    #[test]
    fn the_user_with_most_loses_its_oldest() {
        let claims = [claim(1, OLD * 9), claim(2, OLD), claim(2, OLD * 2)];
        assert_eq!(place(&claims, 3), Place::Of(2));
        assert_eq!(place(&claims, 2), Place::Of(2));
        let claims = [claim(1, OLD), claim(1, OLD), claim(2, OLD), claim(2, OLD)];
        assert_eq!(place(&claims, 2), Place::Of(2));
        assert_eq!(place(&claims, 1), Place::Of(0));
    }

    #[test]
    fn nobody_loses_a_place_at_once_or_while_it_is_our_turn() {
        let half = MUTE / 2;
        assert_eq!(place(&[claim(1, half)], 2), Place::Later(half));
        let ours = Claim {
            owes: false,
            ..claim(1, OLD)
        };
        assert_eq!(place(&[ours], 2), Place::Later(MUTE));
        assert_eq!(place(&[ours, claim(1, OLD)], 2), Place::Of(1));
        let spoken = Claim {
            has_spoken: true,
            ..claim(1, MUTE)
        };
        assert_eq!(place(&[spoken], 1), Place::Later(4 * MUTE));
        assert_eq!(place(&[spoken, claim(1, MUTE)], 1), Place::Of(1));
    }

    /// Peers that need a certain time to answer, and come again when they are displaced.
    #[test]
    fn slow_peers_do_not_displace_one_another_for_ever() {
        let need = Duration::from_millis(600);
        let mut patience = Patience::default();
        let mut ages = [Duration::ZERO; 4];
        let step = Duration::from_millis(10);
        for _ in 0..1000 {
            ages = ages.map(|age| age + step);
            if ages.iter().any(|&age| age >= need) {
                patience.finished();
                assert_eq!(patience.mute, MUTE);
                return;
            }
            let claims = ages.map(|age| claim(1, age));
            if let Place::Of(index) = super::place(&claims, 1, &patience) {
                patience.displaced(claims.len());
                ages[index] = Duration::ZERO;
            }
        }
        panic!("nobody gets through");
    }

    #[test]
    fn large_rings_take_more_of_the_slots() {
        assert_eq!(slots(64, 256 << 10), 64);
        assert_eq!(slots(64, 64 << 20), 4);
        assert_eq!(slots(64, 1 << 31), 1);
        assert_eq!(slots(3, 4096), 3);
    }
}
