//! SysV shared memory.

use rustix::io::Errno;
use sinew_core::sysv::{Target as SysvTarget, ftok};
use sinew_core::{Error, ErrorKind};

use crate::memfd::system;
use crate::region::{Origin, Parts, Region, check_len};
use crate::sys::{self, Access, Map};

/// How a SysV segment is opened: a builder.
///
/// A segment outlives those who use it. One that was removed has no key any more and goes with its last
/// user; until then it can still be attached [by its id](SysvTarget::Id), while opening the key says `ENOENT`, or makes a
/// new one.
///
/// # Examples
///
/// ```
/// use sinew_memory::{SysvShm, SysvTarget};
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let region = SysvShm::new(SysvTarget::Private)
///     .size(4096)
///     .remove_on_drop(true)
///     .open()?;
/// region.write(0, b"hello")?;
///
/// let stat = region.sysv_stat()?;
/// let other = SysvShm::new(SysvTarget::Id(stat.id)).read_only(true).open()?;
/// assert_eq!(&other.load::<[u8; 5]>(0)?, b"hello");
/// assert_eq!(region.sysv_stat()?.attachments, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "shmget")]
pub struct SysvShm {
    target: SysvTarget,
    create: bool,
    exclusive: bool,
    size: Option<usize>,
    default_size: Option<usize>,
    mode: u32,
    read_only: bool,
    remove_on_drop: bool,
    huge_pages: bool,
    prefault: bool,
}

/// What the kernel knows of a SysV segment: shmctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SysvStat {
    /// The kernel's number of it.
    pub id: i32,
    /// The key, 0 if it has none or was removed.
    pub key: i32,
    /// Bytes, as they were asked for.
    pub size: usize,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// How often it is attached.
    pub attachments: u64,
    /// The user who made it, and who keeps the owner's rights when it is given to another.
    pub creator_uid: u32,
    /// The process that made it.
    pub creator_pid: i32,
    /// The process that attached or detached it last.
    pub last_pid: i32,
    /// Whether it was removed, and goes with its last user.
    pub removed: bool,
}

impl SysvShm {
    /// The segment that `target` names.
    pub fn new(target: impl Into<SysvTarget>) -> Self {
        Self {
            target: target.into(),
            create: false,
            exclusive: false,
            size: None,
            default_size: None,
            mode: 0o600,
            read_only: false,
            remove_on_drop: false,
            huge_pages: false,
            prefault: false,
        }
    }

    /// Makes it if it is not there; [`size`](Self::size) says how large. Default: false.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Makes it, and fails if it is there already. Default: false.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Bytes of one that is made, up to `kernel.shmmax`. One that is there must have as many, and is
    /// attached as a whole. Default: what it has.
    #[must_use]
    pub fn size(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }

    /// Bytes of one that is made, where [`size`](Self::size) does not say; one that is there may have any.
    #[must_use]
    pub fn default_size(mut self, size: usize) -> Self {
        self.default_size = Some(size);
        self
    }

    /// Whether it may make one: [`create`](Self::create) or [`exclusive`](Self::exclusive) was asked for, or it is
    /// [`Private`](SysvTarget::Private).
    pub fn creates(&self) -> bool {
        let private = matches!(self.target, SysvTarget::Private | SysvTarget::Key(0));
        self.create || self.exclusive || private
    }

    /// Permissions of one that is made, exactly: the umask has no say. Default: 600.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Attaches it for reading alone: [`write`](Region::write) and [`view`](Region::view) say so. Default: false.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Removes it when the last clone of the region is dropped. Default: false.
    #[must_use]
    pub fn remove_on_drop(mut self, remove: bool) -> Self {
        self.remove_on_drop = remove;
        self
    }

    /// Makes it of huge pages (`SHM_HUGETLB`) where this system has some to spare and lets this user have
    /// them; of ordinary ones otherwise. Default: false.
    #[must_use]
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Makes all pages present now: see [`Region::prefault`]. Default: false.
    #[must_use]
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Finds, or makes, and attaches it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EEXIST` if there is and [`exclusive`](Self::exclusive) was asked for, `EACCES`,
    /// `ENOSPC` and `EINVAL` at the limits `kernel.shmmni`, `kernel.shmall` and `kernel.shmmax`, `ENOMEM`; of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) if one is to be made without a size, or one that is there is
    /// smaller.
    pub fn open(&self) -> Result<Region, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (id, created) = self.find()?;
            let attached = self.attach(id, created);
            if created && attached.is_err() {
                // What nobody else knows of yet.
                let _first_error_counts = sys::shm_remove(id);
            }
            match attached {
                // Removed by somebody between the two calls.
                Err(error)
                    if matches!(self.target, SysvTarget::Key(_) | SysvTarget::Path { .. })
                        && error.errno().is_some_and(is_gone)
                        && tries < 100 => {}
                attached => return attached,
            }
        }
    }

    /// Removes a segment: see [`Region::remove`] for one that is attached.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL` if there is none, `EPERM` unless this is the owner, its maker or root.
    pub fn remove(target: impl Into<SysvTarget>) -> Result<(), Error> {
        let this = Self::new(target);
        let (id, _) = this.find()?;
        sys::shm_remove(id).map_err(|errno| this.error("shmctl(IPC_RMID)", errno))
    }

