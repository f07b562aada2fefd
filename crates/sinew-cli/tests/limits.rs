//! Where a limit leaves nothing: an error in one line, never a panic.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

mod process;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use process::{Ended, Running};
use rustix::process::{Resource, Rlimit, setrlimit};

const NOBODY: u32 = 65534;
const ONE: Rlimit = Rlimit {
    current: Some(1),
    maximum: Some(1),
};

/// Runs the program after `ulimit` in a shell.
fn limited(limit: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]);
    command.arg(env!("CARGO_BIN_EXE_sinew")).args(arguments);
    Running::start(command.stdin(Stdio::null()).env_remove("RUST_LOG")).end()
}

#[test]
fn few_descriptors() {
    let address = format!("unix:@sinew-limits-{}", std::process::id());
    for count in 4..32 {
        let ended = limited(
            &format!("-n {count}"),
            &["recv", "--timeout", "1ms", &address],
        );
        match count {
            ..12 => ended.failed(1, &["EMFILE", "RLIMIT_NOFILE"]),
            _ => ended.failed(1, &[]),
        };
    }
}

/// A file is read and written by Tokio's threads, which can only be found missing by their panic.
#[test]
fn no_thread_for_a_file() {
    let place = process::Place::new();
    let path = place.file("file");
    std::fs::write(&path, "line\n").unwrap();
    for arguments in [&["recv", "fd:0"][..], &["send", "fd:0", "x"]] {
        let file = std::fs::File::options().read(true).write(true).open(&path);
        let ended = without_threads(&place, arguments, file.unwrap().into());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap();
        assert!(
            last.starts_with("sinew: ") && last.contains("EAGAIN"),
            "{last}"
        );
    }
}

#[test]
fn no_thread_can_be_started() {
    let place = process::Place::new();
    for arguments in [
        &["recv", "fd:0"][..],
        &["send", "fd:1"],
        &["send", "--timeout", "10ms", "tcp:localhost:1", "x"],
        &["recv", "--timeout", "10ms", "tcp:localhost:0"],
        &["send", "udp:localhost:1", "x"],
    ] {
        let ended = without_threads(&place, arguments, Stdio::null());
        ended.failed(1, &["pthread_create", "EAGAIN", "ulimit -u"]);
    }
}

/// RLIMIT_NPROC is no limit for root, who becomes another user for this.
fn without_threads(place: &process::Place, arguments: &[&str], stdin: Stdio) -> Ended {
    let program = place.file("sinew");
    // By another process: a child that another test forks from this one would hold the copy open
    // for writing, and it could not be executed.
    let copy = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_sinew").as_ref(), program.as_os_str()])
        .status();
    assert!(copy.unwrap().success());
    for path in [program.parent().unwrap(), &program] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(arguments).stdin(stdin);
    command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // SAFETY: setrlimit(2) is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(|| Ok(setrlimit(Resource::Nproc, ONE)?)) };
    Running::start(&mut command).end()
}
