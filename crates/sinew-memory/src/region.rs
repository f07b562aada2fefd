//! Memory that several processes read and write.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use bytemuck::Pod;
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, Home};

use crate::file::is_hugetlb;
use crate::guard::{self, Guard};
use crate::memfd::{self, system};
use crate::presence::{File, Presence};
use crate::sys::{self, Access, Map, Shared};
use crate::view::{Slot, View};

/// Memory that several processes may read and write at the same time.
///
/// It is never lent as a slice: what another process can change under one's eyes is no `&[u8]` of Rust's.
/// There are copies ([`read`](Self::read), [`write`](Self::write), [`load`](Self::load),
/// [`store`](Self::store)), and [views](Self::view) of atomics, which may change at any time.
///
/// A `Region` is a handle: clones are of the same mapping, which goes when the last of them and of their
/// views goes. It keeps a descriptor of its file, if it has one, and a second one once this process
/// has [entered](Presence::enter) it, which locks and channels do.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use sinew_memory::Region;
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// region.write(64, b"hello")?;
/// let counter = region.view::<AtomicU64>(128)?;
/// counter.fetch_add(1, Ordering::Relaxed);
///
/// let mut bytes = [0; 5];
/// region.read(64, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// assert_eq!(region.load::<u64>(128)?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Before the mapping, which goes after it.
    guard: Option<Guard>,
    map: Map,
    len: usize,
    writable: bool,
    created: bool,
    name: String,
    owner: Option<u32>,
    origin: Origin,
    remove_on_drop: bool,
    /// The process that is to remove it.
    home: Home,
    /// What was mapped, if it is a file.
    file: Option<Arc<File>>,
    presence: OnceLock<Presence>,
}

/// Where memory comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No name, or nobody's business.
    Nameless,
    /// A file at a path, told apart from a later one there.
    File { path: PathBuf, file: (u64, u64) },
    /// A SysV segment.
    Sysv { id: i32 },
}

/// What [`Region::assemble`] makes a region of.
pub(crate) struct Parts {
    pub(crate) map: Map,
    pub(crate) len: usize,
    pub(crate) writable: bool,
    pub(crate) created: bool,
    pub(crate) name: String,
    pub(crate) owner: Option<u32>,
    pub(crate) origin: Origin,
    pub(crate) remove_on_drop: bool,
    pub(crate) file: Option<File>,
    /// Bytes of a page, if others can truncate it.
    pub(crate) shrinks: Option<usize>,
}

impl Region {
    /// Memory without a name, of `len` bytes, all zero: for this process and those that it forks.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for no bytes; `ENOMEM`.
    pub fn anonymous(len: usize) -> Result<Self, Error> {
        check_len(len)?;
        let map = Map::anonymous(len)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        Ok(Self::new(map, len, "anonymous memory", None))
    }

    /// Memory of `len` bytes, all zero, with the descriptor by which another process
    /// [opens](Self::from_memfd) it. Its size cannot change.
    ///
    /// # Errors
    ///
    /// As for [`anonymous`](Self::anonymous), and `EMFILE`, `ENFILE` at the limit of open files.
    pub fn memfd(len: usize) -> Result<(Self, std::os::fd::OwnedFd), Error> {
        use std::os::fd::AsFd;
        check_len(len)?;
        let fd = memfd::create("sinew-region", len as u64, false)?;
        memfd::seal(&fd, memfd::FIXED_SIZE)?;
        Ok((Self::from_memfd(fd.as_fd())?, fd))
    }

    /// Maps memory that another process made with [`memfd`](Self::memfd).
    ///
    /// It may be on huge pages (`MFD_HUGETLB` in memfd_create(2)). Those can be taken out by any
    /// process that has the descriptor, and then the system may have none left to put in their
    /// place. That is found out as for a file that was truncated: see
    /// [`is_truncated`](Self::is_truncated).
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if the descriptor is not a memfd whose size is
    /// sealed; `ENOMEM` where not as many huge pages are free (`vm.nr_hugepages`).
    pub fn from_memfd(fd: std::os::fd::BorrowedFd<'_>) -> Result<Self, Error> {
        let size = memfd::check(fd, memfd::FIXED_SIZE)?;
        let len = usize::try_from(size).map_err(|_| system("mmap", rustix::io::Errno::NOMEM))?;
        check_len(len)?;
        let map = Map::new(fd, len, Access::ReadWrite)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        let file = given(fd, "memfd")?;
        if is_hugetlb(fd) {
            return Self::assemble(Parts {
                map,
                len,
                writable: true,
                created: true,
                name: "memfd".to_owned(),
                owner: None,
                origin: Origin::Nameless,
                remove_on_drop: false,
                file: Some(file),
                shrinks: Some(memfd::page_size(fd)),
            });
        }
        Ok(Self::new(map, len, "memfd", Some(file)))
    }

