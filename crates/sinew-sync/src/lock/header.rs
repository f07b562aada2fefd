//! What stands before each primitive in a region: what it is, and of what size.

use std::sync::atomic::{AtomicU64, Ordering};

use sinew_core::{Error, ErrorKind};
use sinew_memory::Region;

/// Bytes.
pub(super) const SIZE: usize = 8;

/// What a primitive is, in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mutex,
    RwLock,
    Condvar,
    Event,
    Barrier,
}

impl Kind {
    /// With the version of the layout in the last place. Those of version 1 that have owners name
    /// them by number and start time.
    fn magic(self) -> u32 {
        u32::from_le_bytes(match self {
            Self::Mutex => *b"SMx2",
            Self::RwLock => *b"SRw2",
            Self::Condvar => *b"SCv1",
            Self::Event => *b"SEv1",
            Self::Barrier => *b"SBa1",
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::RwLock => "rwlock",
            Self::Condvar => "condvar",
            Self::Event => "event",
            Self::Barrier => "barrier",
        }
    }

    fn word(self, detail: usize) -> u64 {
        u64::from(self.magic()) << 32 | u64::try_from(detail).unwrap_or(u64::MAX) & 0xffff_ffff
    }
}

/// Makes a primitive: zeros, what `fill` writes, and then, last, the header.
pub(super) fn create(
    region: &Region,
    offset: usize,
    size: usize,
    kind: Kind,
    detail: usize,
    fill: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let header = region.view::<AtomicU64>(offset)?;
    header.store(0, Ordering::Release);
    region.write(offset, &vec![0; size])?;
    fill()?;
    header.store(kind.word(detail), Ordering::Release);
    Ok(())
}

/// Checks that a primitive of this kind and detail is there.
pub(super) fn check(
    region: &Region,
    offset: usize,
    size: usize,
    kind: Kind,
    detail: usize,
) -> Result<(), Error> {
    let found = region.view::<AtomicU64>(offset)?.load(Ordering::Acquire);
    // To its end.
    region.read(offset, &mut vec![0; size])?;
    if found == kind.word(detail) {
        return Ok(());
    }
    let name = kind.name();
    let error = Error::new(ErrorKind::Protocol, "attach").with_address(region.name());
    Err(if found == 0 {
        error
            .with_reason(format!("there is no {name} at {offset} yet"))
            .with_remedy("create it first, in one of the processes")
    } else if (found >> 32) == u64::from(kind.magic()) {
        error
            .with_reason(format!(
                "the {name} at {offset} is of another size: {}, not {detail}",
                found & 0xffff_ffff
            ))
            .with_remedy("use the same type in all processes")
    } else {
        error
            .with_reason(format!(
                "what lies at {offset} is no {name} of this version"
            ))
            .with_remedy("use the offset at which it was created")
    })
}
