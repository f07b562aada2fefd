//! Addresses that this build cannot open, and what can cross threads.

use sinew::{Address, ErrorKind, Scheme};

const LANDED: &[Scheme] = &[
    Scheme::Exec,
    Scheme::Fd,
    Scheme::Fifo,
    Scheme::Futex,
    Scheme::Mmap,
    Scheme::Mq,
    Scheme::PosixShm,
    Scheme::Sem,
    Scheme::Shm,
    Scheme::SysvMq,
    Scheme::SysvSem,
    Scheme::SysvShm,
    Scheme::Tcp,
    Scheme::Udp,
    Scheme::Unix,
    Scheme::UnixDgram,
    Scheme::UnixSeqpacket,
];

fn sendable<T: Send>(_: &T) {}

#[test]
fn opening_is_send() {
    let address: Address = "shm:@name".parse().unwrap();
    sendable(&sinew::open(&address));
    sendable(&sinew::open_sender(&address));
    sendable(&sinew::open_receiver(&address));
}

#[tokio::test]
async fn a_scheme_that_cannot_be_opened_says_so() {
    for scheme in Scheme::ALL.iter().filter(|scheme| !LANDED.contains(scheme)) {
        let address: Address = scheme.example().parse().unwrap();
        for error in [
            sinew::open(&address).await.err(),
            sinew::open_sender(&address).await.err(),
            sinew::open_receiver(&address).await.err(),
        ] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error.to_string().contains(&format!("`{scheme}:`")),
                "{error}"
            );
        }
    }
}

#[cfg(not(feature = "shm"))]
#[tokio::test]
async fn a_feature_that_is_missing_is_named() {
    let address: Address = "shm:@name".parse().unwrap();
    let error = sinew::open(&address).await.err().unwrap();
    assert!(error.to_string().contains("the feature `shm`"), "{error}");
}
