//! Taking descriptors that the process was started with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Barrier;

use rustix::io::FdFlags;
use sinew_core::{ErrorKind, is_taken, take_inherited};

/// A descriptor number as a process is started with.
fn inherit(fd: impl Into<OwnedFd>) -> i32 {
    let fd = fd.into();
    rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    let number = fd.as_raw_fd();
    std::mem::forget(fd);
    number
}

#[test]
fn a_file_of_the_program_is_not_taken() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"precious").unwrap();
    let number = file.as_raw_fd();
    let error = take_inherited(number, |_| true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "precious");
}

#[test]
fn each_is_taken_once() {
    let together = Barrier::new(4);
    for _ in 0..100 {
        let number = inherit(File::open("/dev/null").unwrap());
        let results = std::thread::scope(|scope| {
            let takers = [(); 4].map(|()| {
                scope.spawn(|| {
                    together.wait();
                    let fd = take_inherited(number, |_| true);
                    // It is closed once all have asked, so that nobody else gets its number before.
                    together.wait();
                    fd
                })
            });
            takers.map(|taker| taker.join().unwrap())
        });
        let taken: Vec<_> = results.iter().flatten().collect();
        assert_eq!(taken.len(), 1, "{results:?}");
        assert_eq!(taken[0].as_raw_fd(), number);
        let flags = rustix::io::fcntl_getfd(taken[0]).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        assert!(is_taken(number));
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(error.to_string().contains("taken before"), "{error}");
        }
    }
}

#[test]
fn what_is_not_meant_stays() {
    let number = inherit(tempfile::tempfile().unwrap());
    let error = take_inherited(number, |_| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    take_inherited(number, |_| true).unwrap();
}

#[test]
fn standard_streams_stay_open() {
    let first = take_inherited(2, |_| true).unwrap();
    let second = take_inherited(2, |_| true).unwrap();
    assert!(first.as_raw_fd() > 2 && second.as_raw_fd() > 2);
    drop((first, second));
    rustix::io::fcntl_getfd(std::io::stderr()).unwrap();
}

#[test]
fn what_is_not_open() {
    for number in [-1, 1_000_000] {
        let error = take_inherited(number, |_| true).unwrap_err();
        assert_eq!(error.errno_name(), Some("EBADF"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}
