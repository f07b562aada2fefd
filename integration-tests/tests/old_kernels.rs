//! Kernels, and sandboxes, that lack system calls: a seccomp filter answers them with `ENOSYS`.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use sinew_integration_tests::{Watchdog, python};
use sinew_pipe::Options;
use sinew_sync::{Backend, Driver, Semaphore, SemaphoreOptions};

/// The variable that a child has.
const FILTERED: &str = "SINEW_TEST_FILTERED";
/// The numbers are the same on all architectures that Rust supports but Alpha.
const PIDFD_OPEN: u32 = 434;
const IO_URING_SETUP: u32 = 425;
const FUTEX_WAITV: u32 = 449;

/// Installs a filter for some system calls, and becomes another program.
const FILTER: &str = r#"
import ctypes, os, struct, sys

def instruction(code, jump_true, jump_false, value):
    return struct.pack("HBBI", code, jump_true, jump_false, value)

ENOSYS = 38
program = instruction(0x20, 0, 0, 0)  # load the number of the system call
for number in sys.argv[1].split(","):
    program += instruction(0x15, 0, 1, int(number))  # another one? skip the next
    program += instruction(0x06, 0, 0, 0x00050000 | ENOSYS)  # SECCOMP_RET_ERRNO
program += instruction(0x06, 0, 0, 0x7fff0000)  # SECCOMP_RET_ALLOW

class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
at = ctypes.byref(Program(len(program) // 8, program))
assert libc.prctl(22, 2, at, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Runs this test again, in a process without these system calls. False in that process.
fn filtered(test: &str, calls: &[u32]) -> bool {
    if std::env::var_os(FILTERED).is_some() {
        return false;
    }
    let Some(python) = python(test, &["ctypes"]) else {
        return true;
    };
    let calls: Vec<_> = calls.iter().map(u32::to_string).collect();
    let output = Command::new(python)
        .args(["-c", FILTER, &calls.join(",")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FILTERED, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
    true
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until there are no more threads than that.
async fn at_most(most: usize) {
    let begun = Instant::now();
    while threads() > most {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", threads());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn children_without_pidfd_open() {
    if filtered("children_without_pidfd_open", &[PIDFD_OPEN]) {
        return;
    }
    let _watchdog = Watchdog::new("children_without_pidfd_open");
    let before = threads();
    let (mut sender, mut receiver) = Options::new().spawn(&mut Command::new("cat")).unwrap();
    sender.send("there and back").await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "there and back");
    assert!(receiver.next().await.is_none());

    let mut command = Command::new("sh");
    let mut receiver = Options::new()
        .spawn_receiver(command.args(["-c", "exec >&-; sleep 0.2; exit 3"]))
        .unwrap();
    let error = receiver.recv().await.unwrap_err();
    assert!(error.to_string().contains("exit status: 3"), "{error}");

    // Killed with the half, and reaped, the thread that waits for it ends.
    let child = Options::new().spawn_receiver(Command::new("sleep").arg("1000"));
    drop((child.unwrap(), sender, receiver));
    at_most(before).await;
}

#[tokio::test]
async fn semaphores_without_futex_waitv() {
    if filtered(
        "semaphores_without_futex_waitv",
        &[IO_URING_SETUP, FUTEX_WAITV],
    ) {
        return;
    }
    let _watchdog = Watchdog::new("semaphores_without_futex_waitv");
    let before = threads();
    assert_eq!(Driver::current().unwrap().backend(), Backend::Waitv);
    let name = format!("/sinew-old-{}", std::process::id());
    let options = SemaphoreOptions::new().create(true).unlink(true);
    let semaphore = options.open(&name).unwrap();

    // Each wait has a thread of its own.
    let waits: Vec<_> = (0..20)
        .map(|_| {
            let semaphore = semaphore.clone();
            tokio::spawn(async move { semaphore.acquire().await.map(sinew_sync::Permit::forget) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let poster = std::thread::spawn({
        let name = name.clone();
        move || {
            let other = Semaphore::open(&name).unwrap();
            for _ in 0..20 {
                other.post().unwrap();
            }
        }
    });
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    poster.join().unwrap();

    // A wait that is dropped takes no unit, and its thread is called back from the word.
    for _ in 0..50 {
        let dropped = tokio::time::timeout(Duration::from_millis(2), semaphore.acquire()).await;
        assert!(dropped.is_err());
    }
    // It waits for another word then.
    let other = options.open(&format!("{name}-other")).unwrap();
    for _ in 0..20 {
        let dropped = tokio::time::timeout(Duration::from_millis(2), semaphore.acquire()).await;
        assert!(dropped.is_err());
        let waiting = tokio::time::timeout(Duration::from_secs(60), other.acquire());
        let posting = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            other.post().unwrap();
        };
        let (acquired, ()) = tokio::join!(waiting, posting);
        acquired.unwrap().unwrap().forget();
    }
    semaphore.post().unwrap();
    semaphore.acquire().await.unwrap().forget();
    assert_eq!(semaphore.value(), 0);
    // Threads without a wait end after five seconds.
    at_most(before + 1).await;
}
