//! The ways in which it ends.
#![allow(clippy::unwrap_used)]

mod process;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use process::{Place, Running, noise, sinew, start, start_with};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[test]
fn after_as_many_as_asked_for() {
    let place = Place::new();
    let receiver = start(&["recv", "-n", "3", &place.address()]);
    start(&["send", &place.address(), "1", "2", "3"])
        .end()
        .done();
    assert_eq!(receiver.end().done(), b"1\n2\n3\n");

    let receiver = start(&["recv", "-n", "2", &place.address()]);
    let lines = "line\n".repeat(1_000_000);
    let sender = start_with(&["send", &place.address()], lines).end();
    sender.failed(1, &["send", "the receiver was closed"]);
    assert_eq!(receiver.end().done(), b"line\nline\n");
}

#[test]
fn fewer_than_asked_for_are_no_failure() {
    let place = Place::new();
    let receiver = start(&["recv", "-n", "3", &place.address()]);
    start(&["send", &place.address(), "1"]).end().done();
    assert_eq!(receiver.end().done(), b"1\n");
}

#[test]
fn nobody_reads_any_more() {
    let place = Place::new();
    let receiver = sinew(&["recv", &place.address()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut receiver = Running::of(receiver);
    let stdout = receiver.child.stdout.take().unwrap();
    let lines = "line\n".repeat(1_000_000);
    let sender = start_with(&["send", &place.address()], lines);
    let mut line = String::new();
    BufReader::with_capacity(5, stdout)
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "line\n");
    receiver.end().done();
    sender.end().failed(1, &["the receiver was closed"]);
}

#[test]
fn nobody_reads_any_more_while_nothing_comes() {
    let place = Place::new();
    let receiver = sinew(&["recv", &place.address()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut receiver = Running::of(receiver);
    let stdout = receiver.child.stdout.take().unwrap();
    let mut sender = Running::start(sinew(&["send", &place.address()]).stdin(Stdio::piped()));
    let mut stdin = sender.child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    let mut line = String::new();
    // The line is there before the end of the input, and of the reader's.
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    receiver.end().done();
    drop(stdin);
    sender.end();
}

#[test]
fn output_that_fails() {
    let place = Place::new();
    let receiver = sinew(&["recv", &place.address()])
        .stdout(File::create("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let receiver = Running::of(receiver);
    let _either_way = start(&["send", &place.address(), "x"]).end();
    receiver
        .end()
        .failed(1, &["write(\"standard output\")", "ENOSPC"]);
}

#[test]
fn input_that_fails() {
    let place = Place::new();
    let receiver = start(&["recv", &place.address()]);
    let directory = File::open("/").unwrap();
    let sender = Running::start(sinew(&["send", &place.address()]).stdin(directory));
    sender
        .end()
        .failed(1, &["read(\"standard input\")", "EISDIR"]);
    // What was cut off does not look like what was sent to the end.
    receiver.end().failed(1, &["without closing"]);
}

/// On sockets, too: the receiver learns that it has not got all, and prints what it has got.
#[test]
fn input_that_fails_midway() {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let place = Place::new();
    for address in [
        format!("unix:{}", place.path().display()),
        format!("tcp:{}", free()),
        format!("tcp:{}?framing=lines", free()),
    ] {
        let receiver = start(&["recv", &address]);
        let mut sender = Running::start(sinew(&["send", &address]).stdin(Stdio::piped()));
        let mut stdin = sender.child.stdin.take().unwrap();
        stdin.write_all(b"one\ntwo\n").unwrap();
        process::until("the receiver does not write", || {
            process::written(&receiver) >= 8
        });
        // The receiver writes to a descriptor of its runtime, too: so give it the time to print.
        std::thread::sleep(Duration::from_millis(200));
        sender.signal(Signal::INT);
        assert_eq!(sender.end().code, Some(130));
        let printed = receiver.end().failed(1, &["recv"]);
        assert_eq!(printed, b"one\ntwo\n", "{address}");
    }
}

#[test]
fn a_killed_sender() {
    let place = Place::new();
    let receiver = start(&["recv", &place.address()]);
    let mut sender = Running::start(sinew(&["send", &place.address()]).stdin(Stdio::piped()));
    let mut stdin = sender.child.stdin.take().unwrap();
    for _ in 0..1000 {
        stdin.write_all(b"line\n").unwrap();
    }
    process::until("the receiver does not write", || {
        process::written(&receiver) >= 5000
    });
    sender.child.kill().unwrap();
    let printed = receiver.end().failed(1, &["recv", "ended without closing"]);
    assert_eq!(printed, "line\n".repeat(1000).as_bytes());
}

#[test]
fn a_killed_receiver() {
    let place = Place::new();
    let mut receiver = Running::start(&mut sinew(&["recv", "--raw", &place.address()]));
    let sender = start_with(&["send", "--raw", &place.address()], noise(256 << 20));
    process::until("the receiver does not write", || {
        process::written(&receiver) > 1 << 20
    });
    receiver.child.kill().unwrap();
    sender.end().failed(1, &["send", "ended without closing"]);
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let place = Place::new();
    let receiver = sinew(&["recv", "--raw", &place.address()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut receiver = Running::of(receiver);
    let mut stdout = receiver.child.stdout.take().unwrap();
    let input = noise(32 << 20);
    let sender = start_with(&["send", "--raw", &place.address()], input.clone());
    let resident = |running: &Running| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.map_or(0, |number| number.parse::<u64>().unwrap())
    };
    // Nobody reads: wherever it stops, everything in between is full.
    std::thread::sleep(Duration::from_millis(500));
    let (sending, receiving) = (resident(&sender), resident(&receiver));
    assert!(
        sending > 0 && sending < 24 << 10,
        "the sender has {sending} KiB"
    );
    assert!(
        receiving > 0 && receiving < 24 << 10,
        "the receiver has {receiving} KiB"
    );
    let mut output = Vec::new();
    stdout.read_to_end(&mut output).unwrap();
    process::same(&output, &input);
    sender.end().done();
    receiver.end().done();
}

#[test]
fn a_signal_while_it_listens() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = Place::new();
        let receiver = start(&["recv", &place.address()]);
        place.until_bound();
        receiver.signal(signal);
        let ended = receiver.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""));
        assert!(!place.path().exists());
    }
}

#[test]
fn a_signal_in_the_middle() {
    let place = Place::new();
    let mut receiver = Running::of(
        sinew(&["recv", &place.address()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(receiver.child.stdout.take().unwrap());
    let mut sender = Running::start(sinew(&["send", &place.address()]).stdin(Stdio::piped()));
    let mut stdin = sender.child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    sender.signal(Signal::INT);
    assert_eq!(sender.end().code, Some(130));
    receiver.end().failed(1, &["without closing"]);
}

#[test]
fn a_signal_while_nobody_reads() {
    let place = Place::new();
    let mut receiver = Running::of(
        sinew(&["recv", "--raw", &place.address()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let _unread = receiver.child.stdout.take().unwrap();
    let sender = start_with(&["send", "--raw", &place.address()], noise(8 << 20));
    // More than this a pipe does not take.
    process::until("the receiver does not write", || {
        process::written(&receiver) >= 60 << 10
    });
    receiver.signal(Signal::INT);
    assert_eq!(receiver.end().code, Some(130));
    sender.end().failed(1, &["the receiver was closed"]);
}

/// Sends for a while with a terminal as standard error; what is shown there.
fn on_a_terminal(arguments: &[&str], pauses: u32) -> String {
    let place = Place::new();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let terminal = openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let tty = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let receiver = start(&["recv", "-q", &place.address()]);
    let address = place.address();
    let mut command = sinew(&[&["send", &address], arguments].concat());
    let child = command.stdin(Stdio::piped()).stderr(tty).spawn().unwrap();
    // With the command goes the last copy of the terminal's other side but the child's.
    drop(command);
    let mut sender = Running::of(child);
    let mut stdin = sender.child.stdin.take().unwrap();
    for _ in 0..=pauses {
        stdin.write_all(b"a line of twenty-one.\n").unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(stdin);
    assert_eq!(sender.end().code, Some(0));
    receiver.end().done();
    let mut shown = Vec::new();
    // The end of a terminal is EIO.
    let _end = File::from(terminal).read_to_end(&mut shown);
    String::from_utf8(shown).unwrap()
}

#[test]
fn progress_of_what_takes_long() {
    let shown = on_a_terminal(&[], 20);
    assert!(shown.contains(" MB/s"), "{shown:?}");
    assert!(shown.ends_with('\n'), "{shown:?}");
    assert!(shown.contains("21 messages, "), "{shown:?}");
}

#[test]
fn no_progress_where_it_is_not_wanted() {
    assert_eq!(on_a_terminal(&["--quiet"], 20), "");
    assert_eq!(on_a_terminal(&[], 1), "");
}

/// What was lost is said, and what comes after it is printed all the same.
#[test]
fn a_loss_is_not_the_end() {
    let place = Place::new();
    let address = format!("unix-dgram:{}?max-message=8", place.path().display());
    let receiver = start(&["recv", "-n", "2", &address]);
    place.until_bound();
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for text in ["short", "much too long for it", "last"] {
        socket.send_to(text.as_bytes(), place.path()).unwrap();
    }
    let ended = receiver.end();
    assert_eq!(ended.stdout, b"short\nlast\n");
    let said = [
        "20 bytes",
        "a message was lost; everything else was received",
    ];
    for part in said {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    assert_eq!(ended.code, Some(1));
}

/// A sender that is interrupted removes what it was told to remove.
#[test]
fn nothing_is_left_of_an_interrupted_sender() {
    let id = std::process::id();
    let (queue, memory) = (
        format!("sinew-ends-{id}"),
        format!("/dev/shm/sinew-ends-{id}"),
    );
    let place = Place::new();
    let (ring, copy) = (place.file("ring"), place.file("copy"));
    let exists = |path: &str| std::path::Path::new(path).exists();
    for (address, there) in [
        (format!("mq:/{queue}?create&unlink"), ""),
        (
            format!("posixshm:/sinew-ends-{id}?create&unlink"),
            memory.as_str(),
        ),
        (
            format!("mmap:{}?create&unlink", ring.display()),
            ring.to_str().unwrap(),
        ),
    ] {
        let mut sender = Running::start(sinew(&["send", &address]).stdin(Stdio::piped()));
        let mut stdin = sender.child.stdin.take().unwrap();
        stdin.write_all(b"first\n").unwrap();
        match there {
            // Of which the file system may not be mounted.
            "" => process::until("it is not made", || {
                let look = start(&["send", &format!("mq:/{queue}"), "second"]).end();
                look.code == Some(0)
            }),
            path => process::until("it is not made", || exists(path)),
        }
        sender.signal(Signal::INT);
        assert_eq!(sender.end().code, Some(130));
        match there {
            "" => {
                let gone = start(&["recv", &format!("mq:/{queue}")]).end();
                gone.failed(1, &["ENOENT"]);
            }
            path => assert!(!exists(path), "{path}"),
        }
    }

    // And a program that was started is not told that this was all.
    let seen = place.file("seen");
    let (seen_path, copy_path) = (seen.display(), copy.display());
    let program = format!("exec:sh -c 'tee {seen_path}; touch {copy_path}'");
    let mut sender = Running::start(sinew(&["send", &program]).stdin(Stdio::piped()));
    let mut stdin = sender.child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    // It prints before it writes there.
    process::until("it does not get anything", || {
        std::fs::read(&seen).is_ok_and(|seen| seen == b"first\n")
    });
    sender.signal(Signal::INT);
    let ended = sender.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(130), &b"first\n"[..]));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!copy.exists());
}
