//! SysV semaphores with programs that no one here wrote, as another user, and with processes that are killed.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use sinew_core::sysv::Target;
use sinew_integration_tests::{
    Peer, Random, Resources, Watchdog, assert_no_thread, limited, program, python, scaled, skip,
};
use sinew_sync::Acquired;
use sinew_sync::sysv::{Options, Semaphore, Set};

const PEER: &str = env!("CARGO_BIN_EXE_sysvsem_peer");
const NOBODY: u32 = 65534;
const MOMENT: Duration = Duration::from_millis(50);

/// A key that nobody else has.
fn key(number: u32) -> i32 {
    (0x7000_0000 | std::process::id() << 4 & 0x0fff_fff0 | number).cast_signed()
}

fn keyed(number: u32, count: u16, value: u16) -> Set {
    let options = Options::new().exclusive(true).count(count).value(value);
    options
        .remove_on_drop(true)
        .blocking_open(key(number))
        .unwrap()
}

fn private(value: u16) -> Set {
    let options = Options::new().value(value).remove_on_drop(true);
    options.blocking_open(Target::Private).unwrap()
}

fn id(set: &Set) -> String {
    set.id().to_string()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Units given by Python and by tasks, taken by Python and by tasks, as a stream and one by one: the count
/// is exact, and nobody is left waiting.
#[test]
fn units_with_python() {
    const TEST: &str = "sync_sysv::units_with_python";
    let _watchdog = Watchdog::new(TEST);
    let Some(python) = python(TEST, &["sysv_ipc"]) else {
        return;
    };
    let set = keyed(1, 1, 0);
    // A quarter of the units each way: Python to tasks and to Python, tasks to both.
    let share = scaled(1_000_000) / 2;
    let start = |call: &str| {
        // Giving waits while the value is near the largest.
        let script = format!(
            "import sysv_ipc, time\ns = sysv_ipc.Semaphore({key})\nfor i in range({share}):\n  {call}\n",
            key = key(1)
        );
        Peer::spawn(Command::new(&python).args(["-c", &script]))
    };
    let mut taker = start("s.acquire()");
    let mut giver =
        start("s.release()\n  while i % 256 == 0 and s.value > 20000: time.sleep(0.0005)");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let semaphore = set.semaphore(0).unwrap();
    runtime.block_on(async {
        let sink = tokio::spawn({
            let semaphore = semaphore.clone();
            async move {
                let mut sink = semaphore.clone().into_sink();
                for number in 0..share {
                    sink.send(Acquired).await.unwrap();
                    while number % 256 == 0 && semaphore.value().unwrap() > 20_000 {
                        tokio::time::sleep(Duration::from_micros(500)).await;
                    }
                }
            }
        });
        let takers: Vec<_> = (0..8)
            .map(|index| {
                let semaphore = semaphore.clone();
                let mine = share / 8 + u64::from(index < share % 8);
                tokio::spawn(async move {
                    if index % 2 == 0 {
                        let mut stream = semaphore.into_stream();
                        for _ in 0..mine {
                            stream.next().await.unwrap().unwrap();
                        }
                        return;
                    }
                    for _ in 0..mine {
                        semaphore.acquire().await.unwrap().forget();
                    }
                })
            })
            .collect();
        for task in takers.into_iter().chain([sink]) {
            task.await.unwrap();
        }
    });
    assert!(taker.wait().success() && giver.wait().success());
    assert_eq!(semaphore.value().unwrap(), 0);
    assert_eq!(semaphore.waiting().unwrap(), 0);
}

/// What Python makes, this opens, and the other way round; a zero that Python brings about is noticed.
#[tokio::test]
async fn sets_of_python() {
    const TEST: &str = "sync_sysv::sets_of_python";
    let _watchdog = Watchdog::new(TEST);
    let Some(python) = python(TEST, &["sysv_ipc"]) else {
        return;
    };
    let script = format!(
        "import sysv_ipc, sys
s = sysv_ipc.Semaphore({}, sysv_ipc.IPC_CREX, mode=0o600, initial_value=2)
ours = sysv_ipc.Semaphore({})
print(s.id, ours.value, flush=True)
sys.stdin.readline()
print(s.value, s.last_pid, flush=True)
ours.acquire()
ours.Z()
print('zero', flush=True)
sys.stdin.readline()
s.remove()
print('removed', flush=True)",
        key(2),
        key(3)
    );
    let ours = keyed(3, 1, 1);
    let mut peer = Peer::spawn(Command::new(python).args(["-c", &script]));
    let line = peer.line();
    let (their_id, value) = line.split_once(' ').unwrap();
    assert_eq!(value, "1");
    // It has units, which is how a set of one is known to be initialised.
    let theirs = Options::new().open(key(2)).await.unwrap();
    assert_eq!(id(&theirs), their_id);
    let semaphore = theirs.semaphore(0).unwrap();
    let _permits = (
        semaphore.acquire().await.unwrap(),
        semaphore.acquire().await.unwrap(),
    );
    let one = ours.semaphore(0).unwrap();
    let zero = tokio::spawn(async move { one.wait_zero().await });
    tokio::time::sleep(MOMENT).await;
    assert!(!zero.is_finished());
    peer.tell("");
    assert_eq!(peer.line(), format!("0 {}", std::process::id()));
    assert_eq!(peer.line(), "zero");
    zero.await.unwrap().unwrap();
    let waits = tokio::spawn(async move { semaphore.acquire().await });
    tokio::time::sleep(MOMENT).await;
    peer.tell("");
    assert_eq!(peer.line(), "removed");
    assert!(waits.await.unwrap().unwrap_err().is_closed());
    assert!(peer.wait().success());
}

#[tokio::test]
async fn made_listed_and_removed_with_the_systems_programs() {
    const TEST: &str = "sync_sysv::made_listed_and_removed_with_the_systems_programs";
    let _watchdog = Watchdog::new(TEST);
    let (Some(ipcmk), Some(ipcs), Some(ipcrm)) = (
        program(TEST, "ipcmk"),
        program(TEST, "ipcs"),
        program(TEST, "ipcrm"),
    ) else {
        return;
    };
    let made = run(Command::new(ipcmk).args(["-S", "3", "-p", "600"]));
    let made = made.trim().rsplit(' ').next().unwrap();
    let target = Target::Id(made.parse().unwrap());
    let set = Options::new()
        .remove_on_drop(true)
        .open(target)
        .await
        .unwrap();
    let listed = run(Command::new(&ipcs).args(["-s"]));
    let line = listed
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(made))
        .unwrap();
    let its_key = line
        .split_whitespace()
        .next()
        .unwrap()
        .trim_start_matches("0x");
    let its_key = u32::from_str_radix(its_key, 16).unwrap().cast_signed();

    // Nobody has initialised it, and nobody does.
    let patient = Options::new().init_timeout(Some(MOMENT));
    for error in [
        patient.open(its_key).await.unwrap_err(),
        patient.blocking_open(its_key).unwrap_err(),
    ] {
        assert!(error.is_timed_out(), "{error}");
        says(
            &error.to_string(),
            &["not initialised", &format!("`ipcrm -s {made}`")],
        );
    }
    let as_it_is = patient.init_timeout(None).open(its_key).await.unwrap();
    assert_eq!(as_it_is.values().unwrap(), [0, 0, 0]);
    // Until somebody does.
    let opening = tokio::spawn(async move { Options::new().open(its_key).await });
    tokio::time::sleep(MOMENT).await;
    assert!(!opening.is_finished());
    set.semaphore(1).unwrap().post_many(7).unwrap();
    let opened = opening.await.unwrap().unwrap();

    let waits = tokio::spawn({
        let (two, zero) = (opened.semaphore(2).unwrap(), opened.semaphore(1).unwrap());
        async move { tokio::join!(two.acquire(), zero.wait_zero()) }
    });
    tokio::time::sleep(MOMENT).await;
    let listed = run(Command::new(ipcs).args(["-s", "-i", made]));
    let fields = |index: &str| -> Vec<String> {
        let line = listed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(index));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    // The number, the value, those who wait for more, those who wait for zero, and who was last.
    let pid = std::process::id().to_string();
    assert_eq!(fields("1"), ["1", "7", "0", "1", &pid]);
    assert_eq!(fields("2")[..4], ["2", "0", "1", "0"]);
    says(&listed, &["mode=0600", "nsems = 3"]);
    run(Command::new(ipcrm).args(["-s", made]));
    let (two, zero) = waits.await.unwrap();
    assert!(two.unwrap_err().is_closed() && zero.unwrap_err().is_closed());
}

