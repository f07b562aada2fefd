//! The rules of admission, without a socket or a clock: which peer gets a slot, and which is an
//! equal.

use std::sync::OnceLock;
use std::time::Duration;

use sinew_core::Credentials;

/// How long a handshake is safe from newcomers, when all slots are taken and its peer has said
/// nothing.
pub(crate) const MUTE: Duration = Duration::from_millis(50);
/// The same once the peer has said hello: it may be making its memory.
const SPOKEN: Duration = Duration::from_millis(250);
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
pub(crate) fn place(claims: &[Claim], newcomer: u32) -> Place {
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
            let patience = if claim.has_spoken { SPOKEN } else { MUTE };
            let left = patience.saturating_sub(claim.age);
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
    let us = rustix::process::geteuid().as_raw();
    peer.uid == 0 || equals(us, peer.uid, unmapped_uid())
}

fn equals(us: u32, peer: u32, unmapped: Option<u32>) -> bool {
    peer == us && Some(peer) != unmapped
}

/// The uid that stands for all that have none in this user namespace; `None` where all have one.
///
/// user_namespaces(7), under *Unmapped user and group IDs*.
fn unmapped_uid() -> Option<u32> {
    static UNMAPPED: OnceLock<Option<u32>> = OnceLock::new();
    *UNMAPPED.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        let overflow = overflow.ok().and_then(|uid| uid.trim().parse().ok());
        (!maps_all(&map)).then(|| overflow.unwrap_or(65534))
    })
}

/// Whether a `/proc/PID/uid_map` maps every uid, as that of the initial namespace does.
fn maps_all(map: &str) -> bool {
    let lengths = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    lengths.sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const OLD: Duration = Duration::from_secs(1);

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
        assert_eq!(place(&[spoken], 1), Place::Later(SPOKEN - MUTE));
        assert_eq!(place(&[spoken, claim(1, MUTE)], 1), Place::Of(1));
    }

    #[test]
    fn large_rings_take_more_of_the_slots() {
        assert_eq!(slots(64, 256 << 10), 64);
        assert_eq!(slots(64, 64 << 20), 4);
        assert_eq!(slots(64, 1 << 31), 1);
        assert_eq!(slots(3, 4096), 3);
    }

    #[test]
    fn uids_that_stand_for_many_are_nobodys_equals() {
        assert!(equals(1000, 1000, Some(65534)) && equals(65534, 65534, None));
        assert!(!equals(65534, 65534, Some(65534)) && !equals(1, 2, None));
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("0 1000 1\n1 100000 65536\n") && !maps_all(""));
    }
}
