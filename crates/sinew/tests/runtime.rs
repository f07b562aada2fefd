//! Runtimes that lack something: an error in words, never a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use sinew::{Address, Error, ErrorKind};
use tokio::runtime::Builder;

/// Those of a test, which runs beside the other.
fn addresses(test: &str) -> impl Iterator<Item = Address> {
    let id = format!("{}-{test}", std::process::id());
    [
        format!("unix:@sinew-runtime-{id}?timeout=50ms"),
        format!("unix-seqpacket:@sinew-runtime-{id}?timeout=50ms"),
        format!("unix-dgram:@sinew-runtime-{id}?timeout=50ms"),
        format!("shm:@sinew-runtime-{id}?timeout=50ms"),
        "tcp:127.0.0.1:1?timeout=50ms".to_owned(),
        "exec:cat".to_owned(),
    ]
    .into_iter()
    .map(|text| text.parse().unwrap())
}

fn is_told(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(what), "{error}");
    assert!(error.to_string().contains("enable_all"), "{error}");
}

#[test]
fn a_runtime_without_timers() {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    for address in addresses("timers").filter(|address| address.get_str("timeout").is_some()) {
        let opened = runtime.block_on(sinew::open_receiver(&address)).map(drop);
        // Datagrams wait for nobody.
        match address.scheme() {
            sinew::Scheme::UnixDgram => opened.unwrap(),
            _ => is_told(&opened.unwrap_err(), "timers"),
        }
        let opened = runtime.block_on(sinew::open_sender(&address)).map(drop);
        is_told(&opened.unwrap_err(), "timers");
    }
}

#[test]
fn a_runtime_without_io() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    for address in addresses("io") {
        let opened = runtime.block_on(sinew::open_receiver(&address)).map(drop);
        is_told(&opened.unwrap_err(), "I/O");
    }
}
