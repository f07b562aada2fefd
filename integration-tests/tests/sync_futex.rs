//! Words with a C program at the other end, which knows the raw system call alone.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sinew_integration_tests::{Peer, Watchdog, compile_c, limited, scaled};
use sinew_sync::{
    Backend, Driver, WordOptions, WordSink, WordStream, WordValue, blocking_wait, wake,
};

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Waitv];

const C: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void until(atomic_uint *word, unsigned value) {
    unsigned now;
    while ((now = atomic_load(word)) != value)
        if (syscall(SYS_futex, word, FUTEX_WAIT, now, NULL, NULL, 0) && errno != EAGAIN && errno != EINTR) {
            perror("futex");
            exit(1);
        }
}

/* echo FILE COUNT: answers in the second word | count FILE COUNT: counts up, waking |
   wait FILE VALUE: waits in ten processes */
int main(int argc, char **argv) {
    (void)argc;
    int fd = open(argv[2], O_RDWR);
    if (fd < 0) { perror("open"); return 1; }
    atomic_uint *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) { perror("mmap"); return 1; }
    unsigned count = strtoul(argv[3], NULL, 10);
    if (!strcmp(argv[1], "echo")) {
        for (unsigned i = 1; i <= count; i++) {
            until(words, i);
            atomic_store(words + 1, i);
            syscall(SYS_futex, words + 1, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
    } else if (!strcmp(argv[1], "count")) {
        for (unsigned i = 1; i <= count; i++) {
            atomic_store(words, i);
            syscall(SYS_futex, words, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        }
    } else {
        for (int i = 0; i < 9; i++) if (fork() == 0) break;
        puts("waits");
        fflush(stdout);
        until(words, count);
        puts("woken");
    }
    return 0;
}
"#;

fn runtime(backend: Backend) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { Driver::start(backend).map(drop) })
        .unwrap();
    runtime
}

/// A number goes to and fro between a task and C: no wake-up is lost in either direction.
#[test]
fn to_and_fro() {
    const TEST: &str = "sync_futex::to_and_fro";
    let _watchdog = Watchdog::new(TEST);
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c(TEST, C, directory.path(), "futex") else {
        return;
    };
    for backend in BACKENDS {
        let file = directory.path().join(format!("{backend:?}"));
        let there = WordOptions::new().create(true).open(&file, 0).unwrap();
        let back = WordOptions::new().open(&file, 4).unwrap();
        let count = u32::try_from(scaled(40_000)).unwrap();
        let mut child = Command::new(&program)
            .arg("echo")
            .args([file.as_os_str(), count.to_string().as_ref()])
            .spawn()
            .unwrap();
        runtime(backend).block_on(async {
            let mut sink = WordSink::new(there.clone());
            let mut stream = WordStream::new(back.clone());
            for number in 1..=count {
                sink.send(number).await.unwrap();
                // Given up now and then, and asked for again.
                if number % 3 == 0 {
                    let mut recv = std::pin::pin!(stream.recv());
                    if let Some(value) = limited(recv.as_mut(), 1, false).await {
                        assert_eq!(value.unwrap(), Some(WordValue(number)));
                        continue;
                    }
                }
                assert_eq!(stream.recv().await.unwrap(), Some(WordValue(number)));
            }
        });
        assert!(child.wait().unwrap().success());
        assert_eq!(there.load(Ordering::Acquire), count);
    }
}

/// C counts as fast as it can, and several look: values only grow, and everybody sees the last.
#[test]
fn changes_that_merge() {
    const TEST: &str = "sync_futex::changes_that_merge";
    let _watchdog = Watchdog::new(TEST);
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c(TEST, C, directory.path(), "futex") else {
        return;
    };
    for backend in BACKENDS {
        let file = directory.path().join(format!("{backend:?}"));
        let word = WordOptions::new().create(true).open(&file, 0).unwrap();
        let count = u32::try_from(scaled(1_000_000)).unwrap();
        runtime(backend).block_on(async {
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let mut stream = WordStream::new(word.clone());
                    tokio::spawn(async move {
                        let mut last = 0;
                        while last < count {
                            let WordValue(value) = stream.recv().await.unwrap().unwrap();
                            assert!(value > last, "{value} after {last}");
                            last = value;
                        }
                        assert!(stream.try_recv().unwrap_err().is_empty());
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            let mut child = Command::new(&program)
                .arg("count")
                .args([file.as_os_str(), count.to_string().as_ref()])
                .spawn()
                .unwrap();
            for task in tasks {
                task.await.unwrap();
            }
            let status = tokio::task::spawn_blocking(move || child.wait());
            assert!(status.await.unwrap().unwrap().success());
        });
    }
}

/// One store wakes all that wait, in ten processes and in threads of this one.
#[test]
fn all_are_woken() {
    const TEST: &str = "sync_futex::all_are_woken";
    let _watchdog = Watchdog::new(TEST);
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c(TEST, C, directory.path(), "futex") else {
        return;
    };
    let file = directory.path().join("word");
    let word = WordOptions::new().create(true).open(&file, 0).unwrap();
    let mut peer = Peer::spawn(
        Command::new(program)
            .arg("wait")
            .args([file.as_os_str(), "7".as_ref()])
            .stderr(Stdio::inherit()),
    );
    for _ in 0..10 {
        assert_eq!(peer.line(), "waits");
    }
    let thread = std::thread::spawn({
        let word = word.clone();
        move || {
            while word.load(Ordering::Acquire) != 7 {
                blocking_wait(&word, 0, None).unwrap();
            }
        }
    });
    std::thread::sleep(Duration::from_millis(50));
    word.store(7, Ordering::Release);
    // Those that are asleep by now, which may not be all.
    assert!(wake(&word, u32::MAX) >= 2);
    while !thread.is_finished() {
        wake(&word, u32::MAX);
    }
    for _ in 0..10 {
        assert_eq!(peer.line(), "woken");
    }
    assert!(peer.wait().success());
}
