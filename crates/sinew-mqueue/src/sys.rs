//! The unsafe code of this crate: the descriptor of a POSIX queue, and the system calls of SysV queues.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_long, c_void};
use posixmq::PosixMq;
use sinew_core::{StableFd, put_chunks};

use crate::payload::Buffer;

/// The descriptor of a POSIX queue.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(crate) PosixMq);

impl Descriptor {
    /// Another descriptor of the same open file.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// mq_receive(3). `buffer` then holds the payload, of up to `longest` bytes, which is to be what the
    /// queue's messages can have. Returns the priority.
    pub(crate) fn receive(&self, buffer: &mut Buffer, longest: usize) -> io::Result<u32> {
        let memory = buffer.prepare(longest, 1);
        let (queue, to) = (self.0.as_raw_fd(), memory.as_mut_ptr().cast());
        let mut priority = 0;
        // SAFETY: the spare capacity of `memory`, which is empty, has room for `longest` bytes.
        let len = unsafe { libc::mq_receive(queue, to, longest, &raw mut priority) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has written `len` bytes, which is at most `longest`.
        unsafe { memory.set_len(len) };
        Ok(priority)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: on Linux a queue's descriptor is a file descriptor, and `self` keeps it open.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

// SAFETY: a `PosixMq` owns one descriptor in an immutable field, and closes it on drop only.
unsafe impl StableFd for Descriptor {}

/// Bytes of the type tag that precedes the payload in the buffers of msgop(2).
pub(crate) const TAG: usize = size_of::<c_long>();

fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// A type tag as the kernel takes it: a `long`, which has 32 bits on some machines.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
pub(crate) fn tag(kind: i64) -> io::Result<c_long> {
    c_long::try_from(kind).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The other way.
#[allow(clippy::useless_conversion)]
pub(crate) fn kind_of(tag: c_long) -> i64 {
    tag.into()
}

/// msgget(2).
pub(crate) fn get(key: i32, flags: c_int) -> io::Result<i32> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::msgget(key, flags) })
}

/// msgsnd(2), without waiting. `scratch` is overwritten.
pub(crate) fn send(id: i32, kind: c_long, payload: &[u8], scratch: &mut Vec<u8>) -> io::Result<()> {
    scratch.clear();
    scratch.extend_from_slice(&kind.to_ne_bytes());
    scratch.reserve(payload.len());
    put_chunks(scratch, payload);
    let message: *const c_void = scratch.as_ptr().cast();
    // SAFETY: `scratch` holds the tag and, right after it, as many bytes as the call is told.
    check(unsafe { libc::msgsnd(id, message, payload.len(), libc::IPC_NOWAIT) }).map(drop)
}

/// msgrcv(2), without waiting, for payloads of up to `longest` bytes. `buffer` then holds the tag and the
/// payload.
pub(crate) fn receive(
    id: i32,
    buffer: &mut Buffer,
    longest: usize,
    kind: c_long,
    flags: c_int,
) -> io::Result<()> {
    let memory = buffer.prepare(TAG + longest, align_of::<c_long>());
    let to: *mut c_void = memory.as_mut_ptr().cast();
    let flags = flags | libc::IPC_NOWAIT;
    // SAFETY: the spare capacity of `memory`, which is empty, has room for the tag and `longest` bytes after it.
    let len = unsafe { libc::msgrcv(id, to, longest, kind, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the tag and `len` bytes, which is at most `longest`.
    unsafe { memory.set_len(TAG + len) };
    Ok(())
}

/// Blocks until a message could be received. `E2BIG` says that there is one: it has stayed in the queue. Only
/// a message without payload fits in no space at all, so that it is received; its tag is returned.
pub(crate) fn watch(id: i32, kind: c_long, flags: c_int) -> io::Result<i64> {
    let mut tag: c_long = 0;
    // SAFETY: `tag` has room for the tag, and the payload may have no bytes.
    let len = unsafe { libc::msgrcv(id, ptr::from_mut(&mut tag).cast(), 0, kind, flags) };
    match len {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(kind_of(tag)),
    }
}

/// msgctl(2) with `IPC_STAT`.
pub(crate) fn status(id: i32) -> io::Result<libc::msqid_ds> {
    let mut status = MaybeUninit::zeroed();
    // SAFETY: `status` has room for what the call writes.
    check(unsafe { libc::msgctl(id, libc::IPC_STAT, status.as_mut_ptr()) })?;
    // SAFETY: the call has written it, and zeros are valid for each of its fields before.
    Ok(unsafe { status.assume_init() })
}

/// msgctl(2) with `IPC_SET`: owner, mode and `msg_qbytes`.
pub(crate) fn set_status(id: i32, status: &libc::msqid_ds) -> io::Result<()> {
    let status = ptr::from_ref(status).cast_mut();
    // SAFETY: with this command the call only reads.
    check(unsafe { libc::msgctl(id, libc::IPC_SET, status) }).map(drop)
}

/// msgctl(2) with `IPC_RMID`.
pub(crate) fn remove(id: i32) -> io::Result<()> {
    // SAFETY: with this command the call ignores the pointer.
    check(unsafe { libc::msgctl(id, libc::IPC_RMID, ptr::null_mut()) }).map(drop)
}
