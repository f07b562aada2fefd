//! The kernel's limits, and the `mqueue` file system, in namespaces where we may change them.

use std::path::Path;
use std::process::Command;

use sinew_integration_tests::{Peer, Watchdog, program, skip};

const PEER: &str = env!("CARGO_BIN_EXE_mqueue_peer");

/// A peer that is started by `script`, after what `prepare` does, as root of a user namespace without rights
/// outside of it. The scripts get the peer's program and then `arguments` as parameters.
fn contained(test: &str, prepare: &str, script: &str, arguments: &[&str]) -> Option<Peer> {
    let unshare = program(test, "unshare")?;
    let command = |script: &str| {
        let mut command = Command::new(&unshare);
        command
            .args(["--user", "--map-root-user", "--ipc", "--mount", "sh", "-ec"])
            .args([script, "sh", PEER])
            .args(arguments);
        command
    };
    let probe = command(prepare).output().unwrap();
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr);
        skip(test, &format!("no namespaces: {}", why.trim()));
        return None;
    }
    Some(Peer::spawn(&mut command(&format!("{prepare}\n{script}"))))
}

fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
}

#[test]
fn limits_of_posix_queues() {
    const TEST: &str = "mqueue_limits::limits_of_posix_queues";
    let _watchdog = Watchdog::new(TEST);
    let prepare =
        "cd /proc/sys/fs/mqueue; echo 5 > msg_max; echo 256 > msgsize_max; echo 3 > queues_max";
    let arguments = ["posix-limits", "/sinew-limits"];
    let Some(mut peer) = contained(TEST, prepare, "exec \"$@\"", &arguments) else {
        return;
    };
    for parts in [
        ["EINVAL", "maxmsg=6", "fs.mqueue.msg_max is 5", "raise it"],
        [
            "EINVAL",
            "msgsize=257",
            "fs.mqueue.msgsize_max is 256",
            "raise it",
        ],
    ] {
        let line = peer.line();
        says(&line, &["LimitExceeded", "mq_open", "/sinew-limits"]);
        says(&line, &parts);
    }
    assert_eq!(peer.line(), "3");
    says(
        &peer.line(),
        &[
            "LimitExceeded",
            "mq_open",
            "ENOSPC",
            "/sinew-limits-3",
            "fs.mqueue.queues_max is 3",
            "raise it, or unlink queues",
        ],
    );
    assert_eq!(peer.line(), "ok");
    assert!(peer.wait().success());
}

#[test]
fn limits_of_sysv_queues() {
    const TEST: &str = "mqueue_limits::limits_of_sysv_queues";
    let _watchdog = Watchdog::new(TEST);
    let prepare = "cd /proc/sys/kernel; echo 2 > msgmni; echo 64 > msgmax; echo 48 > msgmnb";
    let Some(mut peer) = contained(TEST, prepare, "exec \"$@\"", &["sysv-limits"]) else {
        return;
    };
    for parts in [
        ["msgget", "ENOSPC", "kernel.msgmni is 2", "ipcrm -q"],
        [
            "msgsnd",
            "EINVAL",
            "kernel.msgmax is 64",
            "raise the sysctl",
        ],
        ["msgsnd", "49 bytes", "holds 48 bytes", "kernel.msgmnb"],
    ] {
        let line = peer.line();
        says(&line, &["LimitExceeded"]);
        says(&line, &parts);
    }
    says(
        &peer.line(),
        &["EPERM", "kernel.msgmnb is 48", "raise kernel.msgmnb"],
    );
    assert_eq!(peer.line(), "ok");
    assert!(peer.wait().success());
}

/// Without rights to mount, the list is that of a mounted file system, wherever it is.
#[test]
fn the_file_system() {
    const TEST: &str = "mqueue_limits::the_file_system";
    let _watchdog = Watchdog::new(TEST);
    if program(TEST, "setpriv").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("the queues");
    std::fs::create_dir(&place).unwrap();
    let prepare = "mount -t mqueue none \"$3\"";
    let script = "exec setpriv --inh-caps=-sys_admin --bounding-set=-sys_admin \"$@\"";
    view(TEST, prepare, script, &place);
    // With them, it is mounted besides, unseen.
    view(TEST, prepare, "exec \"$@\"", &place);
}

fn view(test: &str, prepare: &str, script: &str, place: &Path) {
    let arguments = ["posix-view", place.to_str().unwrap()];
    if let Some(mut peer) = contained(test, prepare, script, &arguments) {
        assert_eq!(peer.line(), "ok");
        assert!(peer.wait().success());
    }
}
