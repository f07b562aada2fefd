//! The unsafe code of this crate: mappings, and slices of them.
#![allow(unsafe_code, reason = "system calls on memory")]

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use bytemuck::Pod;
use rustix::io;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use sinew_core::{Error, ErrorKind};

use crate::guard::{self, Range};
use crate::memfd;
use crate::region::Region;

/// What may be done with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

/// A range of addresses, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    len: usize,
    access: Access,
    /// A SysV segment, whose mapping may be longer than it was asked to be.
    is_attached: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}
// SAFETY: a shared reference only gives the address out.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes of a file, shared.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                access.protection(),
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        Self::own(start, len, access)
    }

    /// Maps `len` bytes of no file, shared with the children that are forked.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let access = Access::ReadWrite;
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                access.protection(),
                MapFlags::SHARED,
            )?
        };
        Self::own(start, len, access)
    }

    /// Maps the `body` bytes of a file twice in a row.
    ///
    /// `align` is the file's page size, of which `body` is a multiple.
    pub(crate) fn mirrored(
        fd: BorrowedFd<'_>,
        body: usize,
        align: usize,
        access: Access,
    ) -> io::Result<Self> {
        let len = body.checked_mul(2).ok_or(io::Errno::NOMEM)?;
        let padded = len.checked_add(align).ok_or(io::Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let reserved = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), padded, ProtFlags::empty(), flags)?
        };
        let mut whole = Self::own(reserved, padded, access)?;
        whole.trim(align, len)?;
        for offset in [0, body] {
            // SAFETY: offset + body <= len.
            let at = unsafe { whole.start.as_ptr().add(offset) };
            // SAFETY: the range lies in the reservation made above, which nobody else knows.
            unsafe {
                rustix::mm::mmap(
                    at.cast(),
                    body,
                    access.protection(),
                    MapFlags::SHARED | MapFlags::FIXED,
                    fd,
                    0,
                )?;
            }
        }
        Ok(whole)
    }

    /// Attaches a SysV segment of `len` bytes.
    pub(crate) fn attach(id: i32, len: usize, access: Access) -> io::Result<Self> {
        let flags = match access {
            Access::ReadOnly => libc::SHM_RDONLY,
            Access::ReadWrite => 0,
        };
        // SAFETY: no address is asked for, so that the kernel picks a free range.
        let start = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if start.addr() == usize::MAX {
            return Err(last());
        }
        let mut map = Self::own(start, len, access)?;
        map.is_attached = true;
        Ok(map)
    }

    fn own(start: *mut c_void, len: usize, access: Access) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or(io::Errno::NOMEM)?;
        Ok(Self {
            start,
            len,
            access,
            is_attached: false,
        })
    }

    /// Shrinks a reservation to `len` bytes that begin at a multiple of `align`.
    fn trim(&mut self, align: usize, len: usize) -> io::Result<()> {
        let before = self.start.as_ptr().align_offset(align);
        let after = self.len - before - len;
        if before > 0 {
            // SAFETY: these pages are this value's own, and nothing refers to them.
            unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), before)? };
            // SAFETY: before < self.len.
            self.start = unsafe { self.start.add(before) };
            self.len -= before;
        }
        if after > 0 {
            // SAFETY: len < self.len.
            let end = unsafe { self.start.add(len) };
            // SAFETY: these pages are this value's own, and nothing refers to them.
            unsafe { rustix::mm::munmap(end.as_ptr().cast(), after)? };
            self.len = len;
        }
        Ok(())
    }

    /// Makes pages present, or says what a touch would have said with a signal.
    pub(crate) fn populate(&self) -> io::Result<()> {
        let advice = match self.access {
            Access::ReadOnly => Advice::LinuxPopulateRead,
            Access::ReadWrite => Advice::LinuxPopulateWrite,
        };
        self.advise(advice)
    }

    /// Asks for huge pages, which the kernel may refuse.
    pub(crate) fn prefer_huge(&self) -> io::Result<()> {
        self.advise(Advice::LinuxHugepage)
    }

    /// Has a forked child go without this mapping.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.advise(Advice::LinuxDontFork)
    }

    /// Writes changes to the file, and waits until they are there if asked to.
    pub(crate) fn sync(&self, wait: bool) -> io::Result<()> {
        let flags = match wait {
            true => rustix::mm::MsyncFlags::SYNC,
            false => rustix::mm::MsyncFlags::ASYNC,
        };
        // SAFETY: the range is this value's own, and its contents stay.
        unsafe { rustix::mm::msync(self.start.as_ptr().cast(), self.len, flags) }
    }

    /// The addresses, in whole pages.
    pub(crate) fn range(&self, page: usize) -> Range {
        let start = self.start.as_ptr().addr();
        Range {
            start,
            end: start + self.len.next_multiple_of(page),
            page,
            writable: self.access == Access::ReadWrite,
        }
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this value's own; none of the advices used here changes contents.
        unsafe { rustix::mm::madvise(self.start.as_ptr().cast(), self.len, advice) }
    }

    /// The address `offset` bytes in.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.len, "an offset within the mapping");
        // SAFETY: at most one past the end of this mapping.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast();
        let unmapped = if self.is_attached {
            // SAFETY: the segment was attached here by this value, and whoever borrowed from it is gone.
            match unsafe { libc::shmdt(start) } {
                0 => Ok(()),
                _ => Err(last()),
            }
        } else {
            // SAFETY: the range is this value's own, and whoever borrowed from it is gone.
            unsafe { rustix::mm::munmap(start, self.len) }
        };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// The contents of a file that nobody can change any more.
