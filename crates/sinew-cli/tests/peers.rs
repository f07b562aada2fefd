//! `peers=many`: one process prints what all who come send.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use process::{Place, Running, sinew, start, start_with};
use rustix::process::Signal;

fn address(place: &Place, scheme: &str) -> String {
    match scheme {
        "tcp" => {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
            format!("tcp:{}", free.unwrap())
        }
        _ => format!("{scheme}:{}", place.path().display()),
    }
}

/// By sender, which is the first part of a line, before a colon: what of it arrived, in order.
fn by_sender(lines: impl IntoIterator<Item = String>) -> BTreeMap<String, Vec<String>> {
    let mut senders = BTreeMap::<_, Vec<_>>::new();
    for line in lines {
        let (sender, number) = line.split_once(':').unwrap();
        senders
            .entry(sender.to_owned())
            .or_default()
            .push(number.to_owned());
    }
    senders
}

#[test]
fn a_thousand_lines_of_twenty() {
    for scheme in ["unix", "unix-seqpacket", "tcp", "shm"] {
        let place = Place::new();
        let address = address(&place, scheme);
        let listen = format!("{address}?listen&peers=many");
        let receiver = start(&["recv", "--json", "-n", "1000", &listen]);
        let senders: Vec<_> = (0..20)
            .map(|sender| {
                let lines: String = (0..50).map(|line| format!("{sender}:{line}\n")).collect();
                start_with(&["send", "--timeout", "30s", &address], lines)
            })
            .collect();
        let pids: BTreeSet<_> = senders.iter().map(|sender| sender.child.id()).collect();
        for sender in senders {
            sender.end().done();
        }
        let printed = String::from_utf8(receiver.end().done()).unwrap();
        let mut peers = BTreeMap::<u64, BTreeSet<String>>::new();
        let lines = printed.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let payload = value["payload"].as_str().unwrap().to_owned();
            let peer = &value["peer"];
            match scheme {
                "tcp" => {
                    let address = peer["address"].as_str().unwrap();
                    assert!(address.starts_with("127.0.0.1:"), "{line}");
                }
                _ => {
                    let pid = peer["pid"].as_u64().unwrap();
                    assert!(pids.contains(&u32::try_from(pid).unwrap()), "{line}");
                }
            }
            let sender = payload.split(':').next().unwrap().to_owned();
            let number = peer["number"].as_u64().unwrap();
            peers.entry(number).or_default().insert(sender);
            payload
        });
        let senders = by_sender(lines);
        let expected: Vec<_> = (0..50).map(|line: u32| line.to_string()).collect();
        assert_eq!(senders.len(), 20, "{scheme}");
        for (sender, lines) in senders {
            assert_eq!(lines, expected, "{scheme}: {sender}");
        }
        assert!(peers.keys().copied().eq(1..=20), "{scheme}: {peers:?}");
        assert!(
            peers.values().all(|senders| senders.len() == 1),
            "{peers:?}"
        );
    }
}

/// A peer that is cut off within a message is reported; those beside it and after it are received.
#[test]
fn one_that_fails_is_not_the_end() {
    for scheme in ["unix", "tcp"] {
        let place = Place::new();
        let address = address(&place, scheme);
        let listen = format!("{address}?listen&peers=many");
        let receiver = start(&["recv", "-n", "3", &listen]);
        let mut beside =
            Running::start(sinew(&["send", "--timeout", "30s", &address]).stdin(Stdio::piped()));
        let mut stdin = beside.child.stdin.take().unwrap();
        stdin.write_all(b"one\n").unwrap();
        let half = b"\0\0\0\x05he";
        process::until("nobody listens", || match scheme {
            "unix" => UnixStream::connect(place.path())
                .is_ok_and(|mut broken| broken.write_all(half).is_ok()),
            _ => TcpStream::connect(&address["tcp:".len()..])
                .is_ok_and(|mut broken| broken.write_all(half).is_ok()),
        });
        start(&["send", "--timeout", "30s", &address, "two"])
            .end()
            .done();
        stdin.write_all(b"three\n").unwrap();
        drop(stdin);
        beside.end().done();
        let ended = receiver.end();
        assert_eq!(ended.code, Some(0), "{scheme}: {}", ended.stderr);
        ended.says(&["sinew: recv(\"#", "within a message"]);
        assert_eq!(ended.stderr.matches('\n').count(), 1, "{}", ended.stderr);
        let printed = String::from_utf8(ended.stdout).unwrap();
        let payloads: Vec<_> = printed
            .lines()
            .map(|line| {
                assert!(line.starts_with('#'), "{line}");
                line.rsplit(": ").next().unwrap()
            })
            .collect();
        let payloads: BTreeSet<_> = payloads.into_iter().collect();
        assert_eq!(
            payloads,
            BTreeSet::from(["one", "two", "three"]),
            "{scheme}"
        );
    }
}

/// Nothing is left of a listener that a signal has ended, and its peers learn of it.
#[test]
fn a_signal_ends_it() {
    let place = Place::new();
    let address = address(&place, "unix");
    let receiver = start(&["recv", &format!("{address}?listen&peers=many")]);
    place.until_bound();
    let mut sender = Running::start(sinew(&["send", &address]).stdin(Stdio::piped()));
    let mut stdin = sender.child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    process::until("nothing is received", || process::written(&receiver) > 20);
    receiver.signal(Signal::TERM);
    let ended = receiver.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(143), ""));
    assert!(!place.path().exists());
    stdin.write_all(b"two\n").unwrap();
    drop(stdin);
    sender.end().failed(1, &["send"]);
}