    /// Maps `len` bytes of a file that several processes write, which must have as many at least.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) for a file that is shorter or no regular one; `EACCES`, `ENOMEM`.
    pub fn from_file(
        fd: std::os::fd::BorrowedFd<'_>,
        len: usize,
        name: &str,
    ) -> Result<Self, Error> {
        check_len(len)?;
        let stat = rustix::fs::fstat(fd).map_err(|errno| system("fstat", errno))?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() || size < len {
            return Err(Error::new(ErrorKind::Protocol, "fstat")
                .with_address(name)
                .with_reason(format!("it has {size} bytes, and must have {len}")));
        }
        let map = Map::new(fd, len, Access::ReadWrite)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        Self::assemble(Parts {
            map,
            len,
            writable: true,
            created: false,
            name: name.to_owned(),
            owner: Some(stat.st_uid),
            origin: Origin::Nameless,
            remove_on_drop: false,
            file: Some(given(fd, name)?),
            shrinks: Some(memfd::page_size(fd)),
        })
    }

    fn new(map: Map, len: usize, name: impl Into<String>, file: Option<File>) -> Self {
        Self {
            inner: Arc::new(Inner {
                guard: None,
                map,
                len,
                writable: true,
                created: true,
                name: name.into(),
                owner: None,
                origin: Origin::Nameless,
                remove_on_drop: false,
                home: Home::here(),
                file: file.map(Arc::new),
                presence: OnceLock::new(),
            }),
        }
    }