pub(crate) struct FrozenMap {
    map: Map,
    len: usize,
}

impl FrozenMap {
    /// Maps `len` bytes, more than none, of a file that is checked to be frozen.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> Result<Self, Error> {
        let size = memfd::check(fd, memfd::IMMUTABLE)?;
        if size != len as u64 {
            return Err(
                Error::new(ErrorKind::Protocol, "fstat").with_reason(format!(
                    "the memory has {size} bytes, not the {len} announced"
                )),
            );
        }
        let map = Map::new(fd, len, Access::ReadOnly).map_err(|errno| {
            memfd::system("mmap", errno)
                .with_detail(format!("{len} bytes"))
                .with_remedy("drop earlier messages, or raise vm.max_map_count")
        })?;
        Ok(Self { map, len })
    }
}

impl AsRef<[u8]> for FrozenMap {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `new` checked the seals, which nobody can take off, and that the file has `len`
        // bytes; so it is mapped, readable and immutable.
        unsafe { std::slice::from_raw_parts(self.map.start.as_ptr(), self.len) }
    }
}

/// A memfd that nobody but this value knows, and its contents.
pub(crate) struct PrivateMap {
    fd: OwnedFd,
    map: Option<Map>,
    len: usize,
}

impl PrivateMap {
    /// Creates `len` bytes, all present.
    pub(crate) fn new(len: usize) -> Result<Self, Error> {
        let fd = memfd::create("sinew-frozen", len as u64, false)?;
        let mut map = None;
        if len > 0 {
            let whole = Map::new(fd.as_fd(), len, Access::ReadWrite).map_err(|errno| {
                memfd::system("mmap", errno).with_detail(format!("{len} bytes"))
            })?;
            // A child between fork and exec would hold a writable mapping, which keeps the kernel from
            // sealing the file.
            whole
                .keep_from_children()
                .map_err(|errno| memfd::system("madvise(MADV_DONTFORK)", errno))?;
            match whole.populate() {
                Ok(()) => {}
                // Before Linux 5.14.
                Err(io::Errno::INVAL) => memfd::allocate(&fd, len as u64)
                    .map_err(|errno| memfd::system("fallocate", errno))?,
                Err(errno) => {
                    return Err(memfd::system("madvise(MADV_POPULATE_WRITE)", errno)
                        .with_detail(format!("{len} bytes")));
                }
            }
            map = Some(whole);
        }
        Ok(Self { fd, map, len })
    }

