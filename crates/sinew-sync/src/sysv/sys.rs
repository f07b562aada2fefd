//! The system calls of SysV semaphores.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_short, c_ushort};

/// One operation of semop(2), laid out as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(super) struct Step {
    pub(super) index: c_ushort,
    pub(super) value: c_short,
    flags: c_short,
}

const _: () = assert!(
    size_of::<Step>() == size_of::<libc::sembuf>()
        && offset_of!(Step, index) == offset_of!(libc::sembuf, sem_num)
        && offset_of!(Step, value) == offset_of!(libc::sembuf, sem_op)
        && offset_of!(Step, flags) == offset_of!(libc::sembuf, sem_flg)
);

#[allow(clippy::cast_possible_truncation, reason = "bits of a short")]
impl Step {
    const UNDO: c_short = libc::SEM_UNDO as c_short;
    const NOWAIT: c_short = libc::IPC_NOWAIT as c_short;

    pub(super) const fn new(index: u16, value: i16) -> Self {
        Self {
            index,
            value,
            flags: 0,
        }
    }

    pub(super) const fn undo(mut self, undo: bool) -> Self {
        self.flags = match undo {
            true => self.flags | Self::UNDO,
            false => self.flags & !Self::UNDO,
        };
        self
    }

    pub(super) const fn nowait(mut self, nowait: bool) -> Self {
        self.flags = match nowait {
            true => self.flags | Self::NOWAIT,
            false => self.flags & !Self::NOWAIT,
        };
        self
    }

    pub(super) const fn is_undo(self) -> bool {
        self.flags & Self::UNDO != 0
    }

    pub(super) const fn is_nowait(self) -> bool {
        self.flags & Self::NOWAIT != 0
    }
}

// Not in the libc crate.
unsafe extern "C" {
    fn semtimedop(
        id: c_int,
        steps: *mut libc::sembuf,
        count: libc::size_t,
        timeout: *const libc::timespec,
    ) -> c_int;
}

/// The last argument of semctl(2).
#[repr(C)]
#[derive(Clone, Copy)]
union Argument {
    value: c_int,
    status: *mut libc::semid_ds,
    values: *mut c_ushort,
}

fn check(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// semget(2).
pub(super) fn get(key: i32, count: u16, flags: c_int) -> io::Result<i32> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::semget(key, c_int::from(count), flags) })
}

/// semop(2).
pub(super) fn operate(id: i32, steps: &[Step]) -> io::Result<()> {
    let pointer = steps.as_ptr().cast::<libc::sembuf>().cast_mut();
    // SAFETY: a `Step` is laid out as a `sembuf`, there are as many as the call is told, and it only reads.
    check(unsafe { libc::semop(id, pointer, steps.len()) }).map(drop)
}

/// semtimedop(2): `EAGAIN` when the time is up.
pub(super) fn operate_within(id: i32, steps: &[Step], timeout: Duration) -> io::Result<()> {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let pointer = steps.as_ptr().cast::<libc::sembuf>().cast_mut();
    // SAFETY: as for `operate`, and the time outlives the call.
    check(unsafe { semtimedop(id, pointer, steps.len(), &raw const timeout) }).map(drop)
}

/// semctl(2) with `IPC_STAT`.
pub(super) fn status(id: i32) -> io::Result<libc::semid_ds> {
    let mut status = MaybeUninit::zeroed();
    let argument = Argument {
        status: status.as_mut_ptr(),
    };
    // SAFETY: `status` has room for what the call writes.
    check(unsafe { libc::semctl(id, 0, libc::IPC_STAT, argument) })?;
    // SAFETY: the call has written it, and zeros are valid for each of its fields before.
    Ok(unsafe { status.assume_init() })
}

/// semctl(2) with `IPC_SET`: owner and mode.
pub(super) fn set_status(id: i32, status: &libc::semid_ds) -> io::Result<()> {
    let argument = Argument {
        status: ptr::from_ref(status).cast_mut(),
    };
    // SAFETY: with this command the call only reads.
    check(unsafe { libc::semctl(id, 0, libc::IPC_SET, argument) }).map(drop)
}

/// semctl(2) with `IPC_RMID`.
pub(super) fn remove(id: i32) -> io::Result<()> {
    // SAFETY: with this command the call has no further argument.
    check(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}

/// semctl(2) with a command that answers a number: `GETVAL`, `GETNCNT`, `GETZCNT`, `GETPID`.
pub(super) fn number(id: i32, index: u16, command: c_int) -> io::Result<u32> {
    // SAFETY: with these commands the call has no further argument.
    let number = check(unsafe { libc::semctl(id, c_int::from(index), command) })?;
    Ok(u32::try_from(number).unwrap_or(0))
}

/// semctl(2) with `SETVAL`.
pub(super) fn set_value(id: i32, index: u16, value: u16) -> io::Result<()> {
    let argument = Argument {
        value: c_int::from(value),
    };
    // SAFETY: with this command the call takes the number.
    check(unsafe { libc::semctl(id, c_int::from(index), libc::SETVAL, argument) }).map(drop)
}

/// semctl(2) with `GETALL`, of a set that has `count` semaphores: a set's size never changes.
pub(super) fn values(id: i32, count: u16) -> io::Result<Vec<u16>> {
    let mut values = vec![0; usize::from(count)];
    let argument = Argument {
        values: values.as_mut_ptr(),
    };
    // SAFETY: there is room for a value of each semaphore of the set.
    check(unsafe { libc::semctl(id, 0, libc::GETALL, argument) })?;
    Ok(values)
}

/// semctl(2) with `SETALL`, of a set that has as many semaphores.
pub(super) fn set_values(id: i32, values: &[u16]) -> io::Result<()> {
    let argument = Argument {
        values: values.as_ptr().cast_mut(),
    };
    // SAFETY: with this command the call only reads, a value of each semaphore of the set.
    check(unsafe { libc::semctl(id, 0, libc::SETALL, argument) }).map(drop)
}
