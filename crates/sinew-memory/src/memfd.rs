//! Anonymous files with seals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

/// `F_SEAL_EXEC`, which comes with `MFD_NOEXEC_SEAL` or the sysctl `vm.memfd_noexec` (Linux 6.3).
const SEAL_EXEC: SealFlags = SealFlags::from_bits_retain(0x20);

/// Of memory that one process writes and others read: no further writable mapping, no change of size.
pub(crate) const SINGLE_WRITER: SealFlags = SealFlags::FUTURE_WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Of memory that several processes write: no change of size.
pub(crate) const FIXED_SIZE: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Of memory that nobody writes any more.
pub(crate) const IMMUTABLE: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

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
    rustix::fs::ftruncate(&fd, len)
        .map_err(|errno| system("ftruncate", errno).with_detail(format!("{len} bytes")))?;
    Ok(fd)
}

pub(crate) fn seal(fd: impl AsFd, seals: SealFlags) -> Result<(), Error> {
    rustix::fs::fcntl_add_seals(fd, seals).map_err(|errno| {
        let error = system("fcntl(F_ADD_SEALS)", errno).with_detail(format!("{seals:?}"));
        if errno == Errno::INVAL && seals.contains(SealFlags::FUTURE_WRITE) {
            return error.with_remedy("this needs linux 5.1 or newer");
        }
        error
    })
}

/// Checks that a peer's file has exactly these seals, then its size. In this order: an unsealed file
/// could change its size after the look.
pub(crate) fn check(fd: impl AsFd, seals: SealFlags) -> Result<u64, Error> {
    let found = rustix::fs::fcntl_get_seals(&fd).map_err(|errno| {
        system("fcntl(F_GET_SEALS)", errno)
            .with_kind(ErrorKind::Protocol)
            .with_reason("the descriptor is not a memfd")
    })?;
    if found.difference(SEAL_EXEC) != seals {
        return Err(Error::new(ErrorKind::Protocol, "fcntl(F_GET_SEALS)")
            .with_reason(format!("the memory's seals are {found:?}, not {seals:?}")));
    }
    let stat = rustix::fs::fstat(&fd).map_err(|errno| system("fstat", errno))?;
    u64::try_from(stat.st_size).map_err(|_| Error::new(ErrorKind::Protocol, "fstat"))
}

/// Whether a sealed file of `size` bytes has all its pages, which its seals keep anybody from taking out
/// again.
pub(crate) fn is_present(fd: impl AsFd, size: u64) -> bool {
    let blocks = rustix::fs::fstat(fd).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
    // A block has 512 bytes, whatever the file system's are: stat(2).
    blocks.saturating_mul(512) >= size
}