    /// Unmaps the contents and gives the file away.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl Deref for PrivateMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.map {
            // SAFETY: `len` bytes are mapped, and the descriptor has not left this value, so that
            // nobody else reaches them.
            Some(map) => unsafe { std::slice::from_raw_parts(map.start.as_ptr(), self.len) },
            None => &[],
        }
    }
}

impl DerefMut for PrivateMap {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.map {
            // SAFETY: `len` bytes are mapped for writing, and the descriptor has not left this value,
            // so that nobody else reaches them.
            Some(map) => unsafe { std::slice::from_raw_parts_mut(map.start.as_ptr(), self.len) },
            None => &mut [],
        }
    }
}

/// What may lie in memory that other processes change at any time: atomics, and nothing else.
///
/// # Safety
///
/// Every pattern of bits is a valid value, and all of it is inside of atomics, so that a shared reference
/// promises nothing about the bytes.
pub unsafe trait Shared: Send + Sync {}

macro_rules! shared {
    ($($atomic:ident),+ $(,)?) => {
        // SAFETY: an integer's atomic.
        $(unsafe impl Shared for std::sync::atomic::$atomic {})+
    };
}

shared!(
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize,
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize,
);

// SAFETY: an array has nothing besides its elements.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// A place in a region for a `T`, which it keeps mapped.
pub(crate) struct Place<T> {
    at: NonNull<T>,
    region: Region,
    offset: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; what lies there is lent if it is `Shared`, and
// otherwise copied.
unsafe impl<T> Send for Place<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    /// The place at `offset`, which the caller has checked to be inside.
    pub(crate) fn new(region: &Region, offset: usize) -> Self {
        let map = region.map();
        assert!(
            offset <= map.len && size_of::<T>() <= map.len - offset,
            "checked by the caller"
        );
        Self {
            at: map.at(offset).cast(),
            region: region.clone(),
            offset,
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        Self::new(&self.region, self.offset)
    }
}

impl<T: Shared> Place<T> {
    /// The atomics here; the caller has checked that they are aligned.
    #[inline]
    pub(crate) fn shared(&self) -> &T {
        debug_assert!(self.at.is_aligned(), "checked by the caller");
        // SAFETY: inside of the mapping, which the region keeps; `T` is fine with any bits and with their
        // changing.
        unsafe { self.at.as_ref() }
    }
}

impl<T: Pod> Place<T> {
    /// Copies the value out, which others may be writing.
    #[inline]
    pub(crate) fn copy_out(&self) -> T {
        // SAFETY: inside of the mapping, which the region keeps. Others may write meanwhile: then the copy holds
        // arbitrary bits, which is all that the caller assumes of it, and with which `T` is fine.
        unsafe { self.at.read_unaligned() }
    }

