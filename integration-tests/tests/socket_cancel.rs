//! Futures that are dropped after each number of polls: nothing is lost or duplicated.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt, StreamExt};
use sinew_core::Error;
use sinew_integration_tests::{Payloads, Random, Watchdog, limited, scaled};
use sinew_socket::unix::{Message, datagram, seqpacket, stream};
use sinew_socket::{tcp, udp};

const LONGEST: usize = 20_000;
const FULL: u64 = 60_000;

/// Awaits a future, or gives it up: after some polls, or after some time.
async fn perhaps<T>(random: &mut Random, future: impl Future<Output = T>) -> Option<T> {
    let future = pin!(future);
    match random.below(4) {
        0 => {
            let limit = Duration::from_micros(random.below(200));
            tokio::time::timeout(limit, future).await.ok()
        }
        1 => {
            tokio::select! {
                output = future => Some(output),
                () = tokio::task::yield_now() => None,
            }
        }
        way => {
            let polls = u32::try_from(random.below(6)).unwrap();
            limited(future, polls, way == 2).await
        }
    }
}

/// Sends a descriptor with every so manieth message.
const WITH_FD: u64 = 7;

fn message(payloads: &Payloads, number: u64, with_fds: bool) -> Message {
    let message = Message::new(Bytes::copy_from_slice(payloads.get(number)));
    if with_fds && number.is_multiple_of(WITH_FD) {
        let file = std::fs::File::open("/dev/null").unwrap();
        return message.with_fds([file.into()]);
    }
    message
}

fn check(payloads: &Payloads, number: u64, message: &Message, with_fds: bool) {
    payloads.check(number, message.payload());
    let expected = usize::from(with_fds && number.is_multiple_of(WITH_FD));
    assert_eq!(message.fds().len(), expected, "message {number}");
}

/// What a sender has to be able to do here.
trait Cancelled: Sink<Message, Error = Error> + Unpin {
    async fn send_one(&mut self, message: Message) -> Result<(), Error>;
    /// Counts the messages that a given-up send had accepted; `None` where it never does.
    fn accepted(&self) -> Option<u64>;
}

impl Cancelled for stream::Sender {
    async fn send_one(&mut self, message: Message) -> Result<(), Error> {
        self.send(message).await
    }

    fn accepted(&self) -> Option<u64> {
        Some(stream::Sender::accepted(self))
    }
}

impl Cancelled for seqpacket::Sender {
    async fn send_one(&mut self, message: Message) -> Result<(), Error> {
        self.send(message).await
    }

    fn accepted(&self) -> Option<u64> {
        None
    }
}

impl Cancelled for datagram::Sender {
    async fn send_one(&mut self, message: Message) -> Result<(), Error> {
        self.send(message).await
    }

    fn accepted(&self) -> Option<u64> {
        None
    }
}

async fn send_all(
    mut sender: impl Cancelled,
    payloads: Arc<Payloads>,
    count: u64,
    mut random: Random,
) {
    let mut next = 0;
    let mut cancelled = 0;
    while next < count {
        let one = message(&payloads, next, true);
        if random.below(2) == 0 {
            let before = sender.accepted();
            match perhaps(&mut random, sender.send_one(one)).await {
                Some(sent) => {
                    sent.unwrap();
                    next += 1;
                }
                None => {
                    cancelled += 1;
                    next += sender.accepted().unwrap_or(0) - before.unwrap_or(0);
                }
            }
        } else {
            let ready = futures::future::poll_fn(|cx| Pin::new(&mut sender).poll_ready(cx));
            if let Some(ready) = perhaps(&mut random, ready).await {
                ready.unwrap();
                sender.start_send_unpin(one).unwrap();
                next += 1;
                if let Some(flushed) = perhaps(&mut random, sender.flush()).await {
                    flushed.unwrap();
                }
            }
        }
    }
    while perhaps(&mut random, sender.close()).await.is_none() {}
    assert!(cancelled > 0 || count < 50);
}