/// A process that is killed gives back what all of its threads have taken with undo, and wakes who waits.
#[tokio::test]
async fn undo_of_a_process_that_is_killed() {
    let _watchdog = Watchdog::new("sync_sysv::undo_of_a_process_that_is_killed");
    for _ in 0..scaled(100) {
        let set = private(4);
        let slots = set.semaphore(0).unwrap();
        let mut peer = Peer::start(PEER, &["hold", &id(&set)]);
        assert_eq!(peer.line(), "held");
        assert_eq!(slots.value().unwrap(), 0);
        let waits = tokio::spawn({
            let slots = slots.clone();
            async move { slots.acquire_many(4).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        peer.kill();
        let permit = waits.await.unwrap().unwrap();
        assert_eq!(permit.count(), 4);
        drop(permit);
        assert_eq!(slots.value().unwrap(), 4);
    }
}

/// Operations on two semaphores at once, between processes: nobody ever sees a part of one.
#[tokio::test]
async fn all_or_nothing() {
    let _watchdog = Watchdog::new("sync_sysv::all_or_nothing");
    let set = keyed(4, 2, 0);
    set.set_values(&[6, 0]).unwrap();
    let count = scaled(40_000).to_string();
    let mut peers: Vec<_> = (0..4)
        .map(|_| Peer::start(PEER, &["move", &id(&set), &count]))
        .collect();
    let done =
        tokio::task::spawn_blocking(move || peers.iter_mut().all(|peer| peer.wait().success()));
    let mut looks = 0_u64;
    while !done.is_finished() {
        let values = set.values().unwrap();
        assert_eq!(values[0] + values[1], 6, "{values:?}");
        assert_eq!(values[0] % 2, 0, "{values:?}");
        looks += 1;
        tokio::task::yield_now().await;
    }
    assert!(done.await.unwrap());
    assert!(looks > 10, "{looks} looks");
    assert_eq!(set.values().unwrap(), [6, 0]);
}

/// Starts the peer as another user, who has no capabilities.
struct Nobody {
    directory: tempfile::TempDir,
}

impl Nobody {
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(test, "needs root, to become somebody else");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        // The build's directories may be closed to others.
        std::fs::copy(PEER, directory.path().join("peer")).unwrap();
        Some(Self { directory })
    }

    fn start(&self, arguments: &[&str]) -> Peer {
        let mut command = Command::new(self.directory.path().join("peer"));
        Peer::spawn(command.args(arguments).uid(NOBODY).gid(NOBODY))
    }
}

#[test]
fn permissions() {
    const TEST: &str = "sync_sysv::permissions";
    let _watchdog = Watchdog::new(TEST);
    let Some(nobody) = Nobody::new(TEST) else {
        return;
    };
    let set = private(0);
    let refused = ["Refused", "EACCES", "mode forbids"];
    says(&nobody.start(&["open", &id(&set)]).line(), &refused);
    set.set_mode(0o604).unwrap();
    let mut peer = nobody.start(&["read", &id(&set)]);
    for _ in 0..3 {
        assert_eq!(peer.line(), "ok");
    }
    for _ in 0..2 {
        says(
            &peer.line(),
            &["semop", "Refused", "EACCES", "mode forbids"],
        );
    }
    set.set_mode(0o606).unwrap();
    assert_eq!(nobody.start(&["open", &id(&set)]).line(), "ok");
    let mut peer = nobody.start(&["administer", &id(&set)]);
    for _ in 0..2 {
        says(&peer.line(), &["Refused", "EPERM", "owner"]);
    }
    // All that is its own works for that user, too.
    for (what, parts) in [
        ("threads", ["a helper thread", "EAGAIN", "RLIMIT_NPROC"]),
        ("signals", ["timer_create", "EAGAIN", "RLIMIT_SIGPENDING"]),
    ] {
        let mut peer = nobody.start(&["limit", what]);
        let line = peer.line();
        says(&line, &["LimitExceeded"]);
        says(&line, &parts);
        assert_eq!(peer.line(), "ok", "{what}");
        assert!(peer.wait().success());
    }
}

/// The limits of `kernel.sem`, in a namespace where they are low.
#[test]
fn limits() {
    const TEST: &str = "sync_sysv::limits";
    let _watchdog = Watchdog::new(TEST);
    let Some(unshare) = program(TEST, "unshare") else {
        return;
    };
    let script = "echo 4 6 3 2 > /proc/sys/kernel/sem && exec \"$0\" sysctl";
    let unshared = |command: &str| {
        let mut unshare = Command::new(&unshare);
        unshare.args(["--ipc", "sh", "-c", command, PEER]);
        unshare
    };
    let probe = unshared("echo 4 6 3 2 > /proc/sys/kernel/sem")
        .output()
        .unwrap();
    if !probe.status.success() {
        skip(TEST, "needs an IPC namespace of its own, and root in it");
        return;
    }
    let mut peer = Peer::spawn(&mut unshared(script));
    for parts in [
        ["EINVAL", "count=5", "SEMMSL, of kernel.sem, is 4"],
        ["ENOSPC", "count=4", "SEMMNS, of kernel.sem, is 6"],
        ["ENOSPC", "count=1", "SEMMNI, of kernel.sem, is 2"],
        ["E2BIG", "4 operations", "SEMOPM, of kernel.sem, is 3"],
    ] {
        let line = peer.line();
        says(&line, &["LimitExceeded"]);
        says(&line, &parts);
    }
    assert_eq!(peer.line(), "ok");
    assert!(peer.wait().success());
}

/// Takes that are given up at random moments, here and in another process: no unit is lost, nobody is left
/// waiting, and no thread is left behind.
#[test]
fn storm_of_cancellations() {
    const TEST: &str = "sync_sysv::storm_of_cancellations";
    let _watchdog = Watchdog::new(TEST);
    let mut random = Random::from_env(TEST);
    let before = Resources {
        threads: usize::MAX,
        fds: Resources::now().fds + 20,
        ..Resources::now()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let set = private(2);
    let slots = set.semaphore(0).unwrap();
    let mut peer = Peer::start(PEER, &["storm", &id(&set), &random.next().to_string()]);
    let goal = scaled(100_000) / 8;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|_| tokio::spawn(storm(slots.clone(), Random::new(random.next()), goal)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    peer.tell("");
    assert_eq!(peer.line(), "done");
    assert_eq!(slots.value().unwrap(), 2, "no unit lost");
    assert_eq!(
        (slots.waiting().unwrap(), slots.waiting_for_zero().unwrap()),
        (0, 0)
    );
    runtime.block_on(async {
        let _both = (
            slots.acquire().await.unwrap(),
            slots.acquire().await.unwrap(),
        );
        assert!(
            slots
                .acquire_timeout(MOMENT)
                .await
                .unwrap_err()
                .is_timed_out()
        );
    });
    drop(runtime);
    drop((set, slots));
    assert_no_thread("sinew-sysvsem");
    before.assert_back();
}

async fn storm(slots: Semaphore, mut random: Random, goal: u64) {
    let mut cancelled = 0;
    while cancelled < goal {
        let busy = random.below(2) == 0;
        let polls = 1 + u32::try_from(random.below(3)).unwrap();
        // Now and then, for both at once.
        let count = 1 + u16::from(random.below(4) == 0);
        let mut acquire = std::pin::pin!(slots.acquire_many(count));
        let limited = limited(acquire.as_mut(), if busy { polls } else { 1 }, busy);
        match limited.await {
            Some(permit) => {
                let permit = permit.unwrap();
                if random.below(4) == 0 {
                    tokio::task::yield_now().await;
                }
                drop(permit);
            }
            None => {
                if random.below(8) == 0 {
                    // The helper may be done before the future is dropped.
                    tokio::time::sleep(Duration::from_micros(random.below(200))).await;
                }
                cancelled += 1;
            }
        }
    }
}
