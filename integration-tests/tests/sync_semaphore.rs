//! POSIX semaphores, with glibc and Python at the other end.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sinew_integration_tests::{Watchdog, compile_c, python, scaled};
use sinew_sync::{Backend, Driver, Semaphore, SemaphoreOptions};

const C: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* post NAME COUNT | take NAME COUNT | timed NAME COUNT | hand NAME NAME COUNT */
int main(int argc, char **argv) {
    long count = atol(argv[argc - 1]);
    sem_t *one = sem_open(argv[2], 0);
    if (one == SEM_FAILED) { perror("sem_open"); return 1; }
    sem_t *two = argc > 4 ? sem_open(argv[3], 0) : NULL;
    long timeouts = 0;
    for (long i = 0; i < count; i++) {
        switch (argv[1][0]) {
        case 'p': if (sem_post(one)) { perror("sem_post"); return 1; } break;
        case 'h': if (sem_wait(one) || sem_post(two)) { perror("hand"); return 1; } break;
        case 't':
            if (argv[1][1] == 'a') {
                while (sem_wait(one)) if (errno != EINTR) { perror("sem_wait"); return 1; }
                break;
            }
            for (;;) {
                struct timespec until;
                clock_gettime(CLOCK_REALTIME, &until);
                until.tv_nsec += 200000;
                if (until.tv_nsec >= 1000000000) { until.tv_nsec -= 1000000000; until.tv_sec++; }
                if (!sem_timedwait(one, &until)) break;
                if (errno != ETIMEDOUT && errno != EINTR) { perror("sem_timedwait"); return 1; }
                timeouts++;
            }
        }
    }
    printf("%ld\n", timeouts);
    return 0;
}
"#;

fn name(what: &str) -> String {
    format!("/sinew-{what}-{}", std::process::id())
}

fn make(what: &str, value: u32) -> (Semaphore, String) {
    let name = name(what);
    let options = SemaphoreOptions::new()
        .exclusive(true)
        .value(value)
        .unlink(true);
    (options.open(&name).unwrap(), name)
}

fn runtime(backend: Backend) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { Driver::start(backend).map(drop) })
        .unwrap();
    runtime
}

