//! `shm:` addresses, within one process.
#![cfg(feature = "shm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use sinew::{Address, BoxSink, BoxStream, Error, ErrorKind, Message};
use tempfile::TempDir;

/// A meeting point that nobody else has.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn address(&self, parameters: &str) -> Address {
        format!("shm:{}/s{parameters}", self.dir.path().display())
            .parse()
            .unwrap()
    }
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it hangs")
}

async fn meet(receiver: &Address, sender: &Address) -> Result<(BoxStream, BoxSink), Error> {
    bounded(async { tokio::try_join!(sinew::open_receiver(receiver), sinew::open_sender(sender)) })
        .await
}

async fn passes(receiver: &Address, sender: &Address) {
    let (mut stream, mut sink) = meet(receiver, sender).await.unwrap();
    bounded(async {
        sink.send(Message::from("hello")).await.unwrap();
        sink.send(Message::from(vec![7; 300_000])).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().payload(), "hello");
        assert_eq!(
            stream.next().await.unwrap().unwrap().payload().len(),
            300_000
        );
        assert!(stream.next().await.is_none());
    })
    .await;
}

fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn the_receiver_listens_and_the_sender_connects() {
    let place = Place::new();
    passes(&place.address(""), &place.address("")).await;
}

#[tokio::test]
async fn roles_can_be_swapped() {
    let place = Place::new();
    passes(&place.address("?connect"), &place.address("?listen")).await;
}

#[tokio::test]
async fn every_parameter_is_taken() {
    let place = Place::new();
    let all = "?timeout=20s&mode=600&capacity=4K&threshold=1K&wait=park&max-message=1M";
    passes(&place.address(all), &place.address(all)).await;
    passes(&place.address("?wait=spin"), &place.address("?wait=spin")).await;
    passes(
        &place.address(""),
        &place.address("?capacity=1M&threshold=0"),
    )
    .await;
}

#[tokio::test]
async fn open_has_both_directions() {
    let place = Place::new();
    let (here, there) = (place.address("?listen"), place.address(""));
    let ((mut sink, mut stream), (mut to, mut from)) =
        bounded(async { tokio::try_join!(sinew::open(&here), sinew::open(&there)) })
            .await
            .unwrap();
    bounded(async {
        to.send(Message::from("ping")).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().payload(), "ping");
        sink.send(Message::from("pong")).await.unwrap();
        assert_eq!(from.next().await.unwrap().unwrap().payload(), "pong");
        to.close().await.unwrap();
        assert!(stream.next().await.is_none());
        sink.send(Message::from("still")).await.unwrap();
        assert_eq!(from.next().await.unwrap().unwrap().payload(), "still");
    })
    .await;
}

#[tokio::test]
async fn the_address_is_free_again_once_the_two_have_met() {
    let place = Place::new();
    let address = place.address("");
    let path = address.path().unwrap().to_owned();
    let (_stream, _sink) = meet(&address, &address).await.unwrap();
    assert!(!path.exists());
    passes(&address, &address).await;
}

#[tokio::test]
async fn a_sender_waits_for_its_receiver() {
    let place = Place::new();
    let address = place.address("");
    let late = tokio::spawn({
        let address = address.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sinew::open_receiver(&address).await.map(drop)
        }
    });
    drop(bounded(sinew::open_sender(&address)).await.unwrap());
    bounded(late).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_sender_does_not_wait_for_ever() {
    let place = Place::new();
    let begun = Instant::now();
    let address = place.address("?timeout=50ms");
    let error = error(bounded(sinew::open_sender(&address)).await);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let text = error.to_string();
    assert!(text.contains("waited 50ms"), "{text}");
    assert!(text.contains("start the listener first"), "{text}");
}

