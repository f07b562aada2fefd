//! Anonymous files with seals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, check_file_size};

use crate::file::is_hugetlb;

/// What a kind of memory is sealed with, and what it must not be sealed with. Others, such as the
/// `F_SEAL_EXEC` of Linux 6.3, make no difference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seals {
    needed: SealFlags,
    excluded: SealFlags,
}

/// Of memory that several processes write: no change of size.
pub(crate) const FIXED_SIZE: Seals = Seals {
    needed: SealFlags::SHRINK
        .union(SealFlags::GROW)
        .union(SealFlags::SEAL),
    excluded: SealFlags::WRITE.union(SealFlags::FUTURE_WRITE),
};

/// Of memory that one process writes and others read: no further writable mapping, no change of
/// size.
pub(crate) const SINGLE_WRITER: Seals = Seals {
    needed: FIXED_SIZE.needed.union(SealFlags::FUTURE_WRITE),
    excluded: SealFlags::WRITE,
};

/// Of memory that nobody writes any more.
pub(crate) const IMMUTABLE: Seals = Seals {
    needed: FIXED_SIZE.needed.union(SealFlags::WRITE),
    excluded: SealFlags::empty(),
};

pub(crate) fn system(operation: &'static str, errno: Errno) -> Error {
    Error::from_raw_os_error(operation, errno.raw_os_error())
}

/// Creates an anonymous file of `len` bytes that can be sealed.
pub(crate) fn create(name: &str, len: u64, huge: bool) -> Result<OwnedFd, Error> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    // Kernels before 6.3 do not know the flag; 6.3 and later complain in their log without it.
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        result => result,
    }
    .map_err(|errno| system("memfd_create", errno))?;
    check_file_size(len)
        .and_then(|()| rustix::fs::ftruncate(&fd, len))
        .map_err(|errno| system("ftruncate", errno).with_detail(format!("{len} bytes")))?;
    Ok(fd)
}

/// Allocates all pages of a file of `len` bytes, so that they are charged to this process, and not
/// to the one that reads them first.
///
/// On tmpfs a signal undoes all of it, so that it has to begin anew; but not for ever.
pub(crate) fn allocate(fd: impl AsFd, len: u64) -> Result<(), Errno> {
    check_file_size(len)?;
    let mut allocated = Err(Errno::INTR);
    for _ in 0..1000 {
        allocated = rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len);
        if allocated != Err(Errno::INTR) {
            break;
        }
    }
    allocated
}

pub(crate) fn seal(fd: impl AsFd, seals: Seals) -> Result<(), Error> {
    let seals = seals.needed;
    rustix::fs::fcntl_add_seals(fd, seals).map_err(|errno| {
        let error = system("fcntl(F_ADD_SEALS)", errno).with_detail(format!("{seals:?}"));
        if errno == Errno::INVAL && seals.contains(SealFlags::FUTURE_WRITE) {
            return error.with_remedy("this needs linux 5.1 or newer");
        }
        error
    })
}

/// Checks that a peer's file has these seals, then its size. In this order: an unsealed file could
/// change its size after the look.
pub(crate) fn check(fd: impl AsFd, seals: Seals) -> Result<u64, Error> {
    let found = rustix::fs::fcntl_get_seals(&fd).map_err(|errno| {
        system("fcntl(F_GET_SEALS)", errno)
            .with_kind(ErrorKind::Protocol)
            .with_reason("the descriptor is not a memfd")
    })?;
    if !found.contains(seals.needed) || found.intersects(seals.excluded) {
        return Err(
            Error::new(ErrorKind::Protocol, "fcntl(F_GET_SEALS)").with_reason(format!(
                "the memory's seals are {found:?}; needed are {:?}, and none of {:?}",
                seals.needed, seals.excluded
            )),
        );
    }
    let stat = rustix::fs::fstat(&fd).map_err(|errno| system("fstat", errno))?;
    u64::try_from(stat.st_size).map_err(|_| Error::new(ErrorKind::Protocol, "fstat"))
}

/// Checks that a peer's sealed file of `size` bytes has all its pages.
///
/// A page that is missing would be made, and charged to this process, when it is read here. The
/// seals against writing keep the peer from taking pages out again.
pub(crate) fn check_present(fd: impl AsFd, size: u64) -> Result<(), Error> {
    let stat = rustix::fs::fstat(&fd).map_err(|errno| system("fstat", errno))?;
    // A block has 512 bytes, whatever the file system's are: stat(2).
    let present = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    if present >= size {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Protocol, "fstat")
        .with_reason(format!(
            "only {present} of the memory's {size} bytes are allocated"
        ))
        .with_remedy("have the peer allocate its memory with fallocate(2) before it sends it"))
}

/// Bytes of a page of this file.
pub(crate) fn page_size(fd: BorrowedFd<'_>) -> usize {
    let page = rustix::param::page_size();
    match is_hugetlb(fd) {
        // Of a hugetlbfs the block is the page.
        true => rustix::fs::fstat(fd)
            .ok()
            .and_then(|stat| usize::try_from(stat.st_blksize).ok())
            .map_or(page, |block| block.max(page)),
        false => page,
    }
}