/// Units posted by C, Python and tasks, taken by C with and without timeouts, by Python, by tasks and by threads, all at
/// once: the count is exact, and nobody is left waiting.
#[test]
fn with_glibc_and_python() {
    const TEST: &str = "sync_semaphore::with_glibc_and_python";
    let _watchdog = Watchdog::new(TEST);
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c(TEST, C, directory.path(), "sem") else {
        return;
    };
    let Some(python) = python(TEST, &["posix_ipc"]) else {
        return;
    };
    for backend in [Backend::Uring, Backend::Waitv] {
        let (semaphore, name) = make("mixed", 0);
        let share = scaled(1_000_000) / 2 / 4;
        let c = |what: &str| {
            Command::new(&program)
                .args([what, &name, &share.to_string()])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        };
        let py = |what: &str| {
            let call = match what {
                "post" => "s.release()",
                _ => "s.acquire()",
            };
            let script = format!(
                "import posix_ipc\ns = posix_ipc.Semaphore('{name}')\nfor _ in range({share}): {call}"
            );
            Command::new(&python).args(["-c", &script]).spawn().unwrap()
        };
        let mut children = vec![
            c("take"),
            c("timed"),
            py("take"),
            c("post"),
            c("post"),
            py("post"),
        ];
        let taken = Arc::new(AtomicU64::new(0));
        let runtime = runtime(backend);
        runtime.block_on(async {
            let takers: Vec<_> = (0..10)
                .map(|index| {
                    let (semaphore, taken) = (semaphore.clone(), taken.clone());
                    let mine = share / 10 + u64::from(index < share % 10);
                    tokio::spawn(async move {
                        for _ in 0..mine {
                            semaphore.acquire().await.unwrap().forget();
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let poster = tokio::spawn({
                let semaphore = semaphore.clone();
                async move {
                    for index in 0..share {
                        semaphore.post().unwrap();
                        if index % 64 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            });
            poster.await.unwrap();
            for taker in takers {
                taker.await.unwrap();
            }
        });
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(taken.load(Ordering::Relaxed), share);
        assert_eq!(semaphore.value(), 0);
    }
}

/// A unit goes to and fro between a task and C: no wake-up is lost in either direction.
#[test]
fn hand_over_with_glibc() {
    const TEST: &str = "sync_semaphore::hand_over_with_glibc";
    let _watchdog = Watchdog::new(TEST);
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c(TEST, C, directory.path(), "sem") else {
        return;
    };
    for backend in [Backend::Uring, Backend::Waitv] {
        let (there, there_name) = make("there", 0);
        let (back, back_name) = make("back", 0);
        let count = scaled(40_000);
        let mut child = Command::new(&program)
            .args(["hand", &there_name, &back_name, &count.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        runtime(backend).block_on(async {
            for _ in 0..count {
                there.post().unwrap();
                back.acquire().await.unwrap().forget();
            }
        });
        assert!(child.wait().unwrap().success());
        assert_eq!((there.value(), back.value()), (0, 0));
    }
}

/// What `sem_open` makes, this opens, and the other way round.
#[test]
fn made_by_either_side() {
    const TEST: &str = "sync_semaphore::made_by_either_side";
    let Some(python) = python(TEST, &["posix_ipc"]) else {
        return;
    };
    let run = |script: String| {
        let output = Command::new(&python)
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let theirs = name("theirs");
    run(format!(
        "import posix_ipc\nposix_ipc.Semaphore('{theirs}', posix_ipc.O_CREX, initial_value=3)"
    ));
    let semaphore = Semaphore::open(&theirs).unwrap();
    assert_eq!(semaphore.value(), 3);
    semaphore.try_acquire().unwrap().forget();
    let value = run(format!(
        "import posix_ipc\ns = posix_ipc.Semaphore('{theirs}')\nprint(s.value)\ns.unlink()"
    ));
    assert_eq!(value, "2");
    assert_eq!(Semaphore::open(&theirs).unwrap_err().errno(), Some(2));

    let (ours, name) = make("ours", 5);
    assert_eq!(
        run(format!(
            "import posix_ipc\nprint(posix_ipc.Semaphore('{name}').value)"
        )),
        "5"
    );
    drop(ours);
    assert_eq!(Semaphore::open(&name).unwrap_err().errno(), Some(2));
}

/// Acquires that are given up at random moments, against posts that never stop: no unit is lost, nobody is
/// left waiting, nothing is left behind.
#[test]
fn storm_of_cancellations() {
    let _watchdog = Watchdog::new("sync_semaphore::storm_of_cancellations");
    for backend in [Backend::Uring, Backend::Waitv] {
        let runtime = runtime(backend);
        let (semaphore, _) = make("storm", 2);
        runtime.block_on(async {
            let before = sinew_integration_tests::Resources::now();
            let dropped = Arc::new(AtomicU64::new(0));
            // The threads take longer for each, having to be told of it.
            let goal = match backend {
                Backend::Uring => scaled(1_000_000),
                _ => scaled(100_000),
            };
            let tasks: Vec<_> = (0..8_u64)
                .map(|seed| {
                    let (semaphore, dropped) = (semaphore.clone(), dropped.clone());
                    tokio::spawn(async move {
                        let mut random = sinew_integration_tests::Random::new(seed);
                        while dropped.load(Ordering::Relaxed) < goal {
                            let mut acquire = std::pin::pin!(semaphore.acquire());
                            let polls = random.below(3);
                            let mut permit = None;
                            for _ in 0..=polls {
                                tokio::select! {
                                    biased;
                                    done = &mut acquire => {
                                        permit = Some(done.unwrap());
                                        break;
                                    }
                                    () = tokio::task::yield_now() => {}
                                }
                            }
                            match permit {
                                Some(permit) => {
                                    tokio::task::yield_now().await;
                                    drop(permit);
                                }
                                None => {
                                    dropped.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(semaphore.value(), 2, "no unit lost");
            let driver = Driver::current().unwrap();
            while driver.stats().waits > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // A pool's thread stays for some seconds; and what is beside this test comes to its end.
            let threads = before.threads + 1;
            sinew_integration_tests::Resources { threads, ..before }.assert_back();
            // Everybody can still have one.
            let _one = semaphore.acquire().await.unwrap();
            let _two = semaphore
                .acquire_timeout(Duration::from_secs(10))
                .await
                .unwrap();
            let error = semaphore
                .acquire_timeout(Duration::from_millis(5))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), sinew_core::ErrorKind::TimedOut);
        });
    }
}

#[test]
fn bad_names_and_values() {
    for (bad, why) in [
        ("jobs", "begins with a slash"),
        ("/", "after the slash"),
        ("/a/b", "without another slash"),
        (&format!("/{}", "x".repeat(251)), "longer than 250"),
    ] {
        let error = Semaphore::open(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let options = SemaphoreOptions::new().create(true).value(1 << 31);
    let error = options.open(&name("bad")).unwrap_err().to_string();
    assert!(error.contains("SEM_VALUE_MAX"), "{error}");

    let (full, name) = make("full", Semaphore::MAX);
    let error = full.post().unwrap_err();
    assert_eq!(error.errno(), Some(75), "{error}");
    let again = SemaphoreOptions::new().exclusive(true).open(&name);
    assert_eq!(again.unwrap_err().errno(), Some(17));
    // A file that is none.
    let path = format!("/dev/shm/sem.{}", &name[1..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "short").unwrap();
    let error = Semaphore::open(&name).unwrap_err().to_string();
    assert!(error.contains("no semaphore"), "{error}");
}