    /// Copies a value in. The caller has checked that the mapping is writable.
    #[inline]
    pub(crate) fn copy_in(&self, value: &T) {
        // SAFETY: inside of the mapping, which the region keeps, and no reference to it exists but of atomics.
        unsafe { self.at.write_unaligned(*value) }
    }
}

/// The first `len` bytes of a mapping whose file is sealed so that nobody else can write it.
pub(crate) fn sole_writer(map: &mut Map, len: usize) -> &mut [u8] {
    assert!(
        len <= map.len && matches!(map.access, Access::ReadWrite),
        "checked by the caller"
    );
    // SAFETY: mapped for writing, initialised to zeros, and written through this unique borrow
    // alone, since `F_SEAL_FUTURE_WRITE` keeps others from mapping the file for writing.
    unsafe { std::slice::from_raw_parts_mut(map.start.as_ptr(), len) }
}

/// As [`sole_writer`], for reading.
pub(crate) fn written_here(map: &Map, len: usize) -> &[u8] {
    assert!(
        len <= map.len && matches!(map.access, Access::ReadWrite),
        "checked by the caller"
    );
    // SAFETY: as for `sole_writer`, whose unique borrow excludes this one.
    unsafe { std::slice::from_raw_parts(map.start.as_ptr(), len) }
}

/// Appends the first `len` bytes of memory that another process may be writing; there is room for
/// them.
pub(crate) fn append(map: &Map, len: usize, to: &mut Vec<u8>) {
    let room = to.spare_capacity_mut();
    assert!(len <= map.len && len <= room.len(), "checked by the caller");
    let (from, room) = (map.start.as_ptr(), room.as_mut_ptr().cast());
    // SAFETY: both ranges are whole. Should another process write meanwhile, the copy holds
    // arbitrary bytes, which is all that the caller assumes of it.
    unsafe { std::ptr::copy_nonoverlapping(from, room, len) };
    // SAFETY: the line above initialised them.
    unsafe { to.set_len(to.len() + len) };
}

/// Copies out of memory that others may be writing.
#[inline]
pub(crate) fn copy_out(map: &Map, offset: usize, to: &mut [u8]) {
    assert!(
        offset <= map.len && to.len() <= map.len - offset,
        "checked by the caller"
    );
    // SAFETY: both ranges are whole. Others may write meanwhile: then the copy holds arbitrary bytes, which
    // is all that the caller assumes of it.
    unsafe { std::ptr::copy_nonoverlapping(map.at(offset).as_ptr(), to.as_mut_ptr(), to.len()) }
}

/// Copies into memory that others may be using.
#[inline]
pub(crate) fn copy_in(map: &Map, offset: usize, from: &[u8]) {
    assert!(
        offset <= map.len && from.len() <= map.len - offset,
        "checked by the caller"
    );
    // SAFETY: both ranges are whole, the second is mapped for writing, and no reference to it exists but of
    // atomics.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), map.at(offset).as_ptr(), from.len()) }
}

/// What the last call of the C library failed with.
fn last() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO)
}

/// Finds a SysV segment, or makes it: shmget(2).
pub(crate) fn shm_get(key: i32, len: usize, flags: i32) -> io::Result<i32> {
    // SAFETY: numbers alone.
    match unsafe { libc::shmget(key, len, flags) } {
        -1 => Err(last()),
        id => Ok(id),
    }
}

/// What the kernel knows of a SysV segment: shmctl(2), `IPC_STAT`.
pub(crate) fn shm_stat(id: i32) -> io::Result<libc::shmid_ds> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: the pointer is to a structure of the right type.
    match unsafe { libc::shmctl(id, libc::IPC_STAT, stat.as_mut_ptr()) } {
        -1 => Err(last()),
        // SAFETY: the call has filled it.
        _ => Ok(unsafe { stat.assume_init() }),
    }
}

/// Marks a SysV segment for removal: shmctl(2), `IPC_RMID`.
pub(crate) fn shm_remove(id: i32) -> io::Result<()> {
    // SAFETY: no structure is needed for this.
    match unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) } {
        -1 => Err(last()),
        _ => Ok(()),
    }
}

/// What was to be done about `SIGBUS` before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler.
pub(crate) fn handle_sigbus() -> io::Result<()> {
    // SAFETY: zeros are a valid value: no flags, an empty mask, the default action.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) } != 0 {
        return Err(last());
    }
    // Known before the handler can run.
    PREVIOUS.get_or_init(|| previous);
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    // On the alternate stack, for the sake of an earlier handler that looks for overflows.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe: it loads atomics, maps pages, and calls what was there before.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a valid structure.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code == libc::BUS_ADRERR && replace_gone(address) {
        return;
    }
    pass_on(signal, code, info, context);
}

/// Puts zeros where a region has lost its pages, from the one that was touched to the end.
fn replace_gone(address: usize) -> bool {
    let Some((range, node)) = guard::find(address) else {
        return false;
    };
    let start = address & !(range.page - 1);
    let mut protection = ProtFlags::READ;
    protection.set(ProtFlags::WRITE, range.writable);
    // First, so that nobody sees a zero without being able to know.
    node.mark();
    // SAFETY: the range is of a region that is being used, hence still mapped; nothing but copies and
    // atomics, which are fine with any bits, refers to it.
    let mapped = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::with_exposed_provenance_mut(start),
            range.end - start,
            protection,
            MapFlags::SHARED | MapFlags::FIXED,
        )
    };
    mapped.is_ok()
}

