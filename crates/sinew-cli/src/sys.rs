//! The unsafe code of the program: asking what a signal does.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Whether a signal is ignored: sigaction(2).
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null pointer changes nothing, and `action` has room for what is there.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if asked != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it wrote the whole action.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
