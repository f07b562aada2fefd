//! Processes at the other end.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_pipe::{ChildReceiver, ChildSender, Options, command, pass_fd};

fn spawn(line: &str) -> (ChildSender, ChildReceiver) {
    Options::new()
        .spawn(&mut command(line.as_ref()).unwrap())
        .unwrap()
}

/// Waits until there is no such process, not even a zombie.
async fn gone(pid: u32) {
    for _ in 0..2000 {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{pid} is still there");
}

#[tokio::test]
async fn to_and_fro() {
    let (mut sender, receiver) = spawn("sort -u");
    for line in ["b", "a", "b"] {
        sender.send(line).await.unwrap();
    }
    sender.close().await.unwrap();
    let lines: Vec<_> = receiver.map(Result::unwrap).collect().await;
    assert_eq!(lines, ["a", "b"]);
}

#[tokio::test]
async fn a_process_that_fails() {
    let mut receiver = Options::new()
        .spawn_receiver(&mut command("sh -c 'echo a; exit 3'".as_ref()).unwrap())
        .unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "a");
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(error.is_peer_crashed(), "{error}");
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    assert!(receiver.next().await.is_none());
    assert!(receiver.recv().await.is_err());

    let mut receiver = Options::new()
        .spawn_receiver(
            &mut command("sh -c 'kill -KILL $0' ".replace("$0", "$$").as_ref()).unwrap(),
        )
        .unwrap();
    let error = receiver.recv().await.unwrap_err();
    assert!(error.to_string().contains("signal: 9"), "{error}");

    let mut sender = Options::new()
        .spawn_sender(&mut command("sh -c 'cat >/dev/null; exit 4'".as_ref()).unwrap())
        .unwrap();
    sender.feed("text".into()).await.unwrap();
    let error = SinkExt::close(&mut sender).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 4"), "{error}");

    let error = Options::new()
        .spawn(&mut Command::new("/no/such/program"))
        .unwrap_err();
    assert_eq!(error.errno_name(), Some("ENOENT"));
    assert!(error.remedy().unwrap().contains("PATH"), "{error}");
}

#[tokio::test]
async fn what_nobody_speaks_with_is_killed() {
    let (sender, receiver) = spawn("sleep 1000");
    let pid = sender.id();
    assert_eq!(pid, receiver.id());
    drop(sender);
    drop(receiver);
    gone(pid).await;
}

#[test]
fn no_zombie_without_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let child = runtime.block_on(async { spawn("sleep 1000") });
    let pid = child.0.id();
    drop(runtime);
    drop(child);
    tokio::runtime::Runtime::new().unwrap().block_on(gone(pid));
}

#[tokio::test]
async fn any_descriptor() {
    let (mut to, theirs_in) = Options::new().sender().unwrap();
    let (mut from, theirs_out) = Options::new().receiver().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec cat <&5 >&9"]);
    pass_fd(&mut shell, theirs_in, 5).unwrap();
    pass_fd(&mut shell, theirs_out, 9).unwrap();
    // Other tests open and close descriptors meanwhile.
    let mut child = (0..1000)
        .find_map(|_| shell.spawn().ok())
        .expect("the shell does not start");
    drop(shell);
    to.send("through").await.unwrap();
    assert_eq!(from.recv().await.unwrap().unwrap(), "through");
    to.close().await.unwrap();
    assert_eq!(from.recv().await.unwrap(), None);
    assert!(child.wait().unwrap().success());

    // A program that does not exist is noticed, whichever number is taken.
    for number in 3..12 {
        let (_from, theirs) = Options::new().receiver().unwrap();
        let mut missing = Command::new("/no/such/program");
        pass_fd(&mut missing, theirs, number).unwrap();
        assert!(missing.spawn().is_err(), "{number}");
    }
}

#[tokio::test]
async fn a_number_that_is_freed_before_the_start_hides_no_failure() {
    for number in 3..40 {
        let (_from, theirs) = Options::new().receiver().unwrap();
        let occupants: Vec<_> =
            std::iter::repeat_with(|| std::fs::File::open("/dev/null").unwrap())
                .take_while(|file| file.as_raw_fd() <= number)
                .collect();
        let mut missing = Command::new("/no/such/program");
        pass_fd(&mut missing, theirs, number).unwrap();
        // The pipe of the standard library takes the lowest numbers that are free.
        drop(occupants);
        let error = missing.spawn().expect_err("it is said to have started");
        assert!(
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy),
            "{number}: {error}"
        );
    }
}

#[tokio::test]
async fn packets() {
    let (mut sender, mut receiver) = Options::new()
        .spawn_packets(&mut Command::new("cat"))
        .unwrap();
    sender.send("one").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
    sender.send("two").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "two");
    sender.close().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap(), None);
}
