use std::fmt;

use sinew_core::Error;
use sinew_memory::{MappedFile, PosixShm, Region, SysvShm};

/// Where a channel lies: a builder of a [`Region`], or one.
///
/// A builder that [creates](PosixShm::create) lays the channel where there is none; without it, it waits for one until the
/// [timeout](super::Options::timeout). In a `Region` that is all zeros one is laid.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Place {
    /// POSIX shared memory.
    Posix(PosixShm),
    /// A SysV segment.
    Sysv(SysvShm),
    /// A file.
    File(MappedFile),
    /// Memory that is mapped already.
    Region(Region),
}

macro_rules! from {
    ($($variant:ident($place:ident)),+) => {
        $(impl From<$place> for Place {
            fn from(place: $place) -> Self {
                Self::$variant(place)
            }
        })+
    };
}

from!(
    Posix(PosixShm),
    Sysv(SysvShm),
    File(MappedFile),
    Region(Region)
);

impl Place {
    /// Whether a channel may be laid where there is none.
    pub(super) fn creates(&self) -> bool {
        match self {
            Self::Posix(shm) => shm.creates(),
            Self::Sysv(shm) => shm.creates(),
            Self::File(file) => file.creates(),
            Self::Region(_) => true,
        }
    }

    /// Opens it: of `size` bytes at least, or if it is made and nothing else was asked for, of `default`.
    pub(super) fn open(&self, size: Option<usize>, default: usize) -> Result<Region, Error> {
        macro_rules! open {
            ($builder:expr) => {
                match size {
                    Some(size) => $builder.clone().size(size).open(),
                    None => $builder.clone().default_size(default).open(),
                }
            };
        }
        match self {
            Self::Posix(shm) => open!(shm),
            Self::Sysv(shm) => open!(shm),
            Self::File(file) => open!(file),
            Self::Region(region) => Ok(region.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posix(_) => f.write_str("posix shared memory"),
            Self::Sysv(_) => f.write_str("a sysv segment"),
            Self::File(_) => f.write_str("a file"),
            Self::Region(region) => f.write_str(region.name()),
        }
    }
}
