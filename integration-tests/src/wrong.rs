//! Descriptors that are not what they should be.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, epoll};
use rustix::fs::SealFlags;

use crate::raw::{RawMemory, hollow, memfd};

/// An eventfd.
pub fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// An epoll instance.
pub fn epoll_instance() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Memory that is not what it should be, which is `size` bytes with these seals.
pub fn wrong_memory(size: u64, right: SealFlags) -> Vec<(&'static str, OwnedFd)> {
    let mut wrong = vec![
        ("no seals", memfd(size, SealFlags::empty())),
        (
            "immutable where it should be written",
            memfd(size, RawMemory::IMMUTABLE),
        ),
        (
            "also sealed against the writer",
            memfd(size, right | SealFlags::WRITE),
        ),
        ("too small", memfd(size - 4096, right)),
        ("too large", memfd(size + 4096, right)),
        ("empty", memfd(0, right)),
        ("not a multiple of the page", memfd(size - 1, right)),
        ("not allocated", hollow(size, right)),
        (
            "a regular file",
            tempfile::tempfile().map(OwnedFd::from).unwrap(),
        ),
        ("/dev/zero", File::open("/dev/zero").unwrap().into()),
        ("a directory", File::open("/").unwrap().into()),
        ("a pipe", pipe().0),
        ("an eventfd", eventfd()),
        ("an epoll instance", epoll_instance()),
        (
            "a socket",
            TcpListener::bind("127.0.0.1:0").map(OwnedFd::from).unwrap(),
        ),
    ];
    for seal in right {
        wrong.push(("one seal missing", memfd(size, right - seal)));
    }
    wrong
}

/// The descriptors of control words and of `data` bytes of data, one of which is not what it should be.
pub fn wrong_memories(data: u64) -> Vec<(String, [OwnedFd; 2])> {
    let right_control = || memfd(4096, RawMemory::FIXED_SIZE);
    let right_data = || memfd(data, RawMemory::SINGLE_WRITER);
    let mut wrong = Vec::new();
    for (name, fd) in wrong_memory(4096, RawMemory::FIXED_SIZE) {
        wrong.push((format!("control: {name}"), [fd, right_data()]));
    }
    for (name, fd) in wrong_memory(data, RawMemory::SINGLE_WRITER) {
        wrong.push((format!("data: {name}"), [right_control(), fd]));
    }
    wrong.push((
        "the wrong way round".to_owned(),
        [right_data(), right_control()],
    ));
    wrong
}

/// Doorbells that are none.
pub fn wrong_bells(data: u64) -> Vec<(&'static str, Option<OwnedFd>)> {
    vec![
        ("none", None),
        ("an eventfd", Some(eventfd())),
        ("a pipe", Some(pipe().0)),
        ("a regular file", Some(tempfile::tempfile().unwrap().into())),
        ("memory", Some(memfd(data, RawMemory::SINGLE_WRITER))),
    ]
}
