//! SysV queues with programs that no one here wrote, as another user, and beside a program's own signals.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use sinew_integration_tests::{
    Peer, Resources, Watchdog, assert_no_thread, compile_c, limited, program, python, scaled, skip,
};
use sinew_mqueue::sysv::{Message, Options, Queue, Select, Target, ftok};
use tempfile::TempDir;

const PEER: &str = env!("CARGO_BIN_EXE_mqueue_peer");
const NOBODY: u32 = 65534;
const MOMENT: Duration = Duration::from_millis(50);

fn private() -> Queue {
    let options = Options::new().remove_on_drop(true);
    options.open(Target::Private).unwrap()
}

/// A key that nobody else has.
fn key(number: u32) -> i32 {
    (0x5000_0000 | std::process::id() << 4 & 0x0fff_fff0 | number).cast_signed()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Echoes with the type raised by one thousand, until an empty message; prints the key that it has found.
const ECHO: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/msg.h>
int main(int argc, char **argv) {
    (void)argc;
    key_t key = ftok(argv[1], atoi(argv[2]));
    printf("%d\n", key);
    fflush(stdout);
    int id = msgget(key, 0600);
    if (id < 0) { perror("msgget"); return 1; }
    for (;;) {
        struct { long type; char bytes[8192]; } message;
        ssize_t len = msgrcv(id, &message, sizeof message.bytes, -1000, 0);
        if (len < 0) { perror("msgrcv"); return 1; }
        message.type += 1000;
        if (msgsnd(id, &message, len, 0)) { perror("msgsnd"); return 1; }
        if (len == 0) return 0;
    }
}
"#;

#[tokio::test]
async fn a_c_program_echoes() {
    let _watchdog = Watchdog::new("a_c_program_echoes");
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compile_c("a_c_program_echoes", ECHO, directory.path(), "echo") else {
        return;
    };
    let options = Options::new().exclusive(true).remove_on_drop(true);
    let mut queue = options.open(Target::path(directory.path(), 201)).unwrap();
    let mut answers = queue.select(Select::Except(7)).unwrap();
    let mut peer = Peer::spawn(Command::new(program).arg(directory.path()).arg("201"));
    assert_eq!(
        peer.line(),
        ftok(directory.path(), 201).unwrap().to_string()
    );
    for number in 0..scaled(10_000) {
        let payload = vec![number.to_le_bytes()[0]; usize::try_from(number % 8192).unwrap() + 1];
        queue
            .send(Message::from(payload.clone()).with_kind(7))
            .await
            .unwrap();
        let answer = answers.recv().await.unwrap().unwrap();
        assert_eq!(answer, Message::from(payload).with_kind(1007));
    }
    queue.send(Message::from("").with_kind(7)).await.unwrap();
    let answer = answers.recv().await.unwrap().unwrap();
    assert_eq!(answer, Message::from("").with_kind(1007));
    assert!(peer.wait().success());
}

const BOTH_WAYS: &str = r"
import sysv_ipc, sys
queue = sysv_ipc.MessageQueue(int(sys.argv[1]))
for text, type in [('one', 3), ('two', 1), ('three', 3)]:
    queue.send(text.encode(), type=type)
print('sent', queue.current_messages, oct(queue.mode), flush=True)
sys.stdin.readline()
for type in [0, -2, 5]:
    text, type = queue.receive(type=type)
    print(text.decode(), type, flush=True)
new = sysv_ipc.MessageQueue(int(sys.argv[1]) + 1, sysv_ipc.IPC_CREX, mode=0o600)
new.send(b'from python', type=4)
print(new.id, sysv_ipc.ftok('/etc', 77), flush=True)
sys.stdin.readline()
new.remove()
print('removed', flush=True)
";

#[tokio::test]
async fn python_sends_and_receives() {
    let _watchdog = Watchdog::new("python_sends_and_receives");
    let Some(python) = python("python_sends_and_receives", &["sysv_ipc"]) else {
        return;
    };
    let key = key(1);
    let options = Options::new()
        .exclusive(true)
        .mode(0o640)
        .remove_on_drop(true);
    let mut queue = options.open(key).unwrap();
    let mut threes = queue.select(Select::Equal(3)).unwrap();
    let mut peer = Peer::spawn(Command::new(python).args(["-c", BOTH_WAYS, &key.to_string()]));
    assert_eq!(peer.line(), "sent 3 0o640");
    for text in ["one", "three"] {
        let message = threes.recv().await.unwrap().unwrap();
        assert_eq!(message, Message::from(text).with_kind(3));
    }
    assert_eq!(queue.recv().await.unwrap().unwrap().payload(), "two");
    for (text, kind) in [("a", 9), ("b", 5), ("c", 2)] {
        queue
            .send(Message::from(text).with_kind(kind))
            .await
            .unwrap();
    }
    peer.tell("");
    for line in ["a 9", "c 2", "b 5"] {
        assert_eq!(peer.line(), line);
    }
    let line = peer.line();
    let (id, their_key) = line.split_once(' ').unwrap();
    assert_eq!(their_key, ftok("/etc", 77).unwrap().to_string());
    let mut made = Options::new()
        .open(Target::Id(id.parse().unwrap()))
        .unwrap();
    let message = made.recv().await.unwrap().unwrap();
    assert_eq!(message, Message::from("from python").with_kind(4));
    let mut end = std::pin::pin!(made.recv());
    assert!(tokio::time::timeout(MOMENT, &mut end).await.is_err());
    peer.tell("");
    assert_eq!(peer.line(), "removed");
    assert_eq!(end.await.unwrap(), None);
    assert!(peer.wait().success());
}

#[tokio::test]
async fn made_listed_and_removed_with_the_systems_programs() {
    const TEST: &str = "made_listed_and_removed_with_the_systems_programs";
    let _watchdog = Watchdog::new(TEST);
    let (Some(ipcmk), Some(ipcs), Some(ipcrm)) = (
        program(TEST, "ipcmk"),
        program(TEST, "ipcs"),
        program(TEST, "ipcrm"),
    ) else {
        return;
    };
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let made = run(Command::new(ipcmk).args(["-Q", "-p", "600"]));
    let id: i32 = made.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let mut queue = Options::new().open(Target::Id(id)).unwrap();
    queue.send("12345").await.unwrap();
    let listed = run(Command::new(ipcs).args(["-q", "-i", &id.to_string()]));
    says(&listed, &["mode=0600", "cbytes=5", "qnum=1"]);
    assert_eq!(queue.recv().await.unwrap().unwrap().payload(), "12345");

    // Removed while one waits for a message and another for room.
    let mut receiver = queue.select(Select::Equal(2)).unwrap();
    let received = tokio::spawn(async move { receiver.recv().await });
    while queue.try_send(vec![0; 4000]).is_ok() {}
    let mut sender = queue.clone_sender();
    let sent = tokio::spawn(async move { sender.send(vec![0; 4000]).await });
    tokio::time::sleep(MOMENT).await;
    run(Command::new(ipcrm).args(["-q", &id.to_string()]));
    assert_eq!(received.await.unwrap().unwrap(), None);
    assert!(sent.await.unwrap().unwrap_err().is_closed());
}

/// Starts the peer as another user, who has no capabilities.
struct Nobody {
    directory: TempDir,
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
        std::fs::copy(PEER, directory.path().join("mqueue_peer")).unwrap();
        Some(Self { directory })
    }

    fn start(&self, arguments: &[&str]) -> Peer {
        let program = self.directory.path().join("mqueue_peer");
        Peer::spawn(
            Command::new(program)
                .args(arguments)
                .uid(NOBODY)
                .gid(NOBODY),
        )
    }
}

