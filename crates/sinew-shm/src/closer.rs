//! Closes descriptors that strangers sent on threads of their own, since close(2) may block.
//!
//! A socket with `SO_LINGER` blocks its last close for as long as its maker has chosen, and a file
//! of a FUSE file system until its server answers. A descriptor that is merely queued in a Unix
//! socket is closed with that socket, in the same way. No thread of a runtime may wait for that.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most threads, each of which one descriptor may block.
const MAX_THREADS: usize = 8;
/// With as many descriptors under way, listeners accept nobody.
const FULL: usize = 256;

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    threads: 0,
});

fn queue() -> MutexGuard<'static, Queue> {
    // Nothing in the critical sections panics half-way through a change.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether so many closes are blocked that no more descriptors should be let in.
pub(crate) fn is_full() -> bool {
    queue().waiting.len() >= FULL
}

/// Closes a descriptor where nothing waits for it.
pub(crate) fn close(fd: OwnedFd) {
    let mut queue = queue();
    queue.waiting.push_back(fd);
    if queue.threads == MAX_THREADS {
        return;
    }
    let thread = std::thread::Builder::new()
        .name("sinew-closer".to_owned())
        .stack_size(64 << 10)
        .spawn(run);
    // Without a thread, the descriptor waits for the next call that gets one.
    if thread.is_ok() {
        queue.threads += 1;
    }
}

fn run() {
    sinew_core::interrupt::block_signals();
    loop {
        let next = {
            let mut queue = queue();
            let next = queue.waiting.pop_front();
            if next.is_none() {
                queue.threads -= 1;
            }
            next
        };
        match next {
            Some(fd) => drop(fd),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use rustix::net::sockopt::set_socket_linger;

    use super::*;

    /// A socket whose close blocks for three seconds, and the end that keeps it from being sent
    /// empty.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 65536]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        set_socket_linger(socket.as_fd(), Some(Duration::from_secs(3))).unwrap();
        (socket.into(), peer)
    }

    #[test]
    fn a_close_that_blocks_holds_up_neither_the_caller_nor_the_next() {
        let (slow, mut peer) = lingering();
        let (mut end, quick) = std::os::unix::net::UnixStream::pair().unwrap();
        let begun = Instant::now();
        close(slow);
        close(quick.into());
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(2));
        // Read empty, it is closed.
        assert!(peer.read_to_end(&mut Vec::new()).is_ok());
        let deadline = Instant::now() + Duration::from_secs(20);
        while queue().threads > 0 {
            assert!(Instant::now() < deadline, "a thread is left");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(queue().waiting.is_empty());
    }
}
