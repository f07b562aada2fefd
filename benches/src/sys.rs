//! The unsafe code of the limits: one message slot of shared memory in each direction, mapped by both
//! processes, and the calls of message queues.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::Result;
use crate::payload::Stamp;

/// Two slots in shared memory, each for one message, of which each process writes one.
///
/// The first word of a message is its flag as well: the writer stores it last, and the reader
/// waits until it changes. A message of a cache line thus moves one line and no other.
///
/// Both processes are this program and take turns: nobody writes a slot whose message has not been
/// answered.
#[derive(Debug)]
pub(crate) struct Mailbox {
    base: NonNull<u64>,
    /// Words of a slot.
    words: usize,
    /// Whether this process writes the first slot.
    first: bool,
    seen: u64,
}

impl Mailbox {
    /// Memory for two slots of `len` bytes, to be opened by both processes.
    pub(crate) fn create(len: usize) -> Result<OwnedFd> {
        let fd = memfd_create("sinew-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, 2 * slot_size(len) as u64)?;
        Ok(fd)
    }

    /// Maps `memory`; one of the two processes is `first`.
    pub(crate) fn open(memory: impl AsFd, len: usize, first: bool) -> Result<Self> {
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
        );
        // SAFETY: a null address lets the kernel choose a range that nothing else uses.
        let base = unsafe { mmap(null_mut(), 2 * slot_size(len), access, flags, memory, 0) }?;
        let base = NonNull::new(base.cast()).ok_or("mmap returned null")?;
        Ok(Self {
            base,
            words: len / 8,
            first,
            seen: 0,
        })
    }

    fn slot(&self, own: bool) -> NonNull<u64> {
        if own == self.first {
            self.base
        } else {
            // SAFETY: the mapping holds two slots, so the second one is inside.
            unsafe { self.base.add(slot_size(8 * self.words) / 8) }
        }
    }

    /// Where the payload of a slot lies: behind the flag.
    fn payload(&self, own: bool) -> NonNull<u64> {
        // SAFETY: a slot holds its flag and `words` words.
        unsafe { self.slot(own).add(1) }
    }

    /// Writes a message into the own slot; its flag comes last.
    #[inline]
    pub(crate) fn put(&mut self, stamp: Stamp) {
        // SAFETY: `words` words are mapped there until `self` is dropped, and by the alternation the
        // peer reads none of them before the flag is stored.
        let payload =
            unsafe { std::slice::from_raw_parts_mut(self.payload(true).as_ptr(), self.words) };
        stamp.fill_words(payload);
        self.flag(true).store(stamp.word(), Ordering::Release);
    }

    /// Whether the peer's slot holds a message that has not been taken.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.flag(false).load(Ordering::Acquire) != self.seen
    }

    /// The message in the peer's slot, if it is a new one.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&[u64]> {
        let flag = self.flag(false).load(Ordering::Acquire);
        if flag == self.seen {
            return None;
        }
        self.seen = flag;
        // SAFETY: `words` words are mapped there until `self` is dropped; the flag was acquired, and by
        // the alternation the peer writes the slot only after our next `put`, which the borrow of
        // `self` excludes while the message is in use.
        Some(unsafe { std::slice::from_raw_parts(self.payload(false).as_ptr(), self.words) })
    }

    fn flag(&self, own: bool) -> &AtomicU64 {
        // SAFETY: a slot's first word is mapped until `self` is dropped, aligned to 8, and only ever
        // accessed by atomics.
        unsafe { AtomicU64::from_ptr(self.slot(own).as_ptr()) }
    }
}

/// Bytes of a slot: a flag, and a payload that may be anything and so cannot be its own flag. Slots share
/// no cache line, nor a pair of them.
fn slot_size(len: usize) -> usize {
    (8 + len).next_multiple_of(128)
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `open`, and no borrow of it outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), 2 * slot_size(8 * self.words)) };
        debug_assert!(unmapped.is_ok(), "the range is a mapping");
    }
}

