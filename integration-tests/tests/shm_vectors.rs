//! The memory of an end is that of `docs/protocol/vectors`, byte by byte, and is understood.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use sinew_integration_tests::{MEMORY, RawEnd, Watchdog, frozen};
use sinew_shm::Options;

/// A file's bytes, `None` for those that may be anything: `size N`, and lines of `OFFSET: BYTES #
/// comment`, both in hexadecimal.
fn read(name: &str) -> Vec<Option<u8>> {
    let path = format!(
        "{}/../docs/protocol/vectors/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut bytes = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line = line.split('#').next().unwrap().trim();
        if let Some(size) = line.strip_prefix("size ") {
            bytes.resize(size.parse().unwrap(), Some(0));
        } else if let Some((offset, values)) = line.split_once(": ") {
            let offset = usize::from_str_radix(offset, 16).unwrap();
            for (byte, value) in bytes[offset..].iter_mut().zip(values.split_whitespace()) {
                *byte = (value != "..").then(|| u8::from_str_radix(value, 16).unwrap());
            }
        }
    }
    bytes
}

fn matches(found: &[u8], expected: &[Option<u8>]) -> bool {
    found.len() == expected.len()
        && (found.iter().zip(expected)).all(|(found, byte)| byte.is_none_or(|byte| byte == *found))
}

#[tokio::test]
async fn memory_is_that_of_the_document() {
    let _watchdog = Watchdog::new("memory_is_that_of_the_document");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let mut listener = Options::new().bind(&path).await.unwrap();
    let raw = std::thread::spawn(move || RawEnd::connect(&path, 64 << 10));
    let mut channel = listener.accept().await.unwrap();
    let raw = raw.join().unwrap();
    let large = vec![7; 100_000];

    // What an end writes.
    channel.send("hello").await.unwrap();
    channel.send("").await.unwrap();
    channel.send(&large).await.unwrap();
    let ring = read("ring");
    assert_eq!(raw.their_published(), ring.len() as u64);
    let found = raw.their_data(ring.len());
    assert!(matches(&found, &ring), "{found:02x?}");
    let (packet, fds) = raw.wire.recv().expect("memory");
    assert_eq!((packet, fds.len()), (vec![MEMORY], 1));
    channel.sender().close().await.unwrap();

    // What an end reads: the same, in the other direction.
    raw.put(
        0,
        &ring
            .iter()
            .map(|byte| byte.unwrap_or(0xee))
            .collect::<Vec<_>>(),
    );
    let memory = frozen(&large);
    raw.wire.send(&[MEMORY], &[memory.as_fd()]).unwrap();
    raw.set(RawEnd::PUBLISHED, 16);
    assert_eq!(
        channel.recv().await.unwrap().as_deref(),
        Some(&b"hello"[..])
    );

    // Both together, once it sleeps.
    let mut receiving = Box::pin(channel.recv());
    let control = read("control");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches(&raw.their_control(control.len()), &control) {
        assert!(
            Instant::now() < deadline,
            "{:02x?}",
            raw.their_control(control.len())
        );
        let soon = tokio::time::timeout(Duration::from_millis(1), &mut receiving).await;
        assert!(soon.is_err(), "{soon:?}");
    }
    raw.set(RawEnd::PUBLISHED, ring.len() as u64);
    raw.ring();
    assert_eq!(receiving.await.unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(channel.recv().await.unwrap().unwrap(), large);
}
