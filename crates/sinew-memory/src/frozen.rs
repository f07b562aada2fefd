//! Buffers that nobody can change any more.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

use crate::memfd::{self, IMMUTABLE, system};
use crate::sys::{FrozenMap, PrivateMap};

/// A memfd sealed against every change, to be passed to other processes and read there without a copy.
///
/// The seals are `F_SEAL_WRITE`, `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`. Passing it on costs
/// the same whatever its size, and it may be sent to any number of peers.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), sinew_core::Error> {
/// use sinew_memory::Frozen;
///
/// let frozen = Frozen::copy_from_slice(b"immutable")?;
/// assert_eq!(frozen.map()?, "immutable");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Frozen {
    fd: OwnedFd,
    len: usize,
}

impl Frozen {
    /// Copies `bytes` into a new memfd and freezes it.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files; `ENOMEM`, `ENOSPC` without memory.
    pub fn copy_from_slice(bytes: &[u8]) -> Result<Self, Error> {
        Self::gather([bytes])
    }

    /// Copies the parts, one after the other, into a new memfd and freezes it.
    ///
    /// # Errors
    ///
    /// As for [`copy_from_slice`](Self::copy_from_slice).
    pub fn gather<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let fd = memfd::create("sinew-frozen", 0, false)?;
        let mut file = File::from(fd);
        let mut len = 0;
        for part in parts {
            // A write fills whole pages without a fault and without clearing them first, which makes
            // it several times faster than a copy into a fresh mapping.
            file.write_all(part)
                .map_err(|error| Error::from_io("write", error))?;
            len += part.len();
        }
        let fd = OwnedFd::from(file);
        memfd::seal(&fd, IMMUTABLE)?;
        Ok(Self { fd, len })
    }

    /// Takes a descriptor that a peer sent, after checking that it is a memfd with the seals of a
    /// frozen one and `len` bytes, all of which are allocated: a page that is not would be charged
    /// to this process when it is read.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if it is something else.
    pub fn from_fd(fd: OwnedFd, len: usize) -> Result<Self, Error> {
        Self::check(fd.as_fd(), len)?;
        Ok(Self { fd, len })
    }

    /// Checks what [`from_fd`](Self::from_fd) checks, for a caller that must not close something
    /// else.
    ///
    /// # Errors
    ///
    /// As for [`from_fd`](Self::from_fd).
    pub fn check(fd: BorrowedFd<'_>, len: usize) -> Result<(), Error> {
        let size = memfd::check(fd, IMMUTABLE)?;
        if size != len as u64 {
            return Err(
                Error::new(ErrorKind::Protocol, "fstat").with_reason(format!(
                    "the memory has {size} bytes, not the {len} announced"
                )),
            );
        }
        memfd::check_present(fd, size)
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies it to the heap, which is cheaper than [`map`](Self::map) for a few pages, and takes
    /// no mapping.
    ///
    /// # Errors
    ///
    /// `ENOMEM` without memory.
    pub fn copy(&self) -> Result<Bytes, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.len).map_err(|_| {
            system("malloc", Errno::NOMEM).with_detail(format!("{} bytes", self.len))
        })?;
        while bytes.len() < self.len {
            let offset = bytes.len() as u64;
            match rustix::io::pread(&self.fd, spare_capacity(&mut bytes), offset) {
                // Nobody can shorten it.
                Ok(0) => return Err(system("pread", Errno::IO)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(system("pread", errno)),
            }
        }
        Ok(Bytes::from(bytes))
    }

    /// Maps it; the mapping lives as long as the last `Bytes` that is a part of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the address space, or the number of mappings (`vm.max_map_count`), is used up.
    pub fn map(&self) -> Result<Bytes, Error> {
        if self.len == 0 {
            return Ok(Bytes::new());
        }
        Ok(Bytes::from_owner(FrozenMap::new(
            self.fd.as_fd(),
            self.len,
        )?))
    }
}

impl AsFd for Frozen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Frozen> for OwnedFd {
    fn from(frozen: Frozen) -> OwnedFd {
        frozen.fd
    }
}

/// A memfd that is being written, on its way to a [`Frozen`].
///
/// The bytes begin as zeros.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), sinew_core::Error> {
/// use sinew_memory::Draft;
///
/// let mut draft = Draft::new(1 << 20)?;
/// draft[..5].copy_from_slice(b"hello");
/// let frozen = draft.freeze(5)?;
/// assert_eq!(frozen.map()?, "hello");
/// # Ok(())
/// # }
/// ```
pub struct Draft {
    map: PrivateMap,
}

impl Draft {
    /// A draft of `len` bytes.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files; `ENOMEM`, `ENOSPC` without memory.
    pub fn new(len: usize) -> Result<Self, Error> {
        Ok(Self {
            map: PrivateMap::new(len)?,
        })
    }

    /// Keeps the first `len` bytes, and makes them immutable.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if `len` is more than there are.
    pub fn freeze(self, len: usize) -> Result<Frozen, Error> {
        let full = self.map.len();
        if len > full {
            return Err(Error::new(ErrorKind::InvalidInput, "freeze")
                .with_reason(format!("{len} bytes of a draft of {full}")));
        }
        // The kernel refuses F_SEAL_WRITE while a writable mapping exists.
        let fd = self.map.into_fd();
        if len < full {
            rustix::fs::ftruncate(&fd, len as u64).map_err(|errno| system("ftruncate", errno))?;
        }
        match memfd::seal(&fd, IMMUTABLE) {
            // A child that was forked before the mapping was marked, and has not yet come to its exec,
            // holds a copy of it.
            Err(error) if error.errno() == Some(Errno::BUSY.raw_os_error()) => copy_file(fd, len),
            Err(error) => Err(error),
            Ok(()) => Ok(Frozen { fd, len }),
        }
    }
}

/// The content of a file that cannot be frozen, in one that can.
fn copy_file(fd: OwnedFd, len: usize) -> Result<Frozen, Error> {
    let failed = |error| Error::from_io("copy", error);
    let mut from = File::from(fd);
    let mut to = File::from(memfd::create("sinew-frozen", 0, false)?);
    // The mapping that was written does not move the offset.
    std::io::copy(&mut from, &mut to).map_err(failed)?;
    let fd = OwnedFd::from(to);
    memfd::seal(&fd, IMMUTABLE)?;
    Ok(Frozen { fd, len })
}

impl Deref for Draft {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("len", &self.map.len())
            .finish_non_exhaustive()
    }
}
