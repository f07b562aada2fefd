//! Locks and named channels between processes in different pid and time namespaces, as between
//! containers that share memory.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use sinew_core::ErrorKind;
use sinew_integration_tests::{Peer, Watchdog, region_place, skip};
use sinew_memory::{MappedFile, PosixShm, SysvShm, SysvTarget};
use sinew_shm::named::Options;
use sinew_sync::{LockError, Mutex, RwLock};

const LOCK_PEER: &str = env!("CARGO_BIN_EXE_lock_peer");
const REGION_PEER: &str = env!("CARGO_BIN_EXE_region_peer");

/// Namespaces to be in: with a /proc of its own, with that of the outer namespace, and with another
/// time since the system began.
const NAMESPACES: [&[&str]; 3] = [
    &["--pid", "--mount-proc"],
    &["--pid"],
    &["--time", "--boottime", "100000"],
];
/// For how long a live owner must not be taken for dead: sleepers look every 40 ms.
const LOOKS: Duration = Duration::from_millis(400);

/// A peer in these namespaces, killed with `unshare`.
fn apart(test: &str, namespaces: &[&str], program: &str, arguments: &[&str]) -> Option<Peer> {
    let mut unshare = namespaces.to_vec();
    unshare.extend(["--fork", "--kill-child", "--"]);
    match Command::new("unshare").args(&unshare).arg("true").output() {
        Err(error) => skip(test, &format!("unshare: not installed: {error}")),
        Ok(output) if !output.status.success() => {
            skip(test, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(_) => {
            let mut command = Command::new("unshare");
            return Some(Peer::spawn(
                command.args(&unshare).arg(program).args(arguments),
            ));
        }
    }
    None
}

#[tokio::test]
async fn an_owner_elsewhere_lives_until_it_dies() {
    let test = "region_namespace::an_owner_elsewhere_lives_until_it_dies";
    let _watchdog = Watchdog::new(test);
    for namespaces in NAMESPACES {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let region = MappedFile::new(&path).create(true).size(8192);
        let region = region.open().unwrap();
        let mutex = Mutex::create(&region, 0, [0_u64; 2]).unwrap();
        let rwlock = RwLock::create(&region, 1024, [0_u64; 2]).unwrap();
        for kind in ["mutex", "write", "read"] {
            let hold = ["hold", path.to_str().unwrap(), kind];
            let Some(mut peer) = apart(test, namespaces, LOCK_PEER, &hold) else {
                break;
            };
            assert_eq!(peer.line(), "held");
            let early = match kind {
                "mutex" => mutex.lock_timeout(LOOKS).await,
                _ => rwlock.write_timeout(LOOKS).await,
            };
            match early {
                Err(LockError::Failed(error)) => assert!(error.is_timed_out(), "{error}"),
                other => panic!("{namespaces:?} {kind}: {other:?}"),
            }
            peer.kill();
            peer.wait();
            let limit = Duration::from_secs(20);
            let late = match kind {
                "mutex" => mutex.lock_timeout(limit).await,
                _ => rwlock.write_timeout(limit).await,
            };
            match late {
                Err(LockError::OwnerDied(died)) if kind != "read" => drop(died.recover()),
                Ok(_) if kind == "read" => {}
                other => panic!("{namespaces:?} {kind}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_sender_elsewhere_lives_until_it_dies() {
    let test = "region_namespace::a_sender_elsewhere_lives_until_it_dies";
    let _watchdog = Watchdog::new(test);
    let name = format!("/sinew-namespace-{}", std::process::id());
    let shm = PosixShm::new(&name).create(true).unlink_on_drop(true);
    let place = format!("posix:{name}");
    for namespaces in NAMESPACES {
        let mut receiver = Options::new().open_receiver(shm.clone()).await.unwrap();
        let Some(mut peer) = apart(test, namespaces, REGION_PEER, &["say", &place]) else {
            continue;
        };
        assert_eq!(peer.line(), "said");
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
        let waited = tokio::time::timeout(LOOKS, receiver.recv()).await;
        assert!(waited.is_err(), "{namespaces:?}: {waited:?}");
        // Nor does another take its place.
        let second = Options::new().open_sender(region_place(&place)).await;
        let error = second.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        peer.kill();
        peer.wait();
        let error = receiver.recv().await.unwrap_err();
        assert!(error.is_peer_crashed(), "{error}");
    }
}

/// A segment has no file to lock: who cannot see the other says so.
#[tokio::test]
async fn a_segment_is_not_shared_with_who_cannot_be_seen() {
    let test = "region_namespace::a_segment_is_not_shared_with_who_cannot_be_seen";
    let _watchdog = Watchdog::new(test);
    let key = 0x4e53_0000 | i32::try_from(std::process::id() & 0xffff).unwrap();
    let segment = SysvShm::new(SysvTarget::Key(key)).create(true);
    let segment = segment.remove_on_drop(true);
    for namespaces in NAMESPACES {
        let receiver = Options::new().open_receiver(segment.clone()).await.unwrap();
        let say = ["say", &format!("sysv:{key}")];
        let Some(mut peer) = apart(test, namespaces, REGION_PEER, &say) else {
            continue;
        };
        let line = peer.line();
        assert!(
            line.starts_with("Unsupported") && line.contains("namespace"),
            "{namespaces:?}: {line}"
        );
        assert!(line.contains("posix shared memory"), "{line}");
        // It has not kept the end that it could not use.
        assert!(receiver.peer().is_none());
        drop(receiver);
    }
}
