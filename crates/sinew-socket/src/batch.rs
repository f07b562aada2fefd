//! Receiving packets, several with one system call where several are there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use sinew_core::{AdaptiveSpin, AsyncIo};
use tokio::task::coop;

use crate::sys::{self, BATCH, Slot};

/// Packets of a call at first. With two, it is known that there is no second one, without a call that would
/// only say so.
const LEAST: usize = 2;

pub(crate) struct Batch<T> {
    slots: Slots,
    /// What was received, in order, and has not been asked for.
    ready: VecDeque<T>,
    spin: AdaptiveSpin,
}

struct Slots {
    slots: Vec<Slot>,
    limit: usize,
    max_fds: Option<usize>,
    is_named: bool,
    /// How many packets the next call may receive.
    width: usize,
}

impl Slots {
    /// How many were received, and whether there were no more.
    fn receive(&mut self, fd: &OwnedFd) -> io::Result<(usize, bool)> {
        while self.slots.len() < self.width {
            let slot = Slot::new(self.limit, self.max_fds, self.is_named);
            self.slots.push(slot);
        }
        let count = sys::receive_packets(fd.as_fd(), &mut self.slots[..self.width])?;
        let drained = count < self.width;
        if !drained {
            self.width = (self.width * 2).min(BATCH);
        } else if count * 4 <= self.width {
            self.width = (self.width / 2).max(LEAST);
        }
        Ok((count, drained))
    }
}

impl<T> Batch<T> {
    pub(crate) fn new(limit: usize, max_fds: Option<usize>, is_named: bool) -> Self {
        Self {
            slots: Slots {
                slots: Vec::new(),
                limit,
                max_fds,
                is_named,
                width: LEAST,
            },
            ready: VecDeque::new(),
            spin: AdaptiveSpin::adaptive(),
        }
    }

    fn sort(&mut self, count: usize, mut item: impl FnMut(&mut Slot) -> T) {
        for slot in &mut self.slots.slots[..count] {
            self.ready.push_back(item(slot));
        }
    }

    /// The next packet, as `item` makes it of its slot.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &AsyncIo<OwnedFd>,
        item: impl FnMut(&mut Slot) -> T,
    ) -> Poll<io::Result<T>> {
        if !self.ready.is_empty() {
            ready!(coop::poll_proceed(cx)).made_progress();
        } else {
            let Self { slots, spin, .. } = self;
            let count = ready!(socket.poll_read_spinning(cx, spin, |fd| slots.receive(fd)))?;
            self.sort(count, item);
        }
        Poll::Ready(self.ready.pop_front().ok_or_else(nothing))
    }

    /// As [`poll`](Self::poll), without waiting.
    pub(crate) fn try_next(
        &mut self,
        socket: &AsyncIo<OwnedFd>,
        item: impl FnMut(&mut Slot) -> T,
    ) -> io::Result<T> {
        if self.ready.is_empty() {
            let (count, _) = socket.try_read_with(|fd| self.slots.receive(fd))?;
            self.sort(count, item);
        }
        self.ready.pop_front().ok_or_else(nothing)
    }
}

/// A call that succeeds has received something.
fn nothing() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
