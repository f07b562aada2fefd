//! POSIX queues with programs that no one here wrote, at their limits, and as another user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use sinew_integration_tests::{Peer, Resources, Watchdog, compile_c, python, scaled, skip};
use sinew_mqueue::posix::{Limits, Message, Options, Queue, unlink};

const PEER: &str = env!("CARGO_BIN_EXE_mqueue_peer");
const NOBODY: u32 = 65534;

fn name(what: &str) -> String {
    format!("/sinew-{what}-{}", std::process::id())
}

fn queue(name: &str) -> Queue {
    let options = Options::new()
        .exclusive(true)
        .max_messages(8)
        .message_size(256);
    options.unlink_on_drop(true).open(name).unwrap()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Echoes with the priority raised by one, until an empty message.
const ECHO: &str = r#"
#include <mqueue.h>
#include <stdio.h>
int main(int argc, char **argv) {
    (void)argc;
    mqd_t in = mq_open(argv[1], O_RDONLY), out = mq_open(argv[2], O_WRONLY);
    if (in == (mqd_t)-1 || out == (mqd_t)-1) { perror("mq_open"); return 1; }
    for (;;) {
        char buffer[256];
        unsigned priority;
        ssize_t len = mq_receive(in, buffer, sizeof buffer, &priority);
        if (len < 0) { perror("mq_receive"); return 1; }
        if (mq_send(out, buffer, len, priority + 1)) { perror("mq_send"); return 1; }
        if (len == 0) return 0;
    }
}
"#;

/// The C program opens the queues in blocking mode; that is its own open file, not ours.
#[tokio::test]
async fn a_c_program_echoes() {
    let _watchdog = Watchdog::new("a_c_program_echoes");
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c("a_c_program_echoes", ECHO, directory.path(), "echo") else {
        return;
    };
    let (there, back) = (name("there"), name("back"));
    let (mut to, mut from) = (queue(&there), queue(&back));
    let mut peer = Peer::spawn(Command::new(program).args([&there, &back]));
    for number in 0..scaled(10_000) {
        let len = usize::try_from(number % 256).unwrap() + 1;
        let priority = u32::try_from(number % 1000).unwrap();
        let payload = vec![number.to_le_bytes()[0]; len];
        to.send(Message::from(payload.clone()).with_priority(priority))
            .await
            .unwrap();
        let answer = from.recv().await.unwrap().unwrap();
        assert_eq!(answer, Message::from(payload).with_priority(priority + 1));
    }
    to.send("").await.unwrap();
    assert_eq!(from.recv().await.unwrap().unwrap().payload(), "");
    assert!(peer.wait().success());
}

const BOTH_WAYS: &str = r"
import posix_ipc, sys
queue = posix_ipc.MessageQueue(sys.argv[1])
for text, priority in [('low', 1), ('high', 9), ('low too', 1)]:
    queue.send(text.encode(), priority=priority)
print('sent', queue.current_messages, queue.max_messages, queue.max_message_size, flush=True)
sys.stdin.readline()
for _ in range(queue.current_messages):
    text, priority = queue.receive()
    print(text.decode(), priority, flush=True)
new = posix_ipc.MessageQueue(sys.argv[1] + '-py', posix_ipc.O_CREX, mode=0o600, max_messages=3, max_message_size=50)
new.send(b'from python', priority=4)
print('made', flush=True)
sys.stdin.readline()
new.unlink()
";

#[tokio::test]
async fn python_sends_and_receives() {
    let _watchdog = Watchdog::new("python_sends_and_receives");
    let Some(python) = python("python_sends_and_receives", &["posix_ipc"]) else {
        return;
    };
    let name = name("python");
    let mut ours = queue(&name);
    let mut peer = Peer::spawn(Command::new(python).args(["-c", BOTH_WAYS, &name]));
    assert_eq!(peer.line(), "sent 3 8 256");
    for (text, priority) in [("high", 9), ("low", 1), ("low too", 1)] {
        let message = ours.recv().await.unwrap().unwrap();
        assert_eq!(message, Message::from(text).with_priority(priority));
    }
    for (text, priority) in [("b", 2), ("a", 32_767), ("c", 2)] {
        ours.send(Message::from(text).with_priority(priority))
            .await
            .unwrap();
    }
    peer.tell("");
    for line in ["a 32767", "b 2", "c 2"] {
        assert_eq!(peer.line(), line);
    }
    assert_eq!(peer.line(), "made");
    let theirs = format!("{name}-py");
    let mut made = Options::new().open(&theirs).unwrap();
    assert_eq!(made.attributes().unwrap().message_size, 50);
    let message = made.recv().await.unwrap().unwrap();
    assert_eq!(message, Message::from("from python").with_priority(4));
    peer.tell("");
    assert!(peer.wait().success());
    assert!(unlink(&theirs).is_err());
}

/// Whatever was sent in whatever order: the highest priority first, then the oldest.
#[tokio::test]
async fn a_full_queue_of_mixed_priorities() {
    let name = name("mixed");
    let mut random = sinew_integration_tests::Random::from_env("a_full_queue_of_mixed_priorities");
    let mut queue = queue(&name);
    for _ in 0..scaled(1000) {
        let mut sent: Vec<(u32, u8)> = (0..8)
            .map(|number| (u32::try_from(random.below(4)).unwrap() * 9000, number))
            .collect();
        for (priority, number) in &sent {
            let message = Message::from(vec![*number]).with_priority(*priority);
            queue.try_send(message).unwrap();
        }
        assert!(queue.try_send("full").unwrap_err().is_full());
        sent.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        for (priority, number) in sent {
            let message = queue.recv().await.unwrap().unwrap();
            assert_eq!(message, Message::from(vec![number]).with_priority(priority));
        }
    }
}

/// The peer as another user, who has no capabilities.
fn as_user(directory: &Path, uid: u32, arguments: &[&str]) -> Peer {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    // The build's directories may be closed to others.
    let program = directory.join("mqueue_peer");
    if !program.exists() {
        std::fs::copy(PEER, &program).unwrap();
    }
    Peer::spawn(Command::new(program).args(arguments).uid(uid).gid(NOBODY))
}

/// The one line that it prints. It has to end by itself: killed, it would leave its queues.
fn answer(mut peer: Peer) -> String {
    let line = peer.line();
    assert!(peer.wait().success());
    line
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(test, "needs root, to become somebody else");
    }
    root
}

