//! The second process of the tests on SysV semaphores; the first argument says what it does.

use std::io::Write;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sinew_core::Error;
use sinew_core::sysv::Target;
use sinew_integration_tests::{Random, limited};
use sinew_sync::sysv::{Op, Options, Set};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // Holds units with undo, of two threads, until it is killed.
        ["hold", id] => {
            let slots = open(id).await.semaphore(0).unwrap().undo(true);
            let _one = slots.acquire_many(2).await.unwrap();
            let other = slots.clone();
            let _two = std::thread::spawn(move || other.blocking_acquire(None).unwrap())
                .join()
                .unwrap();
            drop(slots.acquire().await.unwrap());
            slots.acquire().await.unwrap().forget();
            say("held");
            std::future::pending::<()>().await;
        }
        // Moves units from the first to the second, and back.
        ["move", id, count] => {
            let set = open(id).await;
            for _ in 0..count.parse::<u64>().unwrap() {
                set.apply(&[Op::new(0, -2), Op::new(1, 2)]).await.unwrap();
                set.apply(&[Op::new(1, -2), Op::new(0, 2)]).await.unwrap();
            }
        }
        // Takes and gives back, or gives up, until it is told to end.
        ["storm", id, seed] => {
            let slots = open(id).await.semaphore(0).unwrap();
            let mut random = Random::new(seed.parse().unwrap());
            let (tell, mut told) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let mut line = String::new();
                let _closed = std::io::stdin().read_line(&mut line);
                tell.send(())
            });
            while told.try_recv().is_err() {
                let mut acquire = std::pin::pin!(slots.acquire());
                let polls = 1 + u32::try_from(random.below(3)).unwrap();
                if let Some(permit) = limited(acquire.as_mut(), polls, true).await {
                    let permit = permit.unwrap();
                    tokio::time::sleep(Duration::from_micros(random.below(200))).await;
                    drop(permit);
                }
            }
            say("done");
        }
        ["open", id] => report(Options::new().open(target(id)).await.err().as_ref()),
        ["read", id] => {
            let set = Options::new().read_only(true).open(target(id)).await;
            report(set.as_ref().err());
            let semaphore = set.unwrap().semaphore(0).unwrap();
            report(semaphore.value().err().as_ref());
            report(semaphore.wait_zero().await.err().as_ref());
            report(semaphore.post().err().as_ref());
            report(semaphore.acquire().await.err().as_ref());
        }
        ["administer", id] => {
            let set = open(id).await;
            report(set.set_mode(0o600).err().as_ref());
            report(set.remove().err().as_ref());
        }
        ["limit", what] => limit(what).await,
        ["sysctl"] => sysctl().await,
        _ => panic!("unknown arguments {arguments:?}"),
    }
}

fn target(id: &str) -> Target {
    Target::Id(id.parse().unwrap())
}

async fn open(id: &str) -> Set {
    Options::new().open(target(id)).await.unwrap()
}

async fn private(count: u16) -> Result<Set, Error> {
    let options = Options::new().count(count).remove_on_drop(true);
    options.open(Target::Private).await
}

/// Waits where there can be no helper, and then where there can.
async fn limit(what: &str) {
    let resource = match what {
        "threads" => Resource::Nproc,
        _ => Resource::Sigpending,
    };
    let semaphore = private(1).await.unwrap().semaphore(0).unwrap();
    let before = getrlimit(resource);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    setrlimit(resource, none).unwrap();
    report(semaphore.acquire().await.err().as_ref());
    setrlimit(resource, before).unwrap();
    let error = semaphore
        .acquire_timeout(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    semaphore.post().unwrap();
    report(semaphore.acquire().await.err().as_ref());
}

/// Meets the limits of a namespace that has `4 6 3 2`.
async fn sysctl() {
    report(private(5).await.err().as_ref());
    let one = private(4).await.unwrap();
    report(private(4).await.err().as_ref());
    let _two = private(1).await.unwrap();
    report(private(1).await.err().as_ref());
    let ops = [Op::new(0, 1); 4];
    report(one.apply(&ops).await.err().as_ref());
    // Three at once are allowed, three and their opposites are not.
    let ops = [Op::new(0, -1), Op::new(1, -1), Op::new(2, -1)];
    let waits = tokio::spawn({
        let one = one.clone();
        async move { one.apply(&ops).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waits.is_finished());
    one.set_values(&[1, 1, 1, 1]).unwrap();
    report(waits.await.unwrap().err().as_ref());
    assert_eq!(one.values().unwrap(), [0, 0, 0, 1]);
}

fn report(error: Option<&Error>) {
    match error {
        None => say("ok"),
        Some(error) => say(&format!("{:?} {error}", error.kind())),
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}
