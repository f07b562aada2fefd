//! FIFOs with shells and with `socat`, in both directions.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew_integration_tests::{Watchdog, program, scaled};
use sinew_pipe::fifo::{self, Options};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo::create(&path, 0o600).unwrap();
    (directory, path)
}

fn shell(script: &str, path: &Path) -> Child {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn output(child: Child) -> String {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Each side comes first in turn: the one that is blocked in its open(2) is found, and finds us.
#[tokio::test]
async fn shell_redirection() {
    let _watchdog = Watchdog::new("shell_redirection");
    let (_directory, path) = place();
    for round in 0..scaled(400) {
        let pause = async {
            if round % 4 > 1 {
                tokio::time::sleep(Duration::from_millis(round % 20)).await;
            }
        };
        let script = if round % 8 > 3 {
            "printf 'one\\ntwo' > \"$1\""
        } else {
            "sleep 0.01; printf 'one\\ntwo' > \"$1\""
        };
        let child = shell(script, &path);
        pause.await;
        let receiver = Options::new().receiver(&path).await.unwrap();
        let lines: Vec<_> = receiver.map(Result::unwrap).collect().await;
        assert_eq!(lines, ["one", "two"]);
        output(child).await;

        let script = if round % 8 > 3 {
            "cat < \"$1\""
        } else {
            "sleep 0.01; cat < \"$1\""
        };
        let child = shell(script, &path);
        if round % 4 > 1 {
            tokio::time::sleep(Duration::from_millis(round % 20)).await;
        }
        let mut sender = Options::new().sender(&path).await.unwrap();
        sender.send("three").await.unwrap();
        sender.feed("four").await.unwrap();
        sender.close().await.unwrap();
        assert_eq!(output(child).await, "three\nfour\n");
    }
}

#[tokio::test]
async fn socat() {
    let _watchdog = Watchdog::new("socat");
    let Some(socat) = program("socat", "socat") else {
        return;
    };
    let socat = socat.display();
    let (_directory, path) = place();
    let count = scaled(100_000);

    // From it: what it reads from `seq` goes into the FIFO.
    let script = format!("seq {count} | {socat} -u - PIPE:\"$1\"");
    let child = shell(&script, &path);
    let mut receiver = Options::new().receiver(&path).await.unwrap();
    for number in 1..=count {
        let line = receiver.recv().await.unwrap().unwrap();
        assert_eq!(line, number.to_string());
    }
    // `socat` opens both ends itself, so the FIFO has a writer until it has ended.
    output(child).await;
    assert_eq!(receiver.recv().await.unwrap(), None);

    // To it. As it is a writer too, it never sees an end, and is asked for so many bytes.
    let bytes: usize = (1..=count).map(|number| number.to_string().len() + 1).sum();
    let script = format!("{socat} -u PIPE:\"$1\" - | head -c {bytes} | cksum; kill $$");
    let script = script.replace("; kill $$", "");
    let child = shell(&script, &path);
    let mut sender = Options::new().sender(&path).await.unwrap();
    for number in 1..=count {
        sender.feed(number.to_string()).await.unwrap();
    }
    SinkExt::<&str>::flush(&mut sender).await.unwrap();
    // The next write of `socat` meets the end of `head`.
    let through = tokio::spawn(output(child));
    while !through.is_finished() {
        let _full_or_gone = sender.try_send("more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let direct = Command::new("sh")
        .args(["-c", &format!("seq {count} | cksum")])
        .output()
        .unwrap();
    assert_eq!(
        through.await.unwrap(),
        String::from_utf8(direct.stdout).unwrap()
    );
}

/// A writer that is blocked in open(2) is let go by our reader alone, not by a sender that waits too.
#[tokio::test]
async fn waiting_disturbs_nobody() {
    let _watchdog = Watchdog::new("waiting_disturbs_nobody");
    let (_directory, path) = place();
    let mut child = shell("echo from the shell > \"$1\"", &path);
    let waiting = Options::new().timeout(Duration::from_millis(100));
    let error = waiting.sender(&path).await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    assert!(child.try_wait().unwrap().is_none(), "it was let go");
    let mut receiver = Options::new().receiver(&path).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "from the shell");
    assert_eq!(receiver.recv().await.unwrap(), None);
    output(child).await;
}