/// A POSIX message queue, by its system calls.
#[derive(Debug)]
pub(crate) struct PosixQueue(OwnedFd);

impl PosixQueue {
    /// Opens a queue of ten messages of 8192 bytes, without blocking; `create`s it.
    pub(crate) fn open(name: &str, create: bool) -> Result<Self> {
        let name = CString::new(name)?;
        let flags = libc::O_RDWR
            | libc::O_NONBLOCK
            | libc::O_CLOEXEC
            | if create {
                libc::O_CREAT | libc::O_EXCL
            } else {
                0
            };
        // SAFETY: a string that ends with a NUL; a null pointer asks for the default attributes.
        let fd = unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, null_mut::<libc::mq_attr>()) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: a message queue's descriptor is a file's on Linux: mq_overview(7). It was just opened.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn unlink(name: &str) -> Result<()> {
        let name = CString::new(name)?;
        // SAFETY: a string that ends with a NUL.
        match unsafe { libc::mq_unlink(name.as_ptr()) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> std::result::Result<(), Errno> {
        // SAFETY: as many bytes as are there.
        let sent =
            unsafe { libc::mq_send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        match sent {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    pub(crate) fn receive(&self, to: &mut [u8]) -> std::result::Result<usize, Errno> {
        // SAFETY: as much room as is there; the priority is not asked for.
        let count = unsafe {
            libc::mq_receive(
                self.0.as_raw_fd(),
                to.as_mut_ptr().cast(),
                to.len(),
                null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| last_errno())
    }
}

impl AsFd for PosixQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A SysV message queue, by its system calls. Whoever created it removes it.
#[derive(Debug)]
pub(crate) struct SysvQueue {
    id: i32,
    is_ours: bool,
}

/// The longest message: `kernel.msgmax`, as it is unless somebody has changed it.
const MSGMAX: usize = 8192;

/// A message as the calls take it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SysvMessage {
    kind: libc::c_long,
    payload: [u8; MSGMAX],
}

impl SysvMessage {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            kind: 0,
            payload: [0; MSGMAX],
        })
    }

    pub(crate) fn payload(&mut self, len: usize) -> Result<&mut [u8]> {
        let payload = self.payload.get_mut(..len);
        payload.ok_or_else(|| "longer than kernel.msgmax".into())
    }
}

impl SysvQueue {
    pub(crate) fn create() -> Result<Self> {
        // SAFETY: no memory is involved.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        if id < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Self { id, is_ours: true })
    }

    pub(crate) fn attach(id: i32) -> Self {
        Self { id, is_ours: false }
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    pub(crate) fn send(
        &self,
        kind: i64,
        message: &mut SysvMessage,
        len: usize,
    ) -> std::result::Result<(), Errno> {
        message.kind = kind;
        let len = len.min(MSGMAX);
        // SAFETY: a type and as many bytes after it.
        match unsafe { libc::msgsnd(self.id, (&raw const *message).cast(), len, 0) } {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    pub(crate) fn receive(
        &self,
        kind: i64,
        message: &mut SysvMessage,
    ) -> std::result::Result<usize, Errno> {
        // SAFETY: a type and as much room after it.
        let count = unsafe { libc::msgrcv(self.id, (&raw mut *message).cast(), MSGMAX, kind, 0) };
        usize::try_from(count).map_err(|_| last_errno())
    }
}

impl Drop for SysvQueue {
    fn drop(&mut self) {
        if self.is_ours {
            // SAFETY: no memory is involved.
            let _removed = unsafe { libc::msgctl(self.id, libc::IPC_RMID, null_mut()) };
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Declares the other end of a channel trusted.
pub(crate) fn trust(receiver: sinew_shm::Receiver) -> sinew_shm::TrustedReceiver {
    // SAFETY: the other end is this program's own second process, which keeps to the protocol.
    unsafe { receiver.into_trusted() }
}
