//! Limits and permissions, each in a process of its own.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use sinew_core::{Error, ErrorKind};
use sinew_integration_tests::{Watchdog, skip};
use sinew_pipe::{Options, fifo, pair};

const PART: &str = "SINEW_PIPE_PART";

/// Runs a part of a test in another process.
fn part(name: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    // The build's directories may be closed to others.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("part");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--exact", "second_process", "--nocapture"])
        .env(PART, name);
    prepare(&mut command);
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            output => break output.unwrap(),
        }
    };
    assert!(output.status.success(), "{name}: {output:?}");
    output
}

/// What [`part`] runs; nothing by itself.
#[tokio::test]
async fn second_process() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let path = std::env::var("SINEW_PIPE_PATH").unwrap_or_default();
    match part.as_str() {
        "descriptors" => descriptors(&path).await,
        "permission" => permission(&path).await,
        "umask" => umask(&path),
        "pipe-size" => pipe_size().await,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert!(error.remedy().is_some(), "nothing to do about it: {text}");
}

#[test]
fn no_more_descriptors() {
    let _watchdog = Watchdog::new("no_more_descriptors");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo::create(&path, 0o600).unwrap();
    part("descriptors", |command| {
        command.env("SINEW_PIPE_PATH", &path);
    });
}

async fn descriptors(path: &str) {
    // What the runtime and the library open once is open.
    drop(pair().unwrap());
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let mut held = Vec::new();
    for limit in open - 1..open + 12 {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(4096),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let errors = [
            pair().err(),
            Options::new().packet_pair().err(),
            Options::new().spawn(&mut Command::new("true")).err(),
            fifo::Options::new()
                .eof(fifo::Eof::Hold)
                .receiver(path)
                .await
                .err(),
        ];
        for error in errors.into_iter().flatten() {
            says(&error, ErrorKind::LimitExceeded, &["EMFILE", "ulimit -n"]);
            held.push(error);
        }
    }
    assert!(held.len() > 4);
    drop(pair().unwrap());
    let after = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    assert!(after <= open, "{after} after {open}");
}

#[test]
fn no_permission() {
    let _watchdog = Watchdog::new("no_permission");
    if !rustix::process::geteuid().is_root() {
        skip("no_permission", "needs root, to become somebody else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = directory.path().join("fifo");
    fifo::create(&path, 0o600).unwrap();
    part("permission", |command| {
        command.env("SINEW_PIPE_PATH", &path).uid(65534).gid(65534);
    });
}

async fn permission(path: &str) {
    let options = fifo::Options::new();
    for error in [
        options.receiver(path).await.unwrap_err(),
        options.sender(path).await.unwrap_err(),
    ] {
        says(&error, ErrorKind::Refused, &["open", path, "EACCES"]);
    }
    let taken = options.clone().create(true).mode(0o666);
    let error = taken.receiver(path).await.unwrap_err();
    says(&error, ErrorKind::Refused, &["EPERM", "600", "remove it"]);
    let error = options.create(true).receiver(format!("{path}2")).await;
    says(
        &error.unwrap_err(),
        ErrorKind::Refused,
        &["mkfifo", "EACCES"],
    );
    assert!(fifo::create(format!("{path}2"), 0o600).is_err());
}

/// The umask belongs to the process, so this has one of its own.
#[test]
fn the_umask_does_not_count() {
    let _watchdog = Watchdog::new("the_umask_does_not_count");
    let directory = tempfile::tempdir().unwrap();
    part("umask", |command| {
        command.env("SINEW_PIPE_PATH", directory.path().join("fifo"));
    });
}

fn umask(path: &str) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
    for mode in [0o666, 0o777, 0o620] {
        fifo::create(path, mode).unwrap();
        let now = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(now & 0o7777, mode);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_pipe_that_is_too_large() {
    let _watchdog = Watchdog::new("a_pipe_that_is_too_large");
    if !rustix::process::geteuid().is_root() {
        skip(
            "a_pipe_that_is_too_large",
            "needs root, to become somebody else",
        );
        return;
    }
    part("pipe-size", |command| {
        command.uid(65534).gid(65534);
    });
}

async fn pipe_size() {
    let error = Options::new().size(1 << 30).pair().unwrap_err();
    says(
        &error,
        ErrorKind::LimitExceeded,
        &["EPERM", "fs.pipe-max-size is"],
    );
    let mut pipes = Vec::new();
    let error = loop {
        match Options::new().size(1 << 20).pair() {
            Ok(pipe) => pipes.push(pipe),
            Err(error) => break error,
        }
        assert!(pipes.len() < 400);
    };
    says(
        &error,
        ErrorKind::LimitExceeded,
        &["fs.pipe-user-pages-soft"],
    );
}
