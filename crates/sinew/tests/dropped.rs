//! Sinks that are dropped before they were closed: who receives must not believe that this was all.
#![cfg(all(feature = "pipe", feature = "shm", feature = "socket"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sinew::{Address, BoxSink, BoxStream, Message};

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it hangs")
}

async fn meet(address: &Address) -> (BoxSink, BoxStream) {
    let opened =
        async { tokio::try_join!(sinew::open_sender(address), sinew::open_receiver(address)) };
    bounded(opened).await.unwrap()
}

fn addresses(dir: &std::path::Path, parameters: &str) -> Vec<Address> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let (dir, id) = (dir.display(), std::process::id());
    let places = [
        format!("shm:{dir}/shm"),
        format!("unix:{dir}/unix{parameters}"),
        format!("tcp:{}{parameters}", free.unwrap()),
        format!("mmap:{dir}/ring?create&unlink"),
        format!("posixshm:/sinew-dropped-{id}?create&unlink"),
    ];
    places.iter().map(|place| place.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_sink_that_is_dropped_is_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path(), "") {
        for count in [0, 1] {
            let (mut sink, mut stream) = meet(&address).await;
            for _ in 0..count {
                sink.send(Message::from("one")).await.unwrap();
            }
            drop(sink);
            for _ in 0..count {
                let message = bounded(stream.next()).await.unwrap().unwrap();
                assert_eq!(message.payload(), "one");
            }
            let end = bounded(stream.next()).await;
            let error = end.expect("it says that this was all").unwrap_err();
            assert!(error.is_peer_crashed(), "{address}: {error}");
        }
    }
}

/// A task that panics drops what it has.
#[tokio::test]
async fn a_panic_is_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path(), "") {
        let (mut sink, mut stream) = meet(&address).await;
        let task = tokio::spawn(async move {
            sink.send(Message::from("one")).await.unwrap();
            panic!("this is part of the test");
        });
        assert!(bounded(task).await.unwrap_err().is_panic());
        assert!(bounded(stream.next()).await.unwrap().is_ok());
        let error = bounded(stream.next()).await.unwrap().unwrap_err();
        assert!(error.is_peer_crashed(), "{address}: {error}");
    }
}

#[tokio::test]
async fn closed_before_it_is_none() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path(), "") {
        let (mut sink, mut stream) = meet(&address).await;
        let sending = async {
            sink.send(Message::from("one")).await.unwrap();
            sink.close().await.unwrap();
            drop(sink);
        };
        let receiving = async {
            assert!(stream.next().await.unwrap().is_ok());
            assert!(stream.next().await.is_none(), "{address}");
            drop(stream);
        };
        bounded(async { tokio::join!(sending, receiving) }).await;
    }
}

/// An end that only receives says nothing by its going.
#[tokio::test]
async fn a_receiver_has_nothing_to_end() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path(), "").into_iter().take(3) {
        let opened =
            async { tokio::try_join!(sinew::open(&address), sinew::open_receiver(&address)) };
        let ((_sink, mut stream), receiver) = bounded(opened).await.unwrap();
        drop(receiver);
        assert!(bounded(stream.next()).await.is_none(), "{address}");
    }
}

/// A program is killed before its input ends, whichever half is dropped first.
#[tokio::test]
async fn a_program_does_not_take_it_for_all() {
    for sink_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        let address = format!("exec:sh -c 'cat; touch {}'", done.display());
        let (mut sink, mut stream) = sinew::open(&address.parse().unwrap()).await.unwrap();
        sink.send(Message::from("one")).await.unwrap();
        assert_eq!(
            bounded(stream.next()).await.unwrap().unwrap().payload(),
            "one"
        );
        if sink_first {
            drop(sink);
            let error = bounded(stream.next()).await.unwrap().unwrap_err();
            assert!(error.is_peer_crashed(), "{error}");
        } else {
            drop(stream);
            drop(sink);
        }
        // A shell that was not killed would do it now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!done.exists(), "sink first: {sink_first}");
    }
}
