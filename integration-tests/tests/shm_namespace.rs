//! Peers in different pid namespaces, as containers have.

use std::process::Command;
use std::time::Duration;

use sinew_core::ErrorKind;
use sinew_integration_tests::{Peer, Watchdog, skip};
use sinew_shm::{Listener, Options};

const PEER: &str = env!("CARGO_BIN_EXE_peer");

/// The peer in a pid namespace of its own.
fn contained(arguments: &[&str]) -> Option<Peer> {
    apart("--pid", arguments)
}

/// The peer in a namespace of its own.
fn apart(kind: &str, arguments: &[&str]) -> Option<Peer> {
    let unshare = [kind, "--fork", "--kill-child", "--"];
    match Command::new("unshare").args(unshare).arg("true").output() {
        Err(error) => skip("namespaces", &format!("unshare: not installed: {error}")),
        Ok(output) if !output.status.success() => {
            let why = String::from_utf8_lossy(&output.stderr);
            skip("namespaces", why.trim());
        }
        Ok(_) => {
            let mut command = Command::new("unshare");
            return Some(Peer::spawn(command.args(unshare).arg(PEER).args(arguments)));
        }
    }
    None
}

#[tokio::test]
async fn a_listener_in_a_container() {
    let _watchdog = Watchdog::new("a_listener_in_a_container");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let Some(mut peer) = contained(&["echo", "listen", path.to_str().unwrap()]) else {
        return;
    };
    // Within, we have no pid. Here, it has one, but not that of `unshare`.
    let options = Options::new().wait_for_listener(Duration::from_secs(20));
    let mut channel = options.connect(&path).await.unwrap();
    assert!(![0, peer.pid(), std::process::id()].contains(&channel.peer().pid));
    for len in [0, 1000, 100_000] {
        channel.send(vec![4; len]).await.unwrap();
        assert_eq!(channel.recv().await.unwrap().unwrap().len(), len);
    }
    peer.kill();
    assert!(channel.recv().await.unwrap_err().is_peer_crashed());
}

#[tokio::test]
async fn a_connector_in_a_container() {
    let _watchdog = Watchdog::new("a_connector_in_a_container");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let mut listener = Listener::bind(&path).await.unwrap();
    let Some(mut peer) = contained(&["echo", "connect", path.to_str().unwrap()]) else {
        return;
    };
    let mut channel = listener.accept().await.unwrap();
    channel.send("ping").await.unwrap();
    assert_eq!(channel.recv().await.unwrap().unwrap(), "ping");
    peer.kill();
    assert!(channel.recv().await.unwrap_err().is_peer_crashed());
}

/// In a user namespace in which nobody is mapped, all users have the same number, and are not the
/// same.
#[tokio::test]
async fn users_that_are_not_mapped_are_strangers() {
    let _watchdog = Watchdog::new("users_that_are_not_mapped_are_strangers");
    let name = format!("@sinew-unmapped-{}", std::process::id());
    let Some(mut peer) = apart("--user", &["echo", "listen", &name]) else {
        return;
    };
    // An abstract name is for the same user.
    let options = Options::new().wait_for_listener(Duration::from_secs(20));
    let error = options.connect(&name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("policy"), "{error}");
    peer.kill();
}
