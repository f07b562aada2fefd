//! A channel as a stream of bytes.

use std::io::IoSlice;
use std::time::Duration;

use sinew_integration_tests::{BELLS, Random, WAITS, Watchdog, options, scaled};
use sinew_shm::{ByteStream, Options, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

const HANG: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(HANG, future).await;
    done.expect("hangs")
}

fn streams(options: &Options) -> (ByteStream, ByteStream) {
    let (left, right) = options.pair().unwrap();
    (left.into_byte_stream(), right.into_byte_stream())
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes());
    words.take(len).collect()
}

#[tokio::test]
async fn read_to_end() {
    let _watchdog = Watchdog::new("read_to_end");
    let len = usize::try_from(scaled(20 << 20)).unwrap();
    for wait in WAITS {
        for bell in BELLS {
            let (mut left, mut right) = streams(&options(wait, bell).capacity(16 << 10));
            let sent = bytes(len, 1);
            let write = tokio::spawn({
                let sent = sent.clone();
                async move {
                    let mut random = Random::new(2);
                    let mut rest = &sent[..];
                    while !rest.is_empty() {
                        let most = usize::try_from(1 + random.below(10_000)).unwrap();
                        let part = most.min(rest.len());
                        left.write_all(&rest[..part]).await.unwrap();
                        rest = &rest[part..];
                    }
                    left.shutdown().await.unwrap();
                    left.shutdown().await.unwrap();
                    // The other direction is open still.
                    let mut answer = Vec::new();
                    left.read_to_end(&mut answer).await.unwrap();
                    answer
                }
            });
            let mut received = Vec::new();
            within(right.read_to_end(&mut received)).await.unwrap();
            assert!(received == sent);
            assert_eq!(right.read(&mut [0]).await.unwrap(), 0);
            right.write_all(b"answer").await.unwrap();
            drop(right);
            assert_eq!(within(write).await.unwrap(), b"answer");
        }
    }
}

#[tokio::test]
async fn vectored_and_partial() {
    let _watchdog = Watchdog::new("vectored_and_partial");
    let (mut left, mut right) = streams(&Options::new().capacity(4096).threshold(100));
    assert!(tokio::io::AsyncWrite::is_write_vectored(&left));
    let parts = [&b"one"[..], b"", b"two", &[b'x'; 500]];
    let slices = parts.map(IoSlice::new);
    // A write is as long as the threshold at most.
    assert_eq!(within(left.write_vectored(&slices)).await.unwrap(), 100);
    let mut received = [0; 100];
    within(right.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received[..6], b"onetwo");
    assert_eq!(received[6..], [b'x'; 94]);
    assert_eq!(left.write_vectored(&[]).await.unwrap(), 0);
    assert_eq!(left.write(b"").await.unwrap(), 0);
    left.flush().await.unwrap();
    // Byte for byte, over several frames.
    left.write_all(b"abc").await.unwrap();
    left.write_all(b"def").await.unwrap();
    for expected in b"abcdef" {
        assert_eq!(within(right.read_u8()).await.unwrap(), *expected);
    }
    // Full: a write waits for room, and goes on when there is some.
    let mut written = 0;
    while let Ok(count) =
        tokio::time::timeout(Duration::from_millis(20), left.write(&[7; 90])).await
    {
        written += count.unwrap();
    }
    assert!((3000..4096).contains(&written), "{written}");
    let mut drained = vec![0; written];
    let more = async {
        right.read_exact(&mut drained).await.unwrap();
        right.read_u8().await.unwrap()
    };
    let (more, wrote) = within(futures::future::join(more, left.write(&[8]))).await;
    assert_eq!((more, wrote.unwrap()), (8, 1));
    assert!(drained.iter().all(|byte| *byte == 7));
}

/// Messages of a peer that does not use the stream: empty ones, and those in memory of their own.
#[tokio::test]
async fn messages_become_bytes() {
    let _watchdog = Watchdog::new("messages_become_bytes");
    let (mut left, right) = pair().unwrap();
    let mut right = right.into_byte_stream();
    let large = bytes(300_000, 5);
    left.send("").await.unwrap();
    left.send("small").await.unwrap();
    left.send("").await.unwrap();
    left.send(&large).await.unwrap();
    left.send("end").await.unwrap();
    left.close().await.unwrap();
    let mut received = Vec::new();
    let mut part = [0; 997];
    loop {
        let count = within(right.read(&mut part)).await.unwrap();
        if count == 0 {
            break;
        }
        received.extend_from_slice(&part[..count]);
    }
    assert!(received == [&b"small"[..], &large, b"end"].concat());
}

#[tokio::test]
async fn a_proxy() {
    let _watchdog = Watchdog::new("a_proxy");
    let len = usize::try_from(scaled(10 << 20)).unwrap();
    for bell in BELLS {
        let options = Options::new().doorbell(bell).capacity(32 << 10);
        let (mut client, mut near) = streams(&options);
        let (mut far, mut server) = streams(&options);
        let proxy = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        let serve = tokio::spawn(async move {
            let mut request = Vec::new();
            server.read_to_end(&mut request).await.unwrap();
            request.reverse();
            server.write_all(&request).await.unwrap();
            server.shutdown().await.unwrap();
        });
        let request = bytes(len, 9);
        let talk = async {
            client.write_all(&request).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer.reverse();
            assert!(answer == request);
        };
        within(talk).await;
        // The client has gone by the time that the proxy shuts its side down.
        drop(client);
        let (there, back) = within(proxy).await.unwrap().unwrap();
        assert_eq!((there, back), (len as u64, len as u64));
        serve.await.unwrap();
    }
}

#[tokio::test]
async fn shutting_down_after_the_peer() {
    let _watchdog = Watchdog::new("shutting_down_after_the_peer");
    let (mut left, right) = streams(&Options::new());
    left.write_all(b"unread").await.unwrap();
    drop(right);
    assert_eq!(within(left.read(&mut [0])).await.unwrap(), 0);
    left.shutdown().await.unwrap();
    let error = left.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
}

#[tokio::test]
async fn dropped_reads_lose_nothing() {
    let _watchdog = Watchdog::new("dropped_reads_lose_nothing");
    let (mut left, mut right) = streams(&Options::new().capacity(4096));
    let len = usize::try_from(scaled(2_000_000)).unwrap();
    let sent = bytes(len, 4);
    let write = tokio::spawn({
        let sent = sent.clone();
        async move {
            let mut random = Random::new(6);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let most = usize::try_from(1 + random.below(3000)).unwrap();
                let part = most.min(rest.len());
                let limit = Duration::from_micros(random.below(50));
                if let Ok(count) = tokio::time::timeout(limit, left.write(&rest[..part])).await {
                    rest = &rest[count.unwrap()..];
                }
            }
        }
    });
    let mut random = Random::new(8);
    let mut received = Vec::new();
    let mut part = vec![0; 3000];
    let read = async {
        while received.len() < len {
            let most = usize::try_from(1 + random.below(3000)).unwrap();
            let limit = Duration::from_micros(random.below(50));
            if let Ok(count) = tokio::time::timeout(limit, right.read(&mut part[..most])).await {
                received.extend_from_slice(&part[..count.unwrap()]);
            }
        }
    };
    within(read).await;
    assert!(received == sent);
    write.await.unwrap();
}
