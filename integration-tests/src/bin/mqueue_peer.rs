//! The second process of the tests on message queues; the first argument says what it does.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sinew_core::Error;
use sinew_integration_tests::{Random, Resources, assert_no_thread};
use sinew_mqueue::{posix, sysv};

/// What ends a stream of numbers.
const END: &[u8] = b"end";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["posix-produce", name, seed] => {
            let mut sender = posix::Options::new().open_sender(name).unwrap();
            produce(seed, async |number| {
                sender.send(number.to_le_bytes().to_vec()).await.unwrap();
            })
            .await;
        }
        ["sysv-produce", id, seed] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let mut sender = sysv::Options::new().open_sender(target).unwrap();
            produce(seed, async |number| {
                // The type says which it is, so that some can have no payload.
                let payload = if number % 5 == 4 {
                    Vec::new()
                } else {
                    number.to_le_bytes().to_vec()
                };
                let kind = i64::try_from(number).unwrap() + 1;
                sender
                    .send(sysv::Message::from(payload).with_kind(kind))
                    .await
                    .unwrap();
            })
            .await;
        }
        ["posix-consume", name, seed] => {
            let mut receiver = posix::Options::new().open_receiver(name).unwrap();
            consume(seed, async || {
                receiver.recv().await.unwrap().unwrap().into_payload()
            })
            .await;
        }
        ["sysv-consume", id, seed] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let mut receiver = sysv::Options::new().open_receiver(target).unwrap();
            consume(seed, async || {
                receiver.recv().await.unwrap().unwrap().into_payload()
            })
            .await;
        }
        ["posix-open", how, name, max_messages, message_size] => {
            let options = posix::Options::new()
                .create(how == "create")
                .unlink_on_drop(how == "create")
                .max_messages(max_messages.parse().unwrap())
                .message_size(message_size.parse().unwrap());
            match how {
                "sender" => report(posix::Options::new().open_sender(name).as_ref().err()),
                "receiver" => report(posix::Options::new().open_receiver(name).as_ref().err()),
                _ => report(options.open(name).as_ref().err()),
            }
        }
        ["posix-exhaust", name] => exhaust(name),
        ["posix-limits", name] => {
            let options = posix::Options::new().create(true);
            report(options.clone().max_messages(6).open(name).as_ref().err());
            report(options.message_size(257).open(name).as_ref().err());
            exhaust(name);
        }
        ["posix-view", place] => view(Path::new(place)),
        ["posix-files", name] => files(name),
        ["posix-list"] => match posix::list() {
            Ok(names) => println!("ok {names:?}"),
            Err(error) => report(Some(&error)),
        },
        ["sysv-open", how, id] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let options = sysv::Options::new();
            match how {
                "sender" => report(options.open_sender(target).as_ref().err()),
                "receiver" => report(options.open_receiver(target).as_ref().err()),
                _ => report(options.open(target).as_ref().err()),
            }
        }
        ["sysv-administer", id] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let queue = sysv::Options::new().open(target).unwrap();
            report(queue.set_max_bytes(1 << 20).as_ref().err());
            report(queue.remove().as_ref().err());
        }
        ["idle"] => idle().await,
        ["sysv-limit", what] => limit(what).await,
        ["sysv-limits"] => limits().await,
        ["sysv-give-up"] => give_up().await,
        ["sysv-held", id] => held(sysv::Target::Id(id.parse().unwrap())).await,
        // Sending needs no permission to read, and receiving none to write.
        ["sysv-send", id, text] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let mut sender = sysv::Options::new().open_sender(target).unwrap();
            let sent = sender.send(text.to_owned()).await;
            report(sent.as_ref().err());
            report(sender.attributes().as_ref().err());
        }
        ["sysv-recv", id] => {
            let target = sysv::Target::Id(id.parse().unwrap());
            let mut receiver = sysv::Options::new().open_receiver(target).unwrap();
            let message = receiver.recv().await.unwrap().unwrap();
            println!("{}", message.payload().escape_ascii());
        }
        _ => panic!("unknown arguments {arguments:?}"),
    }
}

/// Sends numbers, with pauses, until standard input ends; then prints how many.
async fn produce(seed: &str, mut send: impl AsyncFnMut(u64)) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _closed = std::io::stdin().read(&mut [0]);
        TOLD.store(true, Ordering::Relaxed);
    });
    let mut random = Random::new(seed.parse().unwrap());
    let mut number = 0;
    while !TOLD.load(Ordering::Relaxed) {
        send(number).await;
        number += 1;
        pause(&mut random);
    }
    say(&number.to_string());
}

/// Receives numbers, with pauses, until the end, and prints whether each came once and in order.
async fn consume(seed: &str, mut recv: impl AsyncFnMut() -> bytes::Bytes) {
    let mut random = Random::new(seed.parse().unwrap());
    for expected in 0_u64.. {
        let message = recv().await;
        if message == END {
            say(&format!("ok {expected}"));
            return;
        }
        if message != expected.to_le_bytes()[..] {
            say(&format!("{message:?} instead of {expected}"));
            return;
        }
        pause(&mut random);
    }
}

fn pause(random: &mut Random) {
    if random.below(3) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(200)));
    }
}

/// Makes queues until the limit of bytes is reached, and says how that looks.
fn exhaust(name: &str) {
    let options = posix::Options::new().exclusive(true).unlink_on_drop(true);
    let mut queues = Vec::new();
    for number in 0..1000 {
        match options.open(format!("{name}-{number}")) {
            Ok(queue) => queues.push(queue),
            Err(error) => {
                println!("{}", queues.len());
                report(Some(&error));
                break;
            }
        }
    }
    queues.pop();
    // With one less, it goes on.
    report(options.open(format!("{name}-again")).as_ref().err());
}

