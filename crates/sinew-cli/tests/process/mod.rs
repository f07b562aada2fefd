//! The real program, as processes that are bounded in time and never outlive their test.
#![allow(
    dead_code,
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A meeting point that nobody else has.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(crate) fn address(&self) -> String {
        format!("shm:{}", self.path().display())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until somebody listens here.
    pub(crate) fn until_bound(&self) {
        until("nobody listens", || self.path().exists());
    }
}

pub(crate) fn until(otherwise: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn sinew(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
    command.args(arguments).env_remove("RUST_LOG");
    // The tests themselves may have been started by nohup(1), or in the background.
    // SAFETY: signal(2) is async-signal-safe, and sets dispositions that need no handler.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGXFSZ] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command
}

/// Starts `sinew` with nothing on standard input.
pub(crate) fn start(arguments: &[&str]) -> Running {
    Running::start(sinew(arguments).stdin(Stdio::null()))
}

/// Starts `sinew` with this on standard input, and then its end.
pub(crate) fn start_with(arguments: &[&str], input: impl Into<Vec<u8>>) -> Running {
    let mut running = Running::start(sinew(arguments).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    let input = input.into();
    // It may end without having read everything.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    running
}

/// A process that is killed when it is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts it, and reads what it prints where the command does not say where that goes.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut running = Self::of(child.unwrap());
        running.stdout = running.child.stdout.take().map(collect);
        running
    }

    /// A process whose standard output somebody else reads.
    pub(crate) fn of(mut child: Child) -> Self {
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            stdout: None,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let mut status = None;
        until("it does not end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let join = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader
                .map(|reader| reader.join().unwrap())
                .unwrap_or_default()
        };
        Ended {
            code: status.and_then(|status| status.code()),
            stdout: join(self.stdout.take()),
            stderr: String::from_utf8(join(self.stderr.take())).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Ended {
    /// Checks that it did what it was asked to, silently; what it printed.
    #[track_caller]
    pub(crate) fn done(self) -> Vec<u8> {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }

    /// Checks that it failed with one line that says all of this.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) -> Vec<u8> {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.starts_with("sinew: "), "{}", self.stderr);
        assert_eq!(self.stderr.matches('\n').count(), 1, "{}", self.stderr);
        self.says(parts);
        self.stdout
    }

    #[track_caller]
    pub(crate) fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// Bytes of every value, the same in every run.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn same(left: &[u8], right: &[u8]) {
    assert_eq!(left.len(), right.len());
    let differs = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right);
    assert_eq!(differs, None, "the first byte that differs");
}

/// Bytes that a process has written so far.
pub(crate) fn written(running: &Running) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", running.child.id())).unwrap();
    let count = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    count.unwrap().parse().unwrap()
}