#[tokio::test]
async fn permissions() {
    let _watchdog = Watchdog::new("permissions");
    let Some(nobody) = Nobody::new("permissions") else {
        return;
    };
    let start = |arguments: &[&str]| nobody.start(arguments);
    let mut queue = private();
    let id = queue.id().to_string();
    for (mode, may_receive, may_send) in [
        (0o600, false, false),
        (0o604, true, false),
        (0o602, false, true),
        (0o606, true, true),
    ] {
        queue.set_mode(mode).unwrap();
        let text = start(&["sysv-open", "receiver", &id]).line();
        match may_receive {
            true => assert_eq!(text, "ok"),
            false => says(&text, &["Refused", "EACCES", "mode forbids"]),
        }
        let mut peer = start(&["sysv-send", &id, "hello"]);
        match may_send {
            true => {
                assert_eq!(peer.line(), "ok");
                assert_eq!(queue.recv().await.unwrap().unwrap().payload(), "hello");
            }
            false => says(&peer.line(), &["Refused", "msgsnd", "EACCES"]),
        }
        match may_receive {
            true => assert_eq!(peer.line(), "ok"),
            false => says(&peer.line(), &["Refused", "msgctl", "EACCES"]),
        }
        if may_receive {
            let mut peer = start(&["sysv-recv", &id]);
            tokio::time::sleep(MOMENT).await;
            queue.send("there").await.unwrap();
            assert_eq!(peer.line(), "there");
        }
    }
    let mut peer = start(&["sysv-administer", &id]);
    says(
        &peer.line(),
        &["Refused", "EPERM", "msg_qbytes=1048576", "kernel.msgmnb is"],
    );
    says(&peer.line(), &["Refused", "EPERM", "owner"]);
}

