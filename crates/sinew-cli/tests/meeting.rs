//! How the two ends find each other, or do not.
#![allow(clippy::unwrap_used)]

mod process;

use std::time::Duration;

use process::{Place, start, start_with};

#[test]
fn either_may_start_first() {
    let place = Place::new();
    let sender = start(&["send", &place.address(), "hello"]);
    std::thread::sleep(Duration::from_millis(100));
    let receiver = start(&["recv", &place.address()]);
    sender.end().done();
    assert_eq!(receiver.end().done(), b"hello\n");

    let receiver = start(&["recv", &place.address()]);
    place.until_bound();
    start(&["send", &place.address(), "hello"]).end().done();
    assert_eq!(receiver.end().done(), b"hello\n");
}

#[test]
fn the_sender_may_listen() {
    let place = Place::new();
    let sender = start(&["send", &format!("{}?listen", place.address()), "hello"]);
    place.until_bound();
    let receiver = start(&["recv", &format!("{}?connect", place.address())]);
    sender.end().done();
    assert_eq!(receiver.end().done(), b"hello\n");
}

#[test]
fn abstract_names() {
    let address = format!("shm:@sinew-cli-test-{}", std::process::id());
    let receiver = start(&["recv", &address]);
    start(&["send", &address, "hello"]).end().done();
    assert_eq!(receiver.end().done(), b"hello\n");
}

#[test]
fn a_sender_waits_no_longer_than_told() {
    let place = Place::new();
    let ended = start(&["send", "--timeout", "100ms", &place.address(), "x"]).end();
    ended.failed(
        1,
        &[
            "connect",
            "waited 100ms",
            "ENOENT",
            "start the listener first",
        ],
    );
    let ended = start(&["send", &format!("{}?timeout=50ms", place.address()), "x"]).end();
    ended.failed(1, &["waited 50ms"]);
    let ended = start(&["send", "--timeout", "0s", &place.address(), "x"]).end();
    ended.failed(1, &["ENOENT"]);
}

#[test]
fn a_receiver_waits_no_longer_than_told() {
    let place = Place::new();
    let ended = start(&["recv", "--timeout", "100ms", &place.address()]).end();
    ended.failed(1, &["nobody connected within 100ms", "raise the timeout"]);
    assert!(!place.path().exists());
    let address = format!("{}?connect", place.address());
    let ended = start(&["recv", "--timeout", "100ms", &address]).end();
    ended.failed(1, &["waited 100ms", "start the listener first"]);
}

#[test]
fn a_live_listener_keeps_its_address() {
    for scheme in ["shm", "unix", "unix-seqpacket"] {
        let place = Place::new();
        let address = place.address().replacen("shm", scheme, 1);
        let first = start(&["recv", &address]);
        place.until_bound();
        let second = start(&["recv", &address]).end();
        second.failed(
            1,
            &[
                "EADDRINUSE",
                "a live listener has it",
                "choose another address",
            ],
        );
        start(&["send", &address, "still"]).end().done();
        assert_eq!(first.end().done(), b"still\n");
    }
}

#[test]
fn a_dead_listener_does_not() {
    let place = Place::new();
    let mut first = start(&["recv", &place.address()]);
    place.until_bound();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(place.path().exists());
    let second = start(&["recv", &place.address()]);
    start(&["send", &place.address(), "hello"]).end().done();
    assert_eq!(second.end().done(), b"hello\n");
}

#[test]
fn other_files_are_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), "precious").unwrap();
    let ended = start(&["recv", &place.address()]).end();
    ended.failed(1, &["EEXIST", "choose another path"]);
    assert_eq!(std::fs::read(place.path()).unwrap(), b"precious");
}

#[test]
fn addresses_that_do_not_parse_are_wrong_usage() {
    for (address, parts) in [
        (
            "smh:/tmp/x",
            ["unknown scheme `smh`", "did you mean `shm`?"],
        ),
        (
            "shm:/tmp/x?lisen",
            ["no parameter `lisen`", "did you mean `listen`?"],
        ),
        (
            "shm:/tmp/x?wait=prak",
            ["unknown value `prak`", "did you mean `park`?"],
        ),
        ("/tmp/x", ["/tmp/x", "--help"]),
    ] {
        for command in ["send", "recv"] {
            let ended = start(&[command, address]).end();
            assert_eq!(ended.code, Some(2), "{address}");
            ended.says(&parts);
        }
    }
    let ended = start(&["send", "--timeout", "5", "shm:@x", "hello"]).end();
    ended.failed(2, &["`5` is not a duration", "ns, us, ms, s, m or h"]);
}

/// It is about the option, which has no place in the address.
#[test]
fn a_timeout_where_nothing_is_waited_for() {
    let ended = start(&["recv", "--timeout", "1s", "mq:/x"]).end();
    ended.failed(2, &["--timeout 1s", "`mq:`", "leave it out"]);
}

#[test]
fn completions() {
    for (shell, said) in [
        ("bash", "complete -F _sinew"),
        ("zsh", "#compdef sinew"),
        ("fish", "complete -c sinew"),
    ] {
        let script = String::from_utf8(start(&["completions", shell]).end().done()).unwrap();
        assert!(script.contains(said), "{shell}");
        for word in ["recv", "send", "bridge", "json"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let ended = start(&["completions", "bsh"]).end();
    assert_eq!(ended.code, Some(2));
    ended.says(&["bash"]);
}

#[test]
fn wrong_usage() {
    for arguments in [
        &[][..],
        &["send"],
        &["recv", "shm:@x", "-n", "0"],
        &["recv", "shm:@x", "--raw", "--json"],
        &["send", "shm:@x", "--raw", "payload"],
        &["send", "shm:@x", "--raw", "--chunk", "64k"],
        &["send", "shm:@x", "--chunk", "64K"],
    ] {
        let ended = start_with(arguments, "").end();
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        ended.says(&["--help"]);
    }
}

#[test]
fn impossible_parameters_are_failures() {
    let place = Place::new();
    let ended = start(&["recv", &format!("{}?capacity=3000", place.address())]).end();
    ended.failed(1, &["not a power of two", "use 4096"]);
    let ended = start(&["recv", "fuse:/mnt/point/name"]).end();
    ended.failed(1, &["cannot open `fuse:`", "it can open", "`shm:`"]);
}

#[test]
fn the_receivers_limit() {
    let place = Place::new();
    let receiver = start(&["recv", &format!("{}?max-message=1K", place.address())]);
    let ended = start(&["send", &place.address(), "short", &"x".repeat(2000)]).end();
    ended.failed(1, &["2000 bytes", "up to 1024 bytes", "send it in parts"]);
    let printed = receiver.end().failed(1, &["recv", "without closing"]);
    assert_eq!(printed, b"short\n");
}
