//! Where a limit leaves nothing: an error in one line, never a panic.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

mod process;

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

/// RLIMIT_NPROC is no limit for root, who becomes another user for this.
#[test]
fn no_thread_can_be_started() {
    let place = process::Place::new();
    let program = place.file("sinew");
    std::fs::copy(env!("CARGO_BIN_EXE_sinew"), &program).unwrap();
    let directory = program.parent().unwrap();
    for path in [directory, &program] {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, everybody).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    for arguments in [
        &["recv", "fd:0"][..],
        &["send", "fd:1"],
        &["send", "--timeout", "10ms", "tcp:localhost:1", "x"],
        &["recv", "--timeout", "10ms", "tcp:localhost:0"],
        &["send", "udp:localhost:1", "x"],
    ] {
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        // SAFETY: setrlimit(2) is async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(|| Ok(setrlimit(Resource::Nproc, ONE)?)) };
        let ended = Running::start(command.env_remove("RUST_LOG")).end();
        ended.failed(1, &["pthread_create", "EAGAIN", "ulimit -u"]);
    }
}
