//! Files that are truncated under their users. Each case is a process of its own: it may die by a signal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};

use sinew_memory::{MappedFile, Region, leave_sigbus_alone};

const CASE: &str = "SINEW_TRUNCATED_CASE";
const SIGBUS: i32 = 7;

/// Runs a case of `child` in a process of its own.
fn run(case: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .status()
        .unwrap()
}

fn region(directory: &Path) -> (Region, File) {
    let path = directory.join("file");
    let region = MappedFile::new(&path)
        .create(true)
        .size(64 << 10)
        .open()
        .unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    (region, file)
}

/// Not a test of its own.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    if case == "declined" {
        leave_sigbus_alone().unwrap();
    }
    let (region, file) = region(directory.path());
    region.write(0, &[1; 64 << 10]).unwrap();
    match case.as_str() {
        "read" => {
            file.set_len(8192).unwrap();
            assert!(!region.is_truncated(), "nothing that is gone was touched");
            region.read(0, &mut [0; 8192]).unwrap();
            let mut bytes = [9; 100];
            let error = region.read(20_000, &mut bytes).unwrap_err();
            assert!(
                error.is_corrupted() && error.to_string().contains("truncated"),
                "{error}"
            );
            assert_eq!(bytes, [0; 100]);
            // From then on everything says so, and nothing faults.
            assert!(region.is_truncated());
            assert!(region.write(63 << 10, &[1; 1024]).is_err());
            assert!(region.load::<u64>(0).unwrap_err().is_corrupted());
            assert!(leave_sigbus_alone().is_err());
        }
        "write" => {
            file.set_len(0).unwrap();
            assert!(region.write(0, &[1; 64 << 10]).unwrap_err().is_corrupted());
        }
        "view" => {
            let view = region.view::<AtomicU64>(40_000).unwrap();
            file.set_len(4096).unwrap();
            view.fetch_add(1, Ordering::Relaxed);
            assert!(view.region().is_truncated());
            assert!(region.check_intact().is_err());
        }
        "read-only" => {
            let path = directory.path().join("file");
            let reader = MappedFile::new(path).read_only(true).open().unwrap();
            file.set_len(4096).unwrap();
            assert!(reader.load::<u8>(5000).unwrap_err().is_corrupted());
            assert!(!region.is_truncated(), "that one was not touched");
        }
        "prefault" => {
            file.set_len(4096).unwrap();
            let error = region.prefault().unwrap_err();
            assert!(error.is_corrupted(), "{error}");
        }
        "threads" => {
            file.set_len(4096).unwrap();
            std::thread::scope(|scope| {
                for index in 1..16 {
                    let region = &region;
                    scope.spawn(move || {
                        for _ in 0..100 {
                            assert!(region.load::<u64>(index * 4096).unwrap_err().is_corrupted());
                        }
                    });
                }
            });
        }
        "many" => {
            for round in 0..200 {
                let path = directory.path().join(format!("{round}"));
                let other = MappedFile::new(&path)
                    .create(true)
                    .size(8192)
                    .open()
                    .unwrap();
                let shrunk = File::options().write(true).open(&path).unwrap();
                shrunk.set_len(0).unwrap();
                assert!(other.load::<u64>(4096).unwrap_err().is_corrupted());
            }
            region.check_intact().unwrap();
        }
        "declined" => {
            file.set_len(0).unwrap();
            let _dies = region.load::<u64>(0);
        }
        "elsewhere" => {
            // Not one of this crate's.
            let other = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(directory.path().join("other"))
                .unwrap();
            other.set_len(4096).unwrap();
            sys::touch_truncated(&other);
        }
        "sent" => {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::BUS).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        "chained" => {
            file.set_len(0).unwrap();
            assert!(region.load::<u64>(0).is_err());
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::BUS).unwrap();
        }
        case => panic!("no case {case}"),
    }
}

#[test]
fn a_touch_of_what_is_gone_is_an_error() {
    for case in [
        "read",
        "write",
        "view",
        "read-only",
        "prefault",
        "threads",
        "many",
    ] {
        assert!(run(case).success(), "{case}");
    }
}

#[test]
fn any_other_sigbus_still_kills() {
    for case in ["elsewhere", "sent", "declined", "chained"] {
        assert_eq!(run(case).signal(), Some(SIGBUS), "{case}");
    }
}

mod sys {
    #![allow(unsafe_code)]

    use std::fs::File;

    pub(super) fn touch_truncated(file: &File) {
        use rustix::mm::{MapFlags, ProtFlags};
        // SAFETY: no address is asked for.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                4096,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )
        };
        file.set_len(0).unwrap();
        // SAFETY: mapped; that this dies is the point.
        let _byte = unsafe { at.unwrap().cast::<u8>().read_volatile() };
    }
}