#[test]
fn limits_of_the_sysctls() {
    if !is_root("limits_of_the_sysctls") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits::current();
    let (most, longest) = (limits.msg_max.unwrap(), limits.msgsize_max.unwrap());
    let name = name("sysctl");
    let opened = |messages: u64, size: u64| {
        let arguments = [
            "posix-open",
            "create",
            &name,
            &messages.to_string(),
            &size.to_string(),
        ];
        answer(as_user(directory.path(), NOBODY, &arguments))
    };
    assert_eq!(opened(1, 1), "ok");
    let text = opened(most + 1, 1);
    let detail = format!(
        "with maxmsg={}: EINVAL: fs.mqueue.msg_max is {most}; raise it",
        most + 1
    );
    says(&text, &["LimitExceeded", "mq_open", &name, &detail]);
    let text = opened(1, longest + 1);
    let detail = format!(
        "with msgsize={}: EINVAL: fs.mqueue.msgsize_max is {longest}",
        longest + 1
    );
    says(&text, &["LimitExceeded", &detail]);
}

#[test]
fn the_limit_of_bytes_for_a_user() {
    if !is_root("the_limit_of_bytes_for_a_user") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = name("bytes");
    // A user of its own, because the limit is of all the user's queues.
    let uid = 100_000 + std::process::id() % 1_000_000;
    let mut peer = as_user(directory.path(), uid, &["posix-exhaust", &name]);
    let count: u32 = peer.line().parse().unwrap();
    assert!(count > 0);
    let limit = Limits::current().rlimit_msgqueue.unwrap();
    says(
        &peer.line(),
        &[
            "LimitExceeded",
            "EMFILE",
            &format!("RLIMIT_MSGQUEUE is {limit} bytes"),
            "ulimit -q",
        ],
    );
    assert_eq!(answer(peer), "ok");
}

#[test]
fn the_limit_of_open_files() {
    let mut peer = Peer::start(PEER, &["posix-files", &name("files")]);
    says(&peer.line(), &["LimitExceeded", "EMFILE", "RLIMIT_NOFILE"]);
    says(&peer.line(), &["LimitExceeded", "EMFILE", "RLIMIT_NOFILE"]);
    assert_eq!(answer(peer), "ok");
}

#[tokio::test]
async fn permissions() {
    if !is_root("permissions") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (mode, may_receive, may_send) in [
        (0o600, false, false),
        (0o604, true, false),
        (0o602, false, true),
        (0o606, true, true),
    ] {
        let name = format!("{}-{mode:o}", name("mode"));
        let options = Options::new()
            .exclusive(true)
            .mode(mode)
            .unlink_on_drop(true);
        let _queue = options.max_messages(1).open(&name).unwrap();
        for (half, may) in [("receiver", may_receive), ("sender", may_send)] {
            let arguments = ["posix-open", half, &name, "1", "1"];
            let text = answer(as_user(directory.path(), NOBODY, &arguments));
            match may {
                true => assert_eq!(text, "ok"),
                false => says(&text, &["Refused", "EACCES", "mode forbids", &name]),
            }
        }
    }
}

/// As anybody, the list needs the file system to be mounted; the error says how.
#[test]
fn the_list_as_another_user() {
    if !is_root("the_list_as_another_user") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = name("list");
    let _queue = Options::new()
        .create(true)
        .unlink_on_drop(true)
        .max_messages(1)
        .open_sender(&name);
    let text = answer(as_user(directory.path(), NOBODY, &["posix-list"]));
    let mounted = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .contains(" - mqueue ");
    match mounted {
        true => says(&text, &["ok", &name]),
        false => says(
            &text,
            &[
                "Unsupported",
                "not mounted",
                "mount -t mqueue none /dev/mqueue",
            ],
        ),
    }
}

#[test]
fn opened_and_closed_without_end() {
    let _watchdog = Watchdog::new("opened_and_closed_without_end");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let name = name("churn");
    runtime.block_on(async {
        let options = Options::new()
            .exclusive(true)
            .max_messages(1)
            .message_size(16);
        let options = options.unlink_on_drop(true);
        drop(options.open(&name).unwrap());
        let before = Resources {
            threads: usize::MAX,
            // Other tests open some meanwhile, but not thousands.
            fds: Resources::now().fds + 100,
            ..Resources::now()
        };
        for round in 0..scaled(100_000) {
            let mut queue = options.open(&name).unwrap();
            if round % 10 == 0 {
                queue.send("x").await.unwrap();
                assert!(queue.try_send("y").unwrap_err().is_full());
                queue.recv().await.unwrap();
            }
        }
        before.assert_back();
    });
    assert!(unlink(&name).is_err());
}
