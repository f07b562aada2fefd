//! Files, mapped.

use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, check_file_size};

use crate::memfd::{self, system};
use crate::presence::File;
use crate::region::{Origin, Parts, Region};
use crate::sys::{Access, Map};

/// How a file is mapped: a builder.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use sinew_memory::MappedFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("counters");
/// let counters = MappedFile::new(&path).create(true).size(4096).open()?;
/// counters.view::<AtomicU64>(0)?.fetch_add(1, Ordering::Relaxed);
/// counters.flush()?; // It is on the disk.
///
/// let reader = MappedFile::new(&path).read_only(true).open()?;
/// assert_eq!(reader.load::<u64>(0)?, 1);
/// assert!(reader.write(0, b"no").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MappedFile {
    path: PathBuf,
    pub(crate) spec: Spec,
}

/// What is asked of a file, under whatever name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) size: Option<usize>,
    pub(crate) default_size: Option<usize>,
    pub(crate) mode: Option<u32>,
    pub(crate) read_only: bool,
    pub(crate) remove_on_drop: bool,
    pub(crate) sparse: bool,
    pub(crate) huge_pages: bool,
    pub(crate) prefault: bool,
}

macro_rules! options {
    ($remove:ident, $what:literal) => {
        /// Makes it if it is not there; [`size`](Self::size) says how large. Default: false.
        ///
        /// It is never seen before it has its size, unless the file system cannot make files without a
        /// name (`O_TMPFILE`). One that is there and empty gets its size too: its maker has died, or has made it for this.
        #[must_use]
        pub fn create(mut self, create: bool) -> Self {
            self.spec.create = create;
            self
        }

        /// Makes it, and fails if it is there already. Default: false.
        #[must_use]
        pub fn exclusive(mut self, exclusive: bool) -> Self {
            self.spec.exclusive = exclusive;
            self
        }

        /// Bytes of one that is made. One that is there must have as many, and is mapped as a whole; it is
        /// never resized, since others may have it mapped. Default: what it has.
        #[must_use]
        pub fn size(mut self, size: usize) -> Self {
            self.spec.size = Some(size);
            self
        }

        /// Bytes of one that is made, where [`size`](Self::size) does not say; one that is there may have any.
        #[must_use]
        pub fn default_size(mut self, size: usize) -> Self {
            self.spec.default_size = Some(size);
            self
        }

        /// Whether [`create`](Self::create) or [`exclusive`](Self::exclusive) was asked for.
        pub fn creates(&self) -> bool {
            self.spec.create || self.spec.exclusive
        }

        /// Permissions of one that is made, exactly, whatever the umask. Default: 600.
        #[must_use]
        pub fn mode(mut self, mode: u32) -> Self {
            self.spec.mode = Some(mode);
            self
        }

        /// Opens it for reading alone: [`write`](Region::write) and [`view`](Region::view) say so. Default: false.
        #[must_use]
        pub fn read_only(mut self, read_only: bool) -> Self {
            self.spec.read_only = read_only;
            self
        }

        #[doc = concat!("Removes ", $what, " when the last clone of the region is dropped. Default: false.")]
        #[must_use]
        pub fn $remove(mut self, remove: bool) -> Self {
            self.spec.remove_on_drop = remove;
            self
        }

        /// Asks for huge pages, which the kernel may refuse to give. Default: false.
        #[must_use]
        pub fn huge_pages(mut self, huge_pages: bool) -> Self {
            self.spec.huge_pages = huge_pages;
            self
        }

        /// Makes all pages present now: see [`Region::prefault`]. Default: false.
        #[must_use]
        pub fn prefault(mut self, prefault: bool) -> Self {
            self.spec.prefault = prefault;
            self
        }
    };
}
pub(crate) use options;

impl MappedFile {
    /// The file at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            spec: Spec::default(),
        }
    }

    options!(remove_on_drop, "the file");

    /// Leaves the pages of a file that is made to be found when they are first written, rather than reserving them
    /// now. A write then [fails](Region::is_truncated) if the file system is full. Default: false.
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.spec.sparse = sparse;
        self
    }

    /// Opens and maps it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EEXIST` if there is and [`exclusive`](Self::exclusive) was asked for, `EACCES`,
    /// `ENOSPC`, `ENOMEM`; of kind [`InvalidInput`](ErrorKind::InvalidInput) if one is to be made without a size, or one
    /// that is there is smaller, and [`Protocol`](ErrorKind::Protocol) for what is no regular file, or an empty one (`ENODATA`).
    pub fn open(&self) -> Result<Region, Error> {
        self.spec
            .open(&self.path, &self.path.display(), "open", OFlags::empty())
    }
}

/// Tries to open what another process may be removing or making.
const TRIES: usize = 100;