    pub(crate) fn assemble(parts: Parts) -> Result<Self, Error> {
        let guard = match parts.shrinks {
            None => None,
            Some(page) => {
                guard::arm()?;
                Some(Guard::new(parts.map.range(page)))
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                guard,
                map: parts.map,
                len: parts.len,
                writable: parts.writable,
                created: parts.created,
                name: parts.name,
                owner: parts.owner,
                origin: parts.origin,
                remove_on_drop: parts.remove_on_drop,
                home: Home::here(),
                file: parts.file.map(Arc::new),
                presence: OnceLock::new(),
            }),
        })
    }

    pub(crate) fn map(&self) -> &Map {
        &self.inner.map
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether this process may write here.
    pub fn is_writable(&self) -> bool {
        self.inner.writable
    }

    /// What it is, for messages: a path or a name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the user who owned the file, or the SysV segment, when it was opened; `None` for
    /// memory without a name.
    ///
    /// The owner may change the permissions and the content at any time, so a program that trusts
    /// the content trusts that user. A SysV segment can also be changed by its
    /// [creator](crate::SysvStat::creator_uid).
    pub fn owner_uid(&self) -> Option<u32> {
        self.inner.owner
    }

    /// Whether opening it made it, rather than found it.
    pub fn was_created(&self) -> bool {
        self.inner.created
    }

    /// Returns by what other processes that share this memory see that this one is there, and what
    /// it sees of them.
    pub fn presence(&self) -> &Presence {
        let inner = &self.inner;
        inner
            .presence
            .get_or_init(|| Presence::new(inner.file.as_ref()))
    }

    /// Returns whether the name by which this memory was opened is gone, or means other memory by
    /// now: a process that opens it by that name does not meet this one any more.
    ///
    /// It is false for memory without a name, and where it cannot be found out.
    pub fn is_removed(&self) -> bool {
        let inner = &self.inner;
        match &inner.origin {
            Origin::Nameless => false,
            Origin::File { path, file } => {
                // A path that begins in the working directory may mean another place by now.
                let there = rustix::fs::stat(path).ok().filter(|_| path.is_absolute());
                inner.file.as_ref().is_some_and(|file| file.is_unlinked())
                    || there.is_some_and(|stat| (stat.st_dev, stat.st_ino) != *file)
            }
            Origin::Sysv { .. } => self.sysv_stat().is_ok_and(|stat| stat.removed),
        }
    }

    /// The address of a byte, for code that knows what it does with memory that others write.
    ///
    /// It is valid for as long as a clone of this region lives.
    ///
    /// # Panics
    ///
    /// If `offset` is more than the length.
    pub fn as_ptr(&self, offset: usize) -> NonNull<u8> {
        self.inner.map.at(offset)
    }

    /// Whether somebody has truncated the file under this mapping, and this process has touched what is gone. Zeros are in
    /// its place then, which nobody else sees.
    ///
    /// [`read`](Self::read) and [`write`](Self::write) look by themselves. After the use of a
    /// [`View`] of a file that others may truncate, this tells whether what was found there is true. It is never
    /// true of memory that cannot shrink: anonymous, SysV, and a memfd that is not on huge pages.
    ///
    /// The same happens, and is reported in the same way, where a file system has no room for a page that is written for the first
    /// time.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        match &self.inner.guard {
            None => false,
            Some(guard) => guard.is_truncated(),
        }
    }

    /// An error of kind [`Corrupted`](ErrorKind::Corrupted) if it [is truncated](Self::is_truncated).
    ///
    /// # Errors
    ///
    /// That one.
    #[inline]
    pub fn check_intact(&self) -> Result<(), Error> {
        if self.is_truncated() {
            return Err(self.truncated());
        }
        Ok(())
    }

    #[cold]
    fn truncated(&self) -> Error {
        Error::new(ErrorKind::Corrupted, "region")
            .with_address(&self.inner.name)
            .with_reason("the file was truncated while it was mapped, or its file system is full")
            .with_remedy("drop the region, and make it anew")
    }

    /// Writes what was changed to the file, and waits until it is there.
    ///
    /// It blocks the thread, for as long as the disk takes: in a task, use `spawn_blocking`. Memory that is not of a file needs none of
    /// this, and there it does nothing.
    ///
    /// # Errors
    ///
    /// `EIO` and its like, if it could not be written.
    #[doc(alias = "msync")]
    pub fn flush(&self) -> Result<(), Error> {
        self.sync(true)
    }

    /// As [`flush`](Self::flush), without waiting.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush), as far as is known at once.
    #[doc(alias = "msync")]
    pub fn start_flush(&self) -> Result<(), Error> {
        self.sync(false)
    }

    fn sync(&self, wait: bool) -> Result<(), Error> {
        self.inner
            .map
            .sync(wait)
            .map_err(|errno| system("msync", errno).with_address(&self.inner.name))
    }

    /// Makes all pages present, so that no later touch has to wait for one, or fails.
    ///
    /// # Errors
    ///
    /// Of kind [`Corrupted`](ErrorKind::Corrupted) where a touch would have raised `SIGBUS`; `ENOMEM`; of kind
    /// [`Unsupported`](ErrorKind::Unsupported) before Linux 5.14.
    #[doc(alias = "MADV_POPULATE_WRITE")]
    pub fn prefault(&self) -> Result<(), Error> {
        self.inner.map.populate().map_err(|errno| match errno {
            Errno::FAULT | Errno::HWPOISON => self.truncated(),
            Errno::INVAL => system("madvise", errno)
                .with_kind(ErrorKind::Unsupported)
                .with_address(&self.inner.name)
                .with_reason("this kernel cannot make pages present on request")
                .with_remedy("use linux 5.14 or newer"),
            _ => system("madvise", errno).with_address(&self.inner.name),
        })
    }

    /// Removes its name, or key. Those who have it keep it, and it goes with the last of them.
    ///
    /// A name that means another object by now is left alone.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is gone, `EACCES`, `EPERM`; of kind [`InvalidInput`](ErrorKind::InvalidInput) for memory
    /// without a name.
    #[doc(alias = "shm_unlink")]
    #[doc(alias = "IPC_RMID")]
    pub fn remove(&self) -> Result<(), Error> {
        self.inner.remove()
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// Another process may write them meanwhile: the copy is then a mixture.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, and
    /// [`Corrupted`](ErrorKind::Corrupted) if it [is truncated](Self::is_truncated).
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.check(offset, to.len(), 1)?;
        sys::copy_out(&self.inner.map, offset, to);
        self.check_intact()
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, or if this process may only read, and
    /// [`Corrupted`](ErrorKind::Corrupted) if it [is truncated](Self::is_truncated).
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.check_writable()?;
        self.check(offset, from.len(), 1)?;
        sys::copy_in(&self.inner.map, offset, from);
        self.check_intact()
    }

    /// Copies a value out: see [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    #[inline]
    pub fn load<T: Pod>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::zeroed();
        self.read(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value in: see [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    #[inline]
    pub fn store<T: Pod>(&self, offset: usize, value: &T) -> Result<(), Error> {
        self.write(offset, bytemuck::bytes_of(value))
    }

    /// Atomics at `offset`, where they lie.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, at an offset that is not aligned,
    /// or if this process may only read, since an atomic can be written.
    pub fn view<T: Shared>(&self, offset: usize) -> Result<View<T>, Error> {
        self.check_writable()?;
        self.check(offset, size_of::<T>(), align_of::<T>())?;
        Ok(View::new(self, offset))
    }

    /// A value at `offset`, to be copied out and in again and again: the range is checked once, here.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, or if this process may only read.
    pub fn slot<T: Pod>(&self, offset: usize) -> Result<Slot<T>, Error> {
        self.check_writable()?;
        self.check(offset, size_of::<T>(), 1)?;
        Ok(Slot::new(self, offset))
    }

    #[inline]
    fn check_writable(&self) -> Result<(), Error> {
        if self.inner.writable {
            return Ok(());
        }
        Err(self.invalid(
            "this process has attached it for reading".to_owned(),
            "attach it for writing",
        ))
    }

    #[inline]
    fn check(&self, offset: usize, len: usize, align: usize) -> Result<(), Error> {
        if !offset.is_multiple_of(align) {
            return Err(self.invalid(
                format!("the offset {offset} is not a multiple of {align}"),
                "align it",
            ));
        }
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.inner.len)
        {
            return Err(self.invalid(
                format!(
                    "{len} bytes at {offset} reach past its {} bytes",
                    self.inner.len
                ),
                "make it larger",
            ));
        }
        Ok(())
    }

    fn invalid(&self, reason: String, remedy: &'static str) -> Error {
        Error::new(ErrorKind::InvalidInput, "region")
            .with_address(&self.inner.name)
            .with_reason(reason)
            .with_remedy(remedy)
    }
}

