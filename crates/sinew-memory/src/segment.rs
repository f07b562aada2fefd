//! Memory for large messages, used again and again.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use bytes::Bytes;
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

use crate::memfd::{self, SINGLE_WRITER, system};
use crate::sys::{self, Access, Map};

/// A memfd that its creator writes again and again, and that its peers map for reading.
///
/// Its seals are `F_SEAL_FUTURE_WRITE`, `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`: a peer
/// cannot write it, and nobody can change its size or take pages out of it. Unlike a
/// [`Frozen`](crate::Frozen) it changes, so that a peer copies what it reads, or trusts the
/// creator. Its pages are allocated once, which is what makes a fresh memfd for each large message
/// slow.
pub struct Segment {
    map: Map,
    len: usize,
    writable: bool,
}

impl Segment {
    /// Creates a segment of `len` bytes, and the descriptor to be passed to a peer.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files; `ENOMEM`, `ENOSPC` without memory; `EINVAL`
    /// before Linux 5.1.
    pub fn create(len: usize) -> Result<(Self, OwnedFd), Error> {
        let refused =
            |operation, errno| system(operation, errno).with_detail(format!("{len} bytes"));
        let fd = memfd::create("sinew-segment", len as u64, false)?;
        // Mapped first, sealed then: the seal refuses later writable mappings, this one stays.
        let map =
            Map::new(fd.as_fd(), len, Access::ReadWrite).map_err(|errno| refused("mmap", errno))?;
        memfd::seal(&fd, SINGLE_WRITER)?;
        match map.populate() {
            // Before Linux 5.14 the pages come one by one, as they are touched.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(refused("madvise(MADV_POPULATE_WRITE)", errno)),
        }
        memfd::allocate(&fd, len as u64).map_err(|errno| refused("fallocate", errno))?;
        let segment = Self {
            map,
            len,
            writable: true,
        };
        Ok((segment, fd))
    }

    /// Maps a segment that a peer sent, of `most` bytes at most, for reading.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if it is not a memfd with the seals of a segment
    /// and all of its pages; `ENOMEM` without address space.
    pub fn open(fd: BorrowedFd<'_>, most: usize) -> Result<Self, Error> {
        let size = memfd::check(fd, SINGLE_WRITER)?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        if len == 0 || len > most {
            return Err(
                Error::new(ErrorKind::Protocol, "fstat").with_reason(format!(
                    "the peer's segment has {size} bytes, of which {most} are allowed"
                )),
            );
        }
        memfd::check_present(fd, size)?;
        let map = Map::new(fd, len, Access::ReadOnly)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        // Only saves faults, the pages being there.
        let _refused = map.populate();
        Ok(Self {
            map,
            len,
            writable: false,
        })
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty, which none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of one that this process created, to be written.
    ///
    /// `None` of a peer's.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        self.writable
            .then(|| sys::sole_writer(&mut self.map, self.len))
    }

    /// The bytes of one that this process created.
    ///
    /// `None` of a peer's, which changes them.
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.writable
            .then(|| sys::written_here(&self.map, self.len))
    }

    /// Appends a copy of the first `len` bytes, which the creator may be changing.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for more than there are; `ENOMEM` without
    /// memory.
    pub fn append_to(&self, len: usize, to: &mut Vec<u8>) -> Result<(), Error> {
        if len > self.len {
            return Err(Error::new(ErrorKind::InvalidInput, "copy")
                .with_reason(format!("{len} bytes of a segment of {}", self.len)));
        }
        to.try_reserve_exact(len)
            .map_err(|_| system("malloc", Errno::NOMEM).with_detail(format!("{len} bytes")))?;
        sys::append(&self.map, len, to);
        Ok(())
    }

    /// A copy of the first `len` bytes, which the creator may be changing.
    ///
    /// # Errors
    ///
    /// As for [`append_to`](Self::append_to).
    pub fn copy(&self, len: usize) -> Result<Bytes, Error> {
        let mut bytes = Vec::new();
        self.append_to(len, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// Where it is mapped.
    pub fn start(&self) -> NonNull<u8> {
        self.map.at(0)
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("len", &self.len)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}