/// Has queues seen, removed and made in the file system that is mounted at `place`.
fn view(place: &Path) {
    let here = || posix::list().unwrap();
    let options = posix::Options::new().exclusive(true).unlink_on_drop(true);
    let mut queue = options.open("/sinew-view").unwrap();
    assert_eq!(here(), ["/sinew-view"]);
    queue.try_send("12345").unwrap();
    let shown = std::fs::read_to_string(place.join("sinew-view")).unwrap();
    assert!(shown.starts_with("QSIZE:5 "), "{shown}");

    std::fs::remove_file(place.join("sinew-view")).unwrap();
    assert!(here().is_empty());
    let gone = posix::Options::new().open("/sinew-view").unwrap_err();
    assert!(
        gone.to_string().contains("there is no such queue"),
        "{gone}"
    );
    assert_eq!(queue.try_recv().unwrap().payload(), "12345");
    drop(queue);

    std::fs::File::create(place.join("made there")).unwrap();
    assert_eq!(here(), ["/made there"]);
    let mut made = posix::Options::new().open("/made there").unwrap();
    made.try_send("x").unwrap();
    posix::unlink("/made there").unwrap();
    assert_eq!(std::fs::read_dir(place).unwrap().count(), 0);
    report(None);
}

/// Reaches each limit of SysV queues, and shows that all goes on afterwards.
async fn limits() {
    let first = private();
    let mut queue = private();
    let options = sysv::Options::new().remove_on_drop(true);
    report(options.open(sysv::Target::Private).as_ref().err());
    report(queue.send(vec![1; 65]).await.as_ref().err());
    report(queue.send(vec![1; 49]).await.as_ref().err());
    report(queue.set_max_bytes(49).as_ref().err());
    drop(first);
    drop(private());
    report(queue.send(vec![1; 48]).await.as_ref().err());
}

/// Reaches the limit of open files.
fn files(name: &str) {
    let options = posix::Options::new()
        .exclusive(true)
        .unlink_on_drop(true)
        .max_messages(1);
    let before = getrlimit(Resource::Nofile);
    let probe = std::fs::File::open("/dev/null").unwrap();
    let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&probe)).unwrap();
    let limit = |current| Rlimit {
        current,
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit(Some(lowest))).unwrap();
    let error = options.open(name).err();
    setrlimit(Resource::Nofile, limit(Some(lowest + 1))).unwrap();
    let second = options.open(name).err();
    setrlimit(Resource::Nofile, limit(before.current)).unwrap();
    report(error.as_ref());
    // One descriptor is not enough for both halves; the queue is gone with the first.
    report(second.as_ref());
    report(options.open(name).as_ref().err());
}

/// Waits for a message where no helper can be had, and again where it can.
async fn limit(what: &str) {
    let resource = match what {
        "threads" => Resource::Nproc,
        _ => Resource::Sigpending,
    };
    let mut queue = private();
    let before = getrlimit(resource);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    setrlimit(resource, none).unwrap();
    report(queue.recv().await.err().as_ref());
    setrlimit(resource, before).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), queue.recv()).await;
    assert!(given_up.is_err());
    queue.send("x").await.unwrap();
    report(queue.recv().await.err().as_ref());
}

/// Receivers that wait for messages, and senders that wait for room: prints the CPU time that this took,
/// and the time, in microseconds.
async fn idle() {
    let name = format!("/sinew-idle-{}", std::process::id());
    let options = posix::Options::new()
        .exclusive(true)
        .max_messages(1)
        .unlink_on_drop(true);
    let (mut to_posix, mut from_posix) = options.open(&name).unwrap().split();
    let (full, empty) = (private(), private());
    full.set_max_bytes(1).unwrap();
    let (mut to_sysv, _rest) = full.split();
    let (_rest, mut from_sysv) = empty.split();
    to_sysv.send("x").await.unwrap();
    let waits = async { tokio::join!(to_sysv.send("y"), from_sysv.recv(), from_posix.recv()) };
    // What is tried at first is not what is measured.
    let mut waits = std::pin::pin!(waits);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut waits)
            .await
            .is_err()
    );
    let (begun, before) = (std::time::Instant::now(), Resources::cpu());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), &mut waits)
            .await
            .is_err()
    );
    println!("{}", (Resources::cpu() - before).as_micros());
    println!("{}", begun.elapsed().as_micros());
    to_posix.send("z").await.unwrap();
}

/// Waits for a message that does not come, and leaves no thread.
async fn give_up() {
    let mut queue = private();
    let given_up = tokio::time::timeout(Duration::from_millis(50), queue.recv()).await;
    assert!(given_up.is_err());
    drop(queue);
    assert_no_thread("sinew-sysvmq");
    report(None);
}

/// Gives up a message without payload that cannot go back, because the queue may not be written to.
async fn held(target: sysv::Target) {
    let mut receiver = sysv::Options::new().open_receiver(target).unwrap();
    {
        let mut received = std::pin::pin!(receiver.recv());
        assert!(
            tokio::time::timeout(Duration::from_millis(50), &mut received)
                .await
                .is_err()
        );
        say("waits");
        // It comes now, and the future is not polled again.
        let _told = std::io::stdin().read(&mut [0]);
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut other = receiver.with_select(sysv::Select::Any).unwrap();
    drop(receiver);
    let message = other.recv().await.unwrap().unwrap();
    println!("{} {:?}", message.payload().len(), message.kind());
}

fn private() -> sysv::Queue {
    let options = sysv::Options::new().remove_on_drop(true);
    options.open(sysv::Target::Private).unwrap()
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