impl Inner {
    fn remove(&self) -> Result<(), Error> {
        match &self.origin {
            Origin::Nameless => Err(Error::new(ErrorKind::InvalidInput, "remove")
                .with_address(&self.name)
                .with_reason("it has no name")
                .with_remedy("drop it, and it goes with its last user")),
            Origin::File { path, file } => {
                let failed = |errno| system("unlink", errno).with_address(&self.name);
                let stat = rustix::fs::lstat(path).map_err(failed)?;
                if (stat.st_dev, stat.st_ino) != *file {
                    return Err(failed(Errno::NOENT)
                        .with_reason("it was removed, and the name means another file by now"));
                }
                rustix::fs::unlink(path).map_err(failed)
            }
            Origin::Sysv { id } => sys::shm_remove(*id)
                .map_err(|errno| system("shmctl(IPC_RMID)", errno).with_address(&self.name)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.remove_on_drop && self.home.is_here() {
            let _gone_before = self.remove();
        }
    }
}

/// The file of a descriptor that the caller keeps.
fn given(fd: BorrowedFd<'_>, name: &str) -> Result<File, Error> {
    let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0)
        .map_err(|errno| system("fcntl(F_DUPFD_CLOEXEC)", errno).with_address(name))?;
    Ok(File::given(fd, name))
}

pub(crate) fn check_len(len: usize) -> Result<(), Error> {
    if len > 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "region")
        .with_reason("it would have no bytes")
        .with_remedy("ask for at least one"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::*;

    #[test]
    fn copies_and_views_are_of_the_same_bytes() {
        let (region, fd) = Region::memfd(4096).unwrap();
        let other = Region::from_memfd(fd.as_fd()).unwrap();
        region.store(8, &[1_u32, 2, 3]).unwrap();
        let view = other.view::<[AtomicU32; 3]>(8).unwrap();
        view[1].fetch_add(40, Ordering::Relaxed);
        drop(other);
        assert_eq!(region.load::<[u32; 3]>(8).unwrap(), [1, 42, 3]);
        assert_eq!(view[2].load(Ordering::Relaxed), 3);
    }

    #[test]
    fn bounds_and_alignment() {
        let region = Region::anonymous(4096).unwrap();
        assert!(region.view::<AtomicU64>(4088).is_ok());
        for (offset, reason) in [
            (4, "not a multiple of 8"),
            (4096, "reach past its 4096 bytes"),
            (usize::MAX - 7, "reach past"),
        ] {
            let error = region.view::<AtomicU64>(offset).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(region.write(4095, b"ab").is_err());
        assert!(region.read(usize::MAX, &mut [0]).is_err());
        assert!(Region::anonymous(0).is_err());
    }
}