async fn receive_all(
    mut receiver: impl futures::Stream<Item = Result<Message, Error>> + Unpin,
    payloads: Arc<Payloads>,
    count: u64,
    mut random: Random,
) {
    let mut number = 0;
    while number < count {
        if let Some(received) = perhaps(&mut random, receiver.next()).await {
            check(&payloads, number, &received.unwrap().unwrap(), true);
            number += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets() {
    let _watchdog = Watchdog::new("unix_sockets");
    let mut random = Random::from_env("unix_sockets");
    let mut fork = || Random::new(random.next());
    let payloads = Arc::new(Payloads::new(fork().next(), LONGEST));
    let count = scaled(FULL);

    let (left, right) = stream::pair().unwrap();
    let ((sender, _keep), (_other, receiver)) = (left.split(), right.split());
    let sending = tokio::spawn(send_all(sender, payloads.clone(), count, fork()));
    let mut receiver = receiver;
    receive_all(&mut receiver, payloads.clone(), count, fork()).await;
    sending.await.unwrap();
    assert!(receiver.next().await.is_none());

    let (left, right) = seqpacket::pair().unwrap();
    let ((sender, _keep), (_other, mut receiver)) = (left.split(), right.split());
    let sending = tokio::spawn(send_all(sender, payloads.clone(), count, fork()));
    receive_all(&mut receiver, payloads.clone(), count, fork()).await;
    sending.await.unwrap();
    assert!(receiver.next().await.is_none());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d");
    let receiver = datagram::Socket::bind(&path).await.unwrap();
    let (sender, _) = datagram::Socket::connect(&path).await.unwrap().split();
    let sending = tokio::spawn(send_all(sender, payloads.clone(), count, fork()));
    receive_all(receiver, payloads, count, fork()).await;
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_streams() {
    let _watchdog = Watchdog::new("tcp_streams");
    let mut random = Random::from_env("tcp_streams");
    let payloads = Arc::new(Payloads::new(random.next(), LONGEST));
    let count = scaled(FULL);
    let options = tcp::Options::new().send_buffer(16_384).recv_buffer(16_384);
    let mut listener = options.bind("127.0.0.1:0").await.unwrap();
    let client = options.connect(listener.local_addr()).await.unwrap();
    let (mut sender, _keep) = client.split();
    let mut server = listener.accept().await.unwrap();
    let sending = tokio::spawn({
        let payloads = payloads.clone();
        let mut random = Random::new(random.next());
        async move {
            let mut next = 0;
            while next < count {
                let before = sender.accepted();
                let payload = payloads.get(next);
                match perhaps(&mut random, sender.send(payload)).await {
                    Some(sent) => {
                        sent.unwrap();
                        next += 1;
                    }
                    None => next += sender.accepted() - before,
                }
            }
            while perhaps(&mut random, sender.close()).await.is_none() {}
        }
    });
    let mut number = 0;
    loop {
        match perhaps(&mut random, server.recv()).await {
            None => {}
            Some(Ok(Some(message))) => {
                payloads.check(number, &message);
                number += 1;
            }
            Some(end) => break assert!(end.unwrap().is_none()),
        }
    }
    assert_eq!(number, count);
    sending.await.unwrap();
}

/// A datagram at a time, so that none is dropped for want of room.
#[tokio::test]
async fn udp_datagrams() {
    let _watchdog = Watchdog::new("udp_datagrams");
    let mut random = Random::from_env("udp_datagrams");
    let mut receiver = udp::Socket::bind("127.0.0.1:0").await.unwrap();
    let mut sender = udp::Socket::connect(receiver.local_addr()).await.unwrap();
    for number in 0..scaled(FULL) {
        while perhaps(&mut random, sender.send(number.to_le_bytes()))
            .await
            .is_none()
        {}
        let message = loop {
            if let Some(message) = perhaps(&mut random, receiver.recv()).await {
                break message.unwrap();
            }
        };
        assert_eq!(message.payload()[..], number.to_le_bytes());
    }
    assert!(receiver.try_recv().unwrap_err().is_empty());
}

/// Every peer that connected is accepted once.
#[tokio::test]
async fn accepting() {
    let _watchdog = Watchdog::new("accepting");
    let mut random = Random::from_env("accepting");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut listener = seqpacket::Listener::bind(&path).await.unwrap();
    let waiting: Arc<Mutex<VecDeque<u64>>> = Arc::default();
    let connecting = tokio::spawn({
        let (path, waiting) = (path.clone(), waiting.clone());
        async move {
            let mut kept = Vec::new();
            for number in 0..scaled(20_000) {
                let mut connection = seqpacket::connect(&path).await.unwrap();
                connection.send(number.to_le_bytes()).await.unwrap();
                waiting.lock().unwrap().push_back(number);
                kept.push(connection);
                if kept.len() == 100 {
                    kept.clear();
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    for _ in 0..scaled(20_000) {
        let mut connection = loop {
            if let Some(connection) = perhaps(&mut random, listener.accept()).await {
                break connection.unwrap();
            }
        };
        let message = connection.recv().await.unwrap().unwrap();
        let number = waiting.lock().unwrap().pop_front().unwrap();
        assert_eq!(message.payload()[..], number.to_le_bytes());
    }
    connecting.await.unwrap();
}
