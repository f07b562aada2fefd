//! Regions that can be truncated under their users, and what becomes of a touch of what is gone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};

use sinew_core::{Error, ErrorKind};

use crate::memfd::system;
use crate::sys;

/// A range of addresses that is looked after. Nodes are never freed but used again, so that a signal
/// handler can walk them.
#[derive(Debug)]
pub(crate) struct Node {
    used: AtomicBool,
    /// Odd while the rest is being changed.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    page: AtomicUsize,
    writable: AtomicBool,
    truncated: AtomicBool,
    next: OnceLock<&'static Node>,
}

static FIRST: Node = Node::new();

impl Node {
    const fn new() -> Self {
        Self {
            used: AtomicBool::new(false),
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            page: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            truncated: AtomicBool::new(false),
            next: OnceLock::new(),
        }
    }

    /// Only by the owner of the node.
    fn set(&self, range: Range) {
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.page.store(range.page, Ordering::Relaxed);
        self.writable.store(range.writable, Ordering::Relaxed);
        self.truncated.store(false, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// `None` if it is being changed, by which it cannot be what is being touched.
    fn get(&self) -> Option<Range> {
        let version = self.version.load(Ordering::Acquire);
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            page: self.page.load(Ordering::Relaxed),
            writable: self.writable.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        (version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version)
            .then_some(range)
    }

    pub(crate) fn mark(&self) {
        self.truncated.store(true, Ordering::SeqCst);
    }
}

/// What is mapped.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Bytes of the pages that it consists of.
    pub(crate) page: usize,
    pub(crate) writable: bool,
}

/// A range that is registered until this is dropped.
#[derive(Debug)]
pub(crate) struct Guard(&'static Node);

impl Guard {
    pub(crate) fn new(range: Range) -> Self {
        let mut node = &FIRST;
        loop {
            if !node.used.load(Ordering::Relaxed) && !node.used.swap(true, Ordering::Acquire) {
                break;
            }
            // Another thread may be faster, and its node is then as good.
            node = node
                .next
                .get_or_init(|| Box::leak(Box::new(const { Node::new() })));
        }
        node.set(range);
        Self(node)
    }

    /// Whether something that was touched was gone. To be called after the touch.
    #[inline]
    pub(crate) fn is_truncated(&self) -> bool {
        // The signal is handled by the thread that touches.
        compiler_fence(Ordering::SeqCst);
        self.0.truncated.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(Range::default());
        self.0.used.store(false, Ordering::Release);
    }
}

/// The registered range that an address lies in. It neither locks nor allocates.
pub(crate) fn find(address: usize) -> Option<(Range, &'static Node)> {
    let mut next = Some(&FIRST);
    while let Some(node) = next {
        if let Some(range) = node.get()
            && (range.start..range.end).contains(&address)
        {
            return Some((range, node));
        }
        next = node.next.get().copied();
    }
    None
}

#[derive(Debug, Clone, Copy)]
enum Policy {
    Handle,
    LeaveAlone,
}

static POLICY: OnceLock<Policy> = OnceLock::new();

/// Has the handler installed, unless it was declined.
pub(crate) fn arm() -> Result<(), Error> {
    static FAILED: OnceLock<Option<rustix::io::Errno>> = OnceLock::new();
    match POLICY.get_or_init(|| Policy::Handle) {
        Policy::LeaveAlone => Ok(()),
        Policy::Handle => match FAILED.get_or_init(|| sys::handle_sigbus().err()) {
            None => Ok(()),
            Some(errno) => Err(system("sigaction(SIGBUS)", *errno)),
        },
    }
}

/// Declines the handler of `SIGBUS` that is otherwise installed with the first mapping of a file.
///
/// Whoever may write to a file may truncate it, and a touch of what is gone raises `SIGBUS`, which ends the
/// process. The handler puts zeros in place of what is gone, marks the [`Region`](crate::Region)
/// [truncated](crate::Region::is_truncated), and lets the program go on, to find an error. It does so for the addresses
/// of regions alone: any other `SIGBUS` goes to the handler that was there before, or ends the process as it
/// would have without.
///
/// A program that has reasons to do without calls this first of all. It must not let other processes
/// truncate its files, then.
///
/// # Errors
///
/// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if the handler is installed already.
pub fn leave_sigbus_alone() -> Result<(), Error> {
    match POLICY.get_or_init(|| Policy::LeaveAlone) {
        Policy::LeaveAlone => Ok(()),
        Policy::Handle => Err(Error::new(ErrorKind::InvalidInput, "leave_sigbus_alone")
            .with_reason("a file is mapped already, and the handler installed")
            .with_remedy("call it before anything else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_while_they_are_held_and_used_again() {
        let range = |number: usize| Range {
            start: number << 20,
            end: (number << 20) + 4096,
            page: 4096,
            writable: true,
        };
        let far = usize::MAX >> 24;
        let guards: Vec<_> = (far..far + 10).map(|n| Guard::new(range(n))).collect();
        let before = count();
        for number in far..far + 10 {
            let (found, _) = find((number << 20) + 4095).unwrap();
            assert_eq!(found.start, number << 20);
            assert!(find((number << 20) + 4096).is_none());
        }
        drop(guards);
        assert!(find(far << 20).is_none());
        let again: Vec<_> = (far..far + 5).map(|n| Guard::new(range(n))).collect();
        assert!(again.iter().all(|guard| !guard.is_truncated()));
        assert!(count() <= before + 1, "nodes are not used again");
    }

    fn count() -> usize {
        std::iter::successors(Some(&FIRST), |node| node.next.get().copied()).count()
    }
}
