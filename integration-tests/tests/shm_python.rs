//! A client in Python, which was written from `docs/protocol/shm.md`.

use std::process::Stdio;

use sinew_integration_tests::{Watchdog, skip};
use sinew_shm::{Channel, Options, Wait};
use tokio::process::Command;

/// The shortest message.
const LEAST: &str = "0";
/// Messages under way.
const DEPTH: &str = "4";

async fn echo(mut channel: Channel) -> usize {
    let mut count = 0;
    while let Some(message) = channel.recv().await.unwrap() {
        channel.send(message).await.unwrap();
        count += 1;
    }
    channel.sender().close().await.unwrap();
    count
}

#[tokio::test]
async fn a_client_in_another_language() {
    let _watchdog = Watchdog::new("a_client_in_another_language");
    let python = Command::new("python3").arg("--version").output().await;
    if !python.is_ok_and(|output| output.status.success()) {
        skip("a_client_in_another_language", "python3: not installed");
        return;
    }
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/python/shm_client.py");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    for wait in [Wait::Park, Wait::Adaptive] {
        let mut listener = Options::new().wait(wait).bind(&path).await.unwrap();
        let child = Command::new("python3")
            .args([client, path.to_str().unwrap(), "200", LEAST, DEPTH])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = child.wait_with_output();
        let served = async {
            let channel = listener.accept().await.unwrap();
            echo(channel).await
        };
        let (served, ended) = tokio::join!(served, ended);
        let ended = ended.unwrap();
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{errors}");
        assert_eq!(ended.stdout, b"200 messages came back\n");
        assert_eq!(served, 200);
    }
}

/// A refusal is told, and not a hang-up without a reason.
#[tokio::test]
async fn a_client_that_is_refused() {
    let _watchdog = Watchdog::new("a_client_that_is_refused");
    let python = Command::new("python3").arg("--version").output().await;
    if !python.is_ok_and(|output| output.status.success()) {
        skip("a_client_that_is_refused", "python3: not installed");
        return;
    }
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/python/shm_client.py");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let options = Options::new().authorize(|_| false);
    let mut listener = options.bind(&path).await.unwrap();
    let mut command = Command::new("python3");
    command.args([client, path.to_str().unwrap(), "1", "0", "1"]);
    tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        output = command.output() => {
            let output = output.unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("ConnectionRefusedError: policy"), "{errors}");
        }
    }
}
