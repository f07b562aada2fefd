//! `sinew bridge`, between any two mechanisms.

mod process;

use process::{Place, start, start_with, until};
use rustix::process::Signal;

/// Lines from a pipe, through a bridge, into a channel.
#[test]
fn from_a_program_into_a_channel() {
    let place = Place::new();
    let receiver = start(&["recv", &place.address()]);
    place.until_bound();
    let bridge = start(&["bridge", "exec:seq 100000", &place.address()]).end();
    bridge.done();
    let received = receiver.end();
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(received.done() == expected.as_bytes());
}

/// Both directions: a client of the channel talks to a program behind the bridge.
#[test]
fn answers_come_back() {
    let place = Place::new();
    let answers = place.file("answers");
    let bridge = start(&["bridge", &place.address(), "exec:sed -u y/onetw/ONETW/"]);
    place.until_bound();
    let client = format!(
        "exec:sh -c 'echo one; echo two; head -n 2 > {}'",
        answers.display()
    );
    start(&["bridge", &client, &place.address()]).end().done();
    bridge.end().done();
    until("no answers", || {
        std::fs::read(&answers).is_ok_and(|found| found == b"ONE\nTWO\n")
    });
}

/// Priorities cannot cross into a FIFO: they are taken off, and that is said.
#[test]
fn what_cannot_cross_is_said() {
    let place = Place::new();
    let fifo = format!("fifo:{}?create", place.file("f").display());
    let queue = format!("/sinew-bridge-{}", std::process::id());
    let address = format!("mq:{queue}?create&prio=7");
    start(&["send", &address, "one", "two"]).end().done();
    let reader = start(&["recv", "-n", "2", &fifo]);
    until("no fifo", || place.file("f").exists());
    let bridge = start(&["bridge", &format!("mq:{queue}?unlink"), &fifo]);
    assert_eq!(reader.end().done(), b"one\ntwo\n");
    // A queue does not end.
    bridge.signal(Signal::INT);
    let ended = bridge.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("2 without their priority"),
        "{}",
        ended.stderr
    );
    let gone = start(&["recv", &format!("mq:{queue}")]);
    gone.end().failed(1, &["ENOENT"]);
}

/// A message that cannot cross at all is an error with a remedy, and the receiver does not take it for the end.
#[test]
fn what_cannot_be_sent_is_an_error() {
    let place = Place::new();
    let sender = start_with(
        &["send", "--raw", &place.address()],
        "two\nlines in a message",
    );
    let bridge = start(&["bridge", &place.address(), "exec:cat"]).end();
    bridge.failed(1, &["newline", "framing=length"]);
    drop(sender);
}