/// Without permission to write, a message without payload whose receiver has left goes to the next one.
#[tokio::test]
async fn a_message_that_cannot_go_back() {
    let _watchdog = Watchdog::new("a_message_that_cannot_go_back");
    let Some(nobody) = Nobody::new("a_message_that_cannot_go_back") else {
        return;
    };
    let mut queue = private();
    queue.set_mode(0o604).unwrap();
    let mut peer = nobody.start(&["sysv-held", &queue.id().to_string()]);
    assert_eq!(peer.line(), "waits");
    queue.send(Message::from("").with_kind(77)).await.unwrap();
    peer.tell("");
    assert_eq!(peer.line(), "0 Some(77)");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

#[test]
fn limits_that_a_helper_meets() {
    let _watchdog = Watchdog::new("limits_that_a_helper_meets");
    let Some(nobody) = Nobody::new("limits_that_a_helper_meets") else {
        return;
    };
    for (what, parts) in [
        ("threads", ["a helper thread", "EAGAIN", "RLIMIT_NPROC"]),
        ("signals", ["timer_create", "EAGAIN", "RLIMIT_SIGPENDING"]),
    ] {
        let mut peer = nobody.start(&["sysv-limit", what]);
        let line = peer.line();
        says(&line, &["LimitExceeded"]);
        says(&line, &parts);
        assert_eq!(peer.line(), "ok", "{what}");
        // Killed, it would leave its queue.
        assert!(peer.wait().success());
    }
}

/// The helper can be interrupted, whatever the program has inherited.
#[test]
fn signals_that_are_ignored() {
    let _watchdog = Watchdog::new("signals_that_are_ignored");
    for before in ["", "trap '' URG; "] {
        let script = format!("{before}exec {PEER} sysv-give-up");
        let mut peer = Peer::spawn(Command::new("sh").args(["-c", &script]));
        assert_eq!(peer.line(), "ok", "{before}");
        assert!(peer.wait().success());
    }
}

/// Who waits uses no CPU.
#[tokio::test]
async fn idle() {
    let _watchdog = Watchdog::new("idle");
    let mut peer = Peer::start(PEER, &["idle"]);
    let (spent, waited) = (peer.line(), peer.line());
    let number = |line: String| line.parse::<u128>().unwrap();
    let (spent, waited) = (number(spent), number(waited));
    assert!(peer.wait().success());
    assert!(spent * 20 < waited, "{spent} of {waited} µs");
}

/// A process that waits in the kernel and one that waits with a helper: each message goes to one of them.
#[tokio::test]
async fn beside_a_receiver_of_another_program() {
    let _watchdog = Watchdog::new("beside_a_receiver_of_another_program");
    let Some(python) = python("beside_a_receiver_of_another_program", &["sysv_ipc"]) else {
        return;
    };
    const SCRIPT: &str = r"
import sysv_ipc, sys
queue = sysv_ipc.MessageQueue(int(sys.argv[1]))
count = 0
print('ready', flush=True)
while queue.receive()[1] != 2:
    count += 1
print(count, flush=True)
";
    let key = key(3);
    let queue = Options::new()
        .exclusive(true)
        .remove_on_drop(true)
        .open(key)
        .unwrap();
    let mut peer = Peer::spawn(Command::new(python).args(["-c", SCRIPT, &key.to_string()]));
    assert_eq!(peer.line(), "ready");
    let mut sender = queue.clone_sender();
    let mut receiver = queue.select(Select::Equal(1)).unwrap();
    let ours = tokio::spawn(async move {
        let mut count = 0;
        while receiver.recv().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    let count = scaled(20_000);
    for number in 0..count {
        sender.send("x").await.unwrap();
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    while queue.attributes().unwrap().messages > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sender
        .send(Message::from("end").with_kind(2))
        .await
        .unwrap();
    let theirs: u64 = tokio::task::spawn_blocking(move || peer.line())
        .await
        .unwrap()
        .parse()
        .unwrap();
    queue.remove().unwrap();
    assert_eq!(ours.await.unwrap() + theirs, count);
}

#[test]
fn opened_waited_for_and_closed_without_end() {
    let _watchdog = Watchdog::new("opened_waited_for_and_closed_without_end");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let before = Resources {
        threads: usize::MAX,
        fds: Resources::now().fds + 100,
        ..Resources::now()
    };
    runtime.block_on(async {
        for round in 0..scaled(100_000) {
            let mut queue = private();
            if round % 10 == 0 {
                // A helper of its own, each time.
                let mut received = std::pin::pin!(queue.recv());
                assert!(limited(received.as_mut(), 1000, true).await.is_none());
            }
        }
    });
    before.assert_back();
    assert_no_thread("sinew-sysvmq");
}