    fn find(&self) -> Result<(i32, bool), Error> {
        let key = match &self.target {
            SysvTarget::Id(id) => return Ok((*id, false)),
            SysvTarget::Private | SysvTarget::Key(0) => return Ok((self.make(0)?, true)),
            SysvTarget::Key(key) => *key,
            SysvTarget::Path { path, project } => ftok(path, *project)?,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            if !self.exclusive {
                match sys::shm_get(key, 0, 0) {
                    Ok(id) => return Ok((id, false)),
                    Err(Errno::NOENT) if self.create => {}
                    Err(errno) => return Err(self.error("shmget", errno)),
                }
            }
            match self.make(key) {
                Err(error)
                    if !self.exclusive
                        && tries < 100
                        && error.errno() == Some(Errno::EXIST.raw_os_error()) => {}
                made => return Ok((made?, true)),
            }
        }
    }

    fn make(&self, key: i32) -> Result<i32, Error> {
        let size = self
            .size
            .or(self.default_size)
            .filter(|size| *size > 0)
            .ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "shmget")
                    .with_address(&self.target)
                    .with_reason("what is made needs a size")
                    .with_remedy("say how many bytes it has")
            })?;
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | (self.mode & 0o777).cast_signed();
        if self.huge_pages {
            match sys::shm_get(key, size, flags | libc::SHM_HUGETLB) {
                Ok(id) => return Ok(id),
                Err(Errno::EXIST) => return Err(self.error("shmget", Errno::EXIST)),
                // There are none, or not for this user.
                Err(_) => {}
            }
        }
        sys::shm_get(key, size, flags).map_err(|errno| {
            let error = self
                .error("shmget", errno)
                .with_detail(format!("size={size}"));
            match errno {
                Errno::INVAL => error
                    .with_reason("the size is above kernel.shmmax")
                    .with_remedy("raise it, or ask for less"),
                Errno::NOSPC => error
                    .with_reason("all segments (kernel.shmmni) or pages (kernel.shmall) are in use")
                    .with_remedy("raise them, or remove segments that ipcs(1) lists"),
                _ => error,
            }
        })
    }

    fn attach(&self, id: i32, created: bool) -> Result<Region, Error> {
        let stat = stat(id).map_err(|errno| self.error("shmctl(IPC_STAT)", errno))?;
        let least = self.size.unwrap_or(1);
        if stat.size < least {
            return Err(Error::new(ErrorKind::InvalidInput, "shmget")
                .with_address(&self.target)
                .with_reason(format!(
                    "it has {} bytes, and {least} were asked for",
                    stat.size
                ))
                .with_remedy("ask for what it has, or remove it first: it cannot be resized"));
        }
        check_len(stat.size)?;
        let access = match self.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let map = Map::attach(id, stat.size, access).map_err(|errno| self.error("shmat", errno))?;
        let region = Region::assemble(Parts {
            map,
            len: stat.size,
            writable: !self.read_only,
            created,
            name: match &self.target {
                SysvTarget::Private | SysvTarget::Key(0) => SysvTarget::Id(id).to_string(),
                target => target.to_string(),
            },
            owner: Some(stat.uid),
            origin: Origin::Sysv { id },
            remove_on_drop: self.remove_on_drop,
            file: None,
            shrinks: None,
        })?;
        if self.prefault {
            match region.prefault() {
                Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
        }
        Ok(region)
    }

    fn error(&self, operation: &'static str, errno: Errno) -> Error {
        let error = system(operation, errno).with_address(&self.target);
        match self.target {
            SysvTarget::Id(_) if is_gone(errno.raw_os_error()) => error
                .with_kind(ErrorKind::NotFound)
                .with_reason("no segment has this id")
                .with_remedy("see `ipcs -m`"),
            _ => error,
        }
    }
}

fn is_gone(errno: i32) -> bool {
    [Errno::INVAL, Errno::IDRM]
        .iter()
        .any(|gone| gone.raw_os_error() == errno)
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the types differ between architectures"
)]
fn stat(id: i32) -> Result<SysvStat, Errno> {
    let stat = sys::shm_stat(id)?;
    let mode = u32::from(stat.shm_perm.mode);
    Ok(SysvStat {
        id,
        key: stat.shm_perm.__key,
        size: usize::try_from(stat.shm_segsz).unwrap_or(usize::MAX),
        mode: mode & 0o777,
        uid: stat.shm_perm.uid,
        gid: stat.shm_perm.gid,
        attachments: u64::from(stat.shm_nattch),
        creator_uid: stat.shm_perm.cuid,
        creator_pid: stat.shm_cpid,
        last_pid: stat.shm_lpid,
        removed: mode & 0o1000 != 0,
    })
}

impl Region {
    /// What the kernel knows of it, if it is a SysV segment.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for any other memory; `EACCES` without permission to read.
    #[doc(alias = "shmctl")]
    pub fn sysv_stat(&self) -> Result<SysvStat, Error> {
        match self.origin() {
            Origin::Sysv { id } => stat(*id)
                .map_err(|errno| system("shmctl(IPC_STAT)", errno).with_address(self.name())),
            _ => Err(Error::new(ErrorKind::InvalidInput, "shmctl")
                .with_address(self.name())
                .with_reason("it is no SysV segment")),
        }
    }
}
