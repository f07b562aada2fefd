//! The sender as a sink.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;

use bytes::Bytes;
use futures::Sink;
use sinew_core::ErrorKind;
use sinew_shm::Options;

#[tokio::test]
async fn a_sink_that_holds_a_message_refuses_another_and_keeps_the_first() {
    let (left, right) = Options::new().capacity(4096).pair().unwrap();
    let (mut sender, _) = left.split();
    let (_, mut receiver) = right.split();
    let mut accepted = Vec::new();
    let refused = loop {
        let message = Bytes::from(vec![u8::try_from(accepted.len()).unwrap(); 1000]);
        match Pin::new(&mut sender).start_send(message.clone()) {
            Ok(()) => accepted.push(message),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("poll_ready"), "{refused}");
    // Four in the ring, and one that waits for room.
    assert_eq!(accepted.len(), 5);
    let sending = async {
        sender.flush().await.unwrap();
        sender.close().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        while let Some(message) = receiver.recv().await.unwrap() {
            received.push(message);
        }
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert_eq!(received, accepted);
}
