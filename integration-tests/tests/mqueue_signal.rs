//! The helper's signal and the program's own. It is alone in its file, because handlers belong to the
//! process and their order matters.

use std::time::Duration;

use sinew_integration_tests::{Watchdog, limited, scaled};
use sinew_mqueue::sysv::{Options, Queue, Target};
use tokio::signal::unix::{SignalKind, signal};

fn private() -> Queue {
    let options = Options::new().remove_on_drop(true);
    options.open(Target::Private).unwrap()
}

/// The helper's signal is not seen by a handler of the program's, and the program's own signals still are.
#[tokio::test]
async fn beside_the_programs_own_signals() {
    let _watchdog = Watchdog::new("beside_the_programs_own_signals");
    let kind = SignalKind::from_raw(rustix::process::Signal::URG.as_raw());
    let mut before = signal(kind).unwrap();
    let mut queue = private();
    let mut sender = queue.clone_sender();
    for _ in 0..scaled(2000) {
        let given_up = tokio::time::timeout(Duration::from_micros(500), queue.recv()).await;
        assert!(given_up.is_err());
    }
    let unseen = limited(std::pin::pin!(before.recv()), 1, false).await;
    assert!(unseen.is_none(), "the program sees the helper's signals");
    // Tokio's handler is called for what is not ours.
    let pid = rustix::process::getpid();
    for _ in 0..20 {
        let mut received = std::pin::pin!(queue.recv());
        assert!(limited(received.as_mut(), 1, false).await.is_none());
        rustix::process::kill_process(pid, rustix::process::Signal::URG).unwrap();
        before.recv().await.unwrap();
        sender.send("x").await.unwrap();
        assert_eq!(received.await.unwrap().unwrap().payload(), "x");
    }
}
