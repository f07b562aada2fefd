//! Messages in memory of their own, received: mapped or copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sinew_core::Error;
use sinew_memory::Frozen;

/// The longest message that is copied although it could be mapped, bytes. For 64 KiB, a copy takes
/// 8 µs, and a mapping that is read and unmapped 21 µs.
const SMALL: usize = 64 << 10;
/// The most mappings that the messages of one channel have. A process has 65,530 by default
/// (`vm.max_map_count`), and without one it can start no thread.
const MOST: usize = 1024;

/// Counts the mappings that messages of one channel hold.
#[derive(Debug, Default)]
pub(crate) struct Mappings(Arc<AtomicUsize>);

/// A mapping that is counted for as long as a part of it is in use.
struct Counted {
    bytes: Bytes,
    live: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mappings {
    /// The content of a message's memory.
    pub(crate) fn open(&self, memory: &Frozen) -> Result<Bytes, Error> {
        if memory.len() <= SMALL || self.0.load(Ordering::Relaxed) >= MOST {
            return memory.copy();
        }
        let bytes = memory.map()?;
        // A channel has one receiver, so that no other thread counts up.
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from_owner(Counted {
            bytes,
            live: self.0.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_bounded_and_come_back() {
        let mappings = Mappings::default();
        let live = || mappings.0.load(Ordering::Relaxed);
        let small = Frozen::copy_from_slice(&[1; SMALL]).unwrap();
        let large = Frozen::copy_from_slice(&[2; SMALL + 1]).unwrap();
        assert_eq!(mappings.open(&small).unwrap(), [1; SMALL][..]);
        assert_eq!(live(), 0);
        let mut held: Vec<_> = (0..MOST + 3)
            .map(|_| mappings.open(&large).unwrap())
            .collect();
        assert_eq!(live(), MOST);
        assert!(held.iter().all(|bytes| *bytes == [2; SMALL + 1][..]));
        held.truncate(MOST / 2);
        assert_eq!(live(), MOST / 2);
        let part = held.swap_remove(0).slice(1..2);
        drop(held);
        assert_eq!(live(), 1);
        drop(part);
        assert_eq!(live(), 0);
    }
}