impl Spec {
    /// Opens and maps the file at `path`, which is called `name`.
    pub(crate) fn open(
        &self,
        path: &Path,
        name: &dyn Display,
        operation: &'static str,
        flags: OFlags,
    ) -> Result<Region, Error> {
        let named = |errno| system(operation, errno).with_address(name);
        let access = match self.read_only {
            true => OFlags::RDONLY,
            false => OFlags::RDWR,
        };
        let flags = flags | access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut created = false;
        let mut tries = 0;
        let fd = loop {
            if !self.exclusive {
                match rustix::fs::open(path, flags, Mode::empty()) {
                    Ok(fd) => break fd,
                    Err(Errno::NOENT) if self.create => {}
                    Err(errno) => return Err(named(errno)),
                }
            }
            tries += 1;
            match self.make(path, name, operation) {
                Ok(fd) => {
                    created = true;
                    break fd;
                }
                Err(error)
                    if !self.exclusive
                        && tries < TRIES
                        && error.errno() == Some(Errno::EXIST.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        };
        let made = rustix::fs::fstat(&fd);
        let mapped = self.map(fd, path, name, created);
        if created
            && mapped.is_err()
            && let (Ok(made), Ok(there)) = (made, rustix::fs::lstat(path))
            && (made.st_dev, made.st_ino) == (there.st_dev, there.st_ino)
        {
            let _first_error_counts = rustix::fs::unlink(path);
        }
        mapped
    }

    fn make(
        &self,
        path: &Path,
        name: &dyn Display,
        operation: &'static str,
    ) -> Result<OwnedFd, Error> {
        let failed = |operation, errno| system(operation, errno).with_address(name);
        let size = self.size_to_make(name)?;
        let mode = Mode::from_raw_mode(self.mode.unwrap_or(0o600));
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A file without a name, linked when it is complete: who is killed meanwhile leaves nothing.
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
            Ok(fd) => {
                self.fill(fd.as_fd(), size, mode, name)?;
                let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
                match rustix::fs::linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW) {
                    Ok(()) => return Ok(fd),
                    // Without /proc, as below.
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed(operation, errno)),
                }
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => return Err(failed(operation, errno)),
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        let fd = rustix::fs::open(path, flags, mode).map_err(|errno| failed(operation, errno))?;
        if let Err(error) = self.fill(fd.as_fd(), size, mode, name) {
            let _first_error_counts = rustix::fs::unlink(path);
            return Err(error);
        }
        Ok(fd)
    }

    fn size_to_make(&self, name: &dyn Display) -> Result<usize, Error> {
        self.size
            .or(self.default_size)
            .filter(|size| *size > 0)
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "create")
                    .with_address(name)
                    .with_reason("what is made needs a size")
                    .with_remedy("say how many bytes it has")
            })
    }

    fn fill(
        &self,
        fd: BorrowedFd<'_>,
        size: usize,
        mode: Mode,
        name: &dyn Display,
    ) -> Result<(), Error> {
        rustix::fs::fchmod(fd, mode).map_err(|errno| system("fchmod", errno).with_address(name))?;
        self.grow(fd, size, name)
    }

    fn grow(&self, fd: BorrowedFd<'_>, size: usize, name: &dyn Display) -> Result<(), Error> {
        let failed = |operation, errno| {
            system(operation, errno)
                .with_address(name)
                .with_detail(format!("{size} bytes"))
        };
        let size = size as u64;
        if !self.sparse {
            // Reserved now, or a write would raise SIGBUS once the file system is full.
            match memfd::allocate(fd, size) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(failed("fallocate", errno)),
            }
        }
        check_file_size(size)
            .and_then(|()| rustix::fs::ftruncate(fd, size))
            .map_err(|errno| failed("ftruncate", errno))
    }

    fn map(
        &self,
        owned: OwnedFd,
        path: &Path,
        name: &dyn Display,
        created: bool,
    ) -> Result<Region, Error> {
        let fd = owned.as_fd();
        let stat =
            || rustix::fs::fstat(fd).map_err(|errno| system("fstat", errno).with_address(name));
        let mut found = stat()?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Error::new(ErrorKind::Protocol, "fstat")
                .with_address(name)
                .with_reason("it is no regular file")
                .with_remedy("choose another name"));
        }
        if found.st_size == 0 && self.create && !self.read_only {
            self.grow(fd, self.size_to_make(name)?, name)?;
            found = stat()?;
        }
        let len = self.check(&found, name)?;
        let access = match self.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let map = Map::new(fd, len, access).map_err(|errno| {
            system("mmap", errno)
                .with_address(name)
                .with_detail(format!("{len} bytes"))
        })?;
        if self.huge_pages {
            let _refused = map.prefer_huge();
        }
        let region = Region::assemble(Parts {
            map,
            len,
            writable: !self.read_only,
            created,
            name: name.to_string(),
            owner: Some(found.st_uid),
            origin: Origin::File {
                path: path.to_path_buf(),
                file: (found.st_dev, found.st_ino),
            },
            remove_on_drop: self.remove_on_drop,
            shrinks: Some(memfd::page_size(fd)),
            file: Some(File::opened(owned, &name.to_string())),
        })?;
        if self.prefault {
            match region.prefault() {
                Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
        }
        Ok(region)
    }

    fn check(&self, stat: &Stat, name: &dyn Display) -> Result<usize, Error> {
        let len = usize::try_from(stat.st_size)
            .map_err(|_| system("mmap", Errno::NOMEM).with_address(name))?;
        let least = self.size.unwrap_or(1);
        if len >= least && len > 0 {
            return Ok(len);
        }
        let error = Error::new(ErrorKind::InvalidInput, "open").with_address(name);
        Err(if len == 0 {
            system("open", Errno::NODATA)
                .with_address(name)
                .with_kind(ErrorKind::Protocol)
                .with_reason("it is empty: its maker has not given it a size")
                .with_remedy("open it with create and a size, or wait")
        } else {
            error
                .with_reason(format!("it has {len} bytes, and {least} were asked for"))
                .with_remedy(
                    "ask for what it has, or remove it first: it is not resized, as others may have it mapped",
                )
        })
    }
}

/// `HUGETLBFS_MAGIC`.
pub(crate) fn is_hugetlb(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == 0x9584_58f6)
}