#[tokio::test]
async fn no_timeout_at_all_is_one_try() {
    let place = Place::new();
    let address = place.address("?timeout=0s");
    assert!(bounded(sinew::open_sender(&address)).await.is_err());
    let listening = tokio::spawn({
        let address = place.address("");
        async move { sinew::open_receiver(&address).await.map(drop) }
    });
    bounded(async {
        while !place.address("").path().unwrap().exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(bounded(sinew::open_sender(&address)).await.unwrap());
    bounded(listening).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_listener_gives_up_where_it_is_told_to() {
    let place = Place::new();
    let address = place.address("?timeout=50ms");
    let error = error(bounded(sinew::open_receiver(&address)).await);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("nobody connected within 50ms"),
        "{error}"
    );
    assert!(!address.path().unwrap().exists());
}

#[tokio::test]
async fn a_dropped_listener_leaves_no_path() {
    let place = Place::new();
    let address = place.address("");
    let listening = tokio::time::timeout(Duration::from_millis(50), sinew::open_receiver(&address));
    assert!(listening.await.is_err());
    assert!(!address.path().unwrap().exists());
}

#[tokio::test]
async fn the_mode_is_the_listeners() {
    let place = Place::new();
    let address = place.address("?mode=640");
    let path = address.path().unwrap().to_owned();
    let mut listening = Box::pin(sinew::open_receiver(&address));
    bounded(async {
        while !path.exists() {
            tokio::select! {
                _ = &mut listening => panic!("nobody connected"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    })
    .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let sender = place.address("?mode=640");
    let met = bounded(async { tokio::try_join!(listening, sinew::open_sender(&sender)) }).await;
    drop(met.unwrap());
}

#[tokio::test]
async fn the_receivers_limit_is_the_senders_error() {
    let place = Place::new();
    let (mut stream, mut sink) = meet(&place.address("?max-message=10"), &place.address(""))
        .await
        .unwrap();
    let error = bounded(sink.send(Message::from(vec![0; 100_000])))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    bounded(sink.send(Message::from("short"))).await.unwrap();
    assert_eq!(
        bounded(stream.next()).await.unwrap().unwrap().payload(),
        "short"
    );
}

#[tokio::test]
async fn what_a_channel_cannot_carry_is_an_error() {
    let place = Place::new();
    let (mut stream, mut sink) = meet(&place.address(""), &place.address("")).await.unwrap();
    let message = Message::from("job").with_priority(3);
    let error = bounded(sink.send(message)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    bounded(sink.send(Message::from("job"))).await.unwrap();
    assert_eq!(
        bounded(stream.next()).await.unwrap().unwrap().payload(),
        "job"
    );
}

#[tokio::test]
async fn impossible_parameters_say_why() {
    let place = Place::new();
    for (parameters, kind, parts) in [
        (
            "?capacity=3000",
            ErrorKind::InvalidInput,
            ["capacity=3000", "not a power of two", "use 4096"],
        ),
        (
            "?capacity=4K&threshold=1M",
            ErrorKind::InvalidInput,
            ["threshold=1048576", "4096 bytes", "lower the threshold"],
        ),
        (
            "?mode=4755",
            ErrorKind::InvalidAddress,
            ["mode=4755", "permission bits", "write 755"],
        ),
        (
            "?connect&mode=600",
            ErrorKind::InvalidAddress,
            ["mode=600", "the end that listens", "leave out"],
        ),
    ] {
        let address = place.address(parameters);
        let error = error(bounded(sinew::open_receiver(&address)).await);
        assert_eq!(error.kind(), kind, "{error}");
        for part in parts {
            assert!(
                error.to_string().contains(part),
                "{part:?} is not in {error}"
            );
        }
    }
    let address: Address = "shm:@sinew-test?mode=600".parse().unwrap();
    let error = error(bounded(sinew::open_receiver(&address)).await);
    assert!(error.to_string().contains("no permissions"), "{error}");
}

#[tokio::test]
async fn a_live_listener_keeps_its_address() {
    let place = Place::new();
    let address = place.address("");
    let mut first = Box::pin(sinew::open_receiver(&address));
    let error = bounded(async {
        loop {
            tokio::select! {
                _ = &mut first => panic!("nobody connected"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            if address.path().unwrap().exists() {
                break error(sinew::open_receiver(&address).await);
            }
        }
    })
    .await;
    assert_eq!(error.errno(), Some(98), "{error}");
    assert!(
        error.to_string().contains("a live listener has it"),
        "{error}"
    );
}

#[tokio::test]
async fn who_comes_second_waits_for_the_next_listener() {
    let place = Place::new();
    let address = place.address("?timeout=20s");
    let sender = || {
        let address = address.clone();
        tokio::spawn(async move {
            let mut sink = sinew::open_sender(&address).await?;
            sink.send(Message::from("hello")).await?;
            sink.close().await
        })
    };
    for _ in 0..20 {
        let senders = [sender(), sender(), sender()];
        for _ in &senders {
            let mut stream = bounded(sinew::open_receiver(&address)).await.unwrap();
            let message = bounded(stream.next()).await.unwrap().unwrap();
            assert_eq!(message.payload(), "hello");
        }
        for sender in senders {
            bounded(sender).await.unwrap().unwrap();
        }
    }
}
