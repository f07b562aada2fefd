//! Bridges between streams and sinks that are made for it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink, stream};
use sinew::{Attributes, Bridge, BridgeReport, Error, ErrorKind, Message};

/// Collects, and takes some polls to send what it has.
struct Slow {
    collected: Vec<Message>,
    sent: Arc<Mutex<Vec<Message>>>,
    polls: u32,
}

impl Sink<Message> for Slow {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.polls = 5;
        self.collected.push(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.polls > 0 {
            self.polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let collected = std::mem::take(&mut self.collected);
        self.sent.lock().unwrap().extend(collected);
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

async fn run(bridge: &mut Bridge) -> Result<BridgeReport, Error> {
    tokio::time::timeout(Duration::from_secs(30), bridge.run())
        .await
        .expect("it hangs")
}

#[tokio::test]
async fn what_came_before_a_failure_is_sent_on() {
    let lost = Error::new(ErrorKind::Lost, "recv").with_lost(3);
    let crash = Error::new(ErrorKind::PeerCrashed, "recv");
    let source = [
        Ok(Message::from("one")),
        Err(lost),
        Ok(Message::from("two")),
        Err(crash),
        Ok(Message::from("never")),
    ];
    let sent: Arc<Mutex<Vec<Message>>> = Arc::default();
    let sink = Slow {
        collected: Vec::new(),
        sent: Arc::clone(&sent),
        polls: 0,
    };
    let stream = Box::pin(stream::iter(source));
    let mut bridge = Bridge::new(stream, Box::pin(sink), Attributes::NONE);
    // It does not come to an end that would look like a clean one either.
    for _ in 0..2 {
        assert!(run(&mut bridge).await.unwrap_err().is_peer_crashed());
        let sent = sent.lock().unwrap();
        let sent: Vec<_> = sent.iter().map(Message::payload).collect();
        assert_eq!(sent, ["one", "two"]);
    }
    let report = bridge.report();
    assert_eq!((report.there.messages, report.there.lost), (2, 3));
}

/// A peer that only sends has closed its own receiving direction, which is no failure while nothing comes back.
#[cfg(all(feature = "shm", feature = "pipe"))]
#[tokio::test]
async fn a_direction_that_is_not_used_may_be_closed() {
    let path = std::env::temp_dir().join(format!("sinew-bridge-{}", std::process::id()));
    let source = format!("shm:{}?listen", path.display()).parse().unwrap();
    let program = "exec:sh -c 'cat >/dev/null'".parse().unwrap();
    let peer = tokio::spawn({
        let path = path.clone();
        async move {
            let options = sinew::shm::Options::new().wait_for_listener(Duration::from_secs(20));
            let (mut sender, receiver) = options.connect(&*path).await.unwrap().split();
            drop(receiver);
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send("one way").await.unwrap();
            sender.close().await.unwrap();
        }
    });
    let mut bridge = Bridge::open(&source, &program).await.unwrap();
    let report = run(&mut bridge).await.unwrap();
    assert_eq!((report.there.messages, report.back.messages), (1, 0));
    peer.await.unwrap();
}
