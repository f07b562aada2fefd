//! How a channel ends between peers that keep the rules.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sinew_core::{ErrorKind, TryRecvError};
use sinew_integration_tests::{BELLS, WAITS, Watchdog, one_way, options};
use sinew_shm::{Batch, Options, pair};

const HANG: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(HANG, future).await;
    done.expect("hangs")
}

/// A thread whose peer closes, or closes one half, while the ring is full or empty.
#[test]
fn a_close_wakes_whoever_waits() {
    let _watchdog = Watchdog::within("a_close_wakes_whoever_waits", Duration::from_secs(60));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for wait in WAITS {
        for bell in BELLS {
            for blocking in [false, true] {
                for whole in [false, true] {
                    let options = options(wait, bell).capacity(4096);
                    let (mut sender, receiver, mut rest) = one_way(&options);
                    let sends = std::thread::spawn({
                        let runtime = runtime.handle().clone();
                        move || loop {
                            let sent = if blocking {
                                sender.blocking_send([1; 500])
                            } else {
                                runtime.block_on(sender.send([1; 500]))
                            };
                            if let Err(error) = sent {
                                return error;
                            }
                        }
                    });
                    let driver = async {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        drop(receiver);
                        if whole {
                            drop(rest.1);
                        } else {
                            // The other direction lives on.
                            rest.1.send("other").await.unwrap();
                            assert_eq!(rest.0.recv().await.unwrap().unwrap(), "other");
                        }
                        while !sends.is_finished() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    };
                    runtime.block_on(driver);
                    let error = sends.join().unwrap();
                    assert!(error.is_closed(), "{error}");

                    let (mut sender, mut receiver, rest) = one_way(&options);
                    let receives = std::thread::spawn({
                        let runtime = runtime.handle().clone();
                        move || {
                            if blocking {
                                receiver.blocking_recv()
                            } else {
                                runtime.block_on(receiver.recv())
                            }
                        }
                    });
                    runtime.block_on(async {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        sender.close().await.unwrap();
                        while !receives.is_finished() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    });
                    assert_eq!(receives.join().unwrap().unwrap(), None);
                    drop(rest);
                }
            }
        }
    }
}

#[tokio::test]
async fn half_a_close() {
    let _watchdog = Watchdog::new("half_a_close");
    let (mut left, mut right) = pair().unwrap();
    left.send("last").await.unwrap();
    left.close().await.unwrap();
    left.close().await.unwrap();
    let error = left.send("too late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(
        error.to_string().contains("this sender was closed"),
        "{error}"
    );
    let error = left.try_send("too late").unwrap_err();
    assert!(error.error().unwrap().is_closed());
    let error = left.blocking_send("too late").unwrap_err();
    assert!(error.is_closed(), "{error}");
    let error = left.sender().send_batch(["too late"]).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    // The other direction goes on.
    for number in 0..100 {
        right.send(format!("{number}")).await.unwrap();
        assert_eq!(left.recv().await.unwrap().unwrap(), format!("{number}"));
    }
    assert_eq!(right.recv().await.unwrap().unwrap(), "last");
    assert_eq!(right.recv().await.unwrap(), None);
    assert_eq!(right.recv().await.unwrap(), None);
    assert!(right.try_recv().unwrap_err().is_closed());
    assert_eq!(right.blocking_recv().unwrap(), None);
    assert!(right.next().await.is_none());
    assert_eq!(
        right
            .receiver()
            .recv_batch(&mut Batch::new())
            .await
            .unwrap(),
        0
    );
}

/// Nothing is sent by a sender that was closed, in whatever way.
#[tokio::test]
async fn no_loan_after_the_close() {
    let _watchdog = Watchdog::new("no_loan_after_the_close");
    let (mut sender, mut receiver, _rest) = one_way(&Options::new());
    sender.close().await.unwrap();
    for len in [10, 100_000] {
        let sent = match sender.reserve(len).await {
            Ok(loan) => loan.commit(len).await,
            Err(error) => Err(error),
        };
        assert!(sent.unwrap_err().is_closed());
    }
    assert_eq!(receiver.recv().await.unwrap(), None);
    assert_eq!(receiver.recv().await.unwrap(), None);
}

#[tokio::test]
async fn a_receiver_that_closes() {
    let _watchdog = Watchdog::new("a_receiver_that_closes");
    let (mut sender, mut receiver, mut rest) = one_way(&Options::new());
    sender.send("published").await.unwrap();
    receiver.close();
    receiver.close();
    // What was published may still be received.
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "published");
    assert_eq!(receiver.recv().await.unwrap(), None);
    let error = within(async {
        loop {
            if let Err(error) = sender.send("in vain").await {
                return error;
            }
        }
    });
    let error = error.await;
    assert!(error.is_closed(), "{error}");
    assert!(
        error.to_string().contains("the receiver was closed"),
        "{error}"
    );
    rest.1.send("other way").await.unwrap();
    assert_eq!(rest.0.recv().await.unwrap().unwrap(), "other way");
}

/// Closing, once there is nobody to be told, is no failure.
#[tokio::test]
async fn closing_after_the_peer() {
    let _watchdog = Watchdog::new("closing_after_the_peer");
    for sent in [false, true] {
        let (mut left, right) = pair().unwrap();
        if sent {
            left.send("unread").await.unwrap();
        }
        drop(right);
        left.close().await.unwrap();
        let (mut left, right) = pair().unwrap();
        drop(right);
        SinkExt::<Bytes>::close(&mut left).await.unwrap();
    }
    // But what was staged, and nobody will get, is.
    let (mut left, right) = pair().unwrap();
    left.feed(Bytes::from("staged")).await.unwrap();
    drop(right);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(left.close().await.unwrap_err().is_closed());
}

#[tokio::test]
async fn dropping_publishes() {
    let _watchdog = Watchdog::new("dropping_publishes");
    for large in [false, true] {
        let (mut left, mut right) = pair().unwrap();
        let message = Bytes::from(vec![3; if large { 100_000 } else { 100 }]);
        left.send("sent").await.unwrap();
        for _ in 0..10 {
            left.feed(message.clone()).await.unwrap();
        }
        assert_eq!(right.recv().await.unwrap().unwrap(), "sent");
        // Staged is not published.
        assert!(matches!(right.try_recv(), Err(TryRecvError::Empty)));
        drop(left);
        for _ in 0..10 {
            assert_eq!(right.recv().await.unwrap().unwrap(), message);
        }
        // Nobody has said that this was all.
        assert!(right.recv().await.unwrap_err().is_peer_crashed());
        let error = loop {
            if let Err(error) = right.send("to nobody").await {
                break error;
            }
        };
        assert!(error.is_closed(), "{error}");
    }
}