fn pass_on(signal: i32, code: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: zeros are the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let previous = PREVIOUS.get();
    match previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction) {
        libc::SIG_DFL => {
            // SAFETY: async-signal-safe, with a valid structure.
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        }
        // Only what somebody sent can be ignored: the kernel ends a process that ignores a fault.
        libc::SIG_IGN => {}
        handler if previous.is_some_and(|p| p.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: the flag says that the handler has this signature.
            let handler = unsafe {
                std::mem::transmute::<usize, extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void)>(
                    handler,
                )
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without the flag the handler has this signature.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(i32)>(handler) };
            handler(signal);
        }
    }
    // Under the default action, which Rust's own handler gives back before it returns, a fault comes again and
    // ends the process. What somebody sent has to be sent again.
    // SAFETY: async-signal-safe, and only asks.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if code <= 0 && action.sa_sigaction == libc::SIG_DFL {
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
    }
}

/// Opens the file of a descriptor once more: an open file description of its own.
pub(crate) fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
}

#[expect(clippy::cast_possible_truncation, reason = "constants of one digit")]
fn one_byte(at: u64) -> libc::flock {
    // SAFETY: a structure of integers, of which zeros are one.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at.cast_signed();
    lock.l_len = 1;
    lock
}

/// Locks a byte for the open file description, `EAGAIN` if another has it locked.
pub(crate) fn lock_byte(fd: BorrowedFd<'_>, at: u64) -> io::Result<()> {
    let lock = one_byte(at);
    // SAFETY: the structure outlives the call.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        -1 => Err(last()),
        _ => Ok(()),
    }
}

/// Locks all bytes from one on for the open file description.
#[cfg(test)]
pub(crate) fn lock_from(fd: BorrowedFd<'_>, at: u64) -> io::Result<()> {
    let mut lock = one_byte(at);
    lock.l_len = 0;
    // SAFETY: the structure outlives the call.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        -1 => Err(last()),
        _ => Ok(()),
    }
}

/// Whether another open file description, or another process, has a byte locked.
pub(crate) fn is_byte_locked(fd: BorrowedFd<'_>, at: u64) -> io::Result<bool> {
    let mut lock = one_byte(at);
    // SAFETY: the structure outlives the call, which writes to it.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } {
        -1 => Err(last()),
        _ => Ok(i32::from(lock.l_type) != libc::F_UNLCK),
    }
}

/// A random number, of the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is as long as is said. So few bytes are written all at once: getrandom(2).
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(last()),
    }
}

/// A place for one descriptor, which it owns, and which a handler of fork(2) can close.
#[derive(Debug)]
pub(crate) struct FdCell(AtomicI32);

impl FdCell {
    const NONE: RawFd = -1;

    pub(crate) const fn new() -> Self {
        Self(AtomicI32::new(Self::NONE))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::NONE
    }

    /// Puts a descriptor in and lends it, until the caller [closes](Self::close) it. If there is
    /// one already, the new one is closed.
    pub(crate) fn put(&self, fd: OwnedFd) -> Result<BorrowedFd<'_>, ()> {
        let raw = fd.as_raw_fd();
        self.0
            .compare_exchange(Self::NONE, raw, Ordering::SeqCst, Ordering::SeqCst)
            .map_err(drop)?;
        let raw = fd.into_raw_fd();
        // SAFETY: the cell owns the descriptor now. Only the thread that has put it in closes it
        // while it uses the loan; everything else that closes it has the cell to itself.
        Ok(unsafe { BorrowedFd::borrow_raw(raw) })
    }

    /// Closes what is there. Async-signal-safe.
    pub(crate) fn close(&self) {
        match self.0.swap(Self::NONE, Ordering::SeqCst) {
            Self::NONE => {}
            // SAFETY: the cell owned it, and does no more.
            raw => drop(unsafe { OwnedFd::from_raw_fd(raw) }),
        }
    }
}
