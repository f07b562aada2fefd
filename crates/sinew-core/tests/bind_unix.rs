//! Binding paths: whatever the directory is like, and over what ended processes have left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;

use rustix::fs::FlockOperation;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sinew_core::{BoundPath, Error, UnixEndpoint, bind_unix};

fn bind(path: &Path) -> Result<(OwnedFd, Option<BoundPath>), Error> {
    bind_unix(&UnixEndpoint::from(path), None, Some(8), || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|errno| Error::from_raw_os_error("socket", errno.raw_os_error()))
    })
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_locked_directory_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let lock = File::open(directory.path()).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let path = directory.path().join("s");
    let bound = bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(bound);
    drop(UnixListener::bind(&path).unwrap());
    let _bound = bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    assert_eq!(entries(directory.path()), 1);
}

#[test]
fn other_sockets_of_the_directory_stay() {
    let directory = tempfile::tempdir().unwrap();
    let names = [".sinew-app.sock", ".sinew-1-0", ".s.sinew-lock"];
    let others = names.map(|name| bind(&directory.path().join(name)).unwrap());
    let _bound = bind(&directory.path().join("s")).unwrap();
    for name in names {
        UnixStream::connect(directory.path().join(name)).unwrap();
    }
    drop(others);
}

#[test]
fn files_of_others_are_not_taken_for_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let precious = directory.path().join(".s.sinew-lock");
    fs::write(&precious, "precious").unwrap();
    drop(bind(&path).unwrap());
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    // Without the lock, what an ended process has left is not removed.
    drop(UnixListener::bind(&path).unwrap());
    let error = bind(&path).unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
    assert!(error.to_string().contains(".s.sinew-lock"), "{error}");
    assert!(error.remedy().is_some(), "{error}");
    assert!(path.exists());
}

#[test]
fn a_lock_that_a_killed_process_has_left_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    fs::write(directory.path().join(".s.sinew-lock"), "").unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let _bound = bind(&path).unwrap();
    assert_eq!(entries(directory.path()), 1);
}

#[test]
fn a_path_that_another_process_is_binding() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let lock = File::create(directory.path().join(".s.sinew-lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = bind(&path).unwrap_err();
    assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
    assert!(error.to_string().contains(".s.sinew-lock"), "{error}");
    drop(lock);
    let _bound = bind(&path).unwrap();
}

#[test]
fn without_a_mode_the_umask_takes_from_0777() {
    let directory = tempfile::tempdir().unwrap();
    let (path, plain) = (directory.path().join("s"), directory.path().join("p"));
    let _bound = bind(&path).unwrap();
    fs::DirBuilder::new().create(&plain).unwrap();
    let [socket, plain] =
        [path, plain].map(|path| fs::symlink_metadata(path).unwrap().permissions().mode());
    assert_eq!(socket & 0o777, plain & 0o777);
}

#[test]
fn of_many_starters_one_has_the_path() {
    const STARTERS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for round in 0..500 {
        let stale = round % 2 == 0;
        if stale {
            drop(UnixListener::bind(&path).unwrap());
        }
        let together = Barrier::new(STARTERS);
        let results: Vec<_> = std::thread::scope(|scope| {
            let starters = [(); STARTERS].map(|()| {
                scope.spawn(|| {
                    together.wait();
                    bind(&path)
                })
            });
            starters.map(|starter| starter.join().unwrap()).into()
        });
        let bound: Vec<_> = results.iter().flatten().collect();
        assert_eq!(bound.len(), 1, "round {round}: {results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.errno_name(), Some("EADDRINUSE"), "{error}");
        }
        // It is the winner that is reached by the path.
        let _client = UnixStream::connect(&path).unwrap();
        rustix::net::accept(&bound[0].0).unwrap();
        drop(results);
        assert_eq!(entries(directory.path()), 0, "round {round}");
    }
}
