//! Programs, descriptors and FIFOs, as a shell user has them.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Runs a script, in which `$S` is the program and `$D` a directory. Gives what it prints and its status.
fn shell(script: &str) -> (String, Option<i32>) {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", script])
        .env("S", env!("CARGO_BIN_EXE_sinew"))
        .env("D", directory.path())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (printed + &said, output.status.code())
}

#[test]
fn programs() {
    let (printed, code) = shell("printf 'b\\na\\nb\\n' | $S send 'exec:sort -u'");
    assert_eq!((printed.as_str(), code), ("a\nb\n", Some(0)));
    let (printed, code) = shell("$S recv 'exec:seq 3'");
    assert_eq!((printed.as_str(), code), ("1\n2\n3\n", Some(0)));
    let (printed, code) = shell("$S recv 'exec:sh -c \"echo a; exit 3\"'");
    assert!(
        printed.starts_with("a\n") && printed.contains("exit status: 3"),
        "{printed}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn descriptors() {
    for (script, expected) in [
        ("printf 'one\\ntwo' | $S recv fd:0", "one\ntwo\n"),
        ("echo text > $D/f; $S recv fd:0 < $D/f", "text\n"),
        ("echo text > $D/f; $S recv fd:7 7< $D/f", "text\n"),
        ("$S send fd:1 x y | cat", "x\ny\n"),
        ("$S send fd:1 x > $D/f; cat $D/f", "x\n"),
        ("$S send fd:5 x y 5>&1 | cat", "x\ny\n"),
        ("true | $S recv fd:0", ""),
        ("$S recv fd:0 < /dev/null", ""),
    ] {
        assert_eq!(shell(script), (expected.to_owned(), Some(0)), "{script}");
    }
    let (said, code) = shell("$S recv fd:9");
    assert!(said.contains("fd:9"), "{said}");
    assert_eq!(code, Some(1));
    let (said, code) = shell("$S recv fd:0 < /");
    assert!(said.contains("directory"), "{said}");
    assert_eq!(code, Some(1));
}

/// `--raw` is byte for byte to and from programs that know nothing of messages.
#[test]
fn raw_is_byte_for_byte() {
    let make = "head -c 300000 /dev/urandom > $D/f";
    for (script, expected) in [
        ("$S send --raw 'exec:cat' < $D/f | cmp - $D/f", ""),
        ("$S recv --raw \"exec:cat $D/f\" | cmp - $D/f", ""),
        ("cat $D/f | $S recv --raw fd:0 | cmp - $D/f", ""),
        ("$S send --raw fd:1 < $D/f | cmp - $D/f", ""),
        (
            "mkfifo $D/p; cat $D/f > $D/p & $S recv --raw fifo:$D/p | cmp - $D/f",
            "",
        ),
        (
            "mkfifo $D/p; $S send --raw fifo:$D/p < $D/f & cmp $D/p $D/f",
            "",
        ),
        // What the address says is kept.
        (
            "printf 'a\\nb\\n' | $S recv --raw 'fd:0?framing=lines'",
            "ab",
        ),
        ("printf '' | $S send --raw fd:1", ""),
    ] {
        let script = format!("{make}; {script}");
        assert_eq!(shell(&script), (expected.to_owned(), Some(0)), "{script}");
    }
}

#[test]
fn fifos() {
    let (printed, code) = shell("mkfifo $D/f; echo hello > $D/f & $S recv fifo:$D/f; wait");
    assert_eq!((printed.as_str(), code), ("hello\n", Some(0)));
    let (printed, code) = shell("mkfifo $D/f; cat $D/f & $S send fifo:$D/f a b; wait");
    assert_eq!((printed.as_str(), code), ("a\nb\n", Some(0)));
    let (printed, code) = shell(
        "seq 1000 | $S send \"fifo:$D/f?create&unlink\" & while ! [ -p $D/f ]; do sleep 0.05; done
         $S recv fifo:$D/f | tail -n 1; wait; ls $D",
    );
    assert_eq!((printed.as_str(), code), ("1000\n", Some(0)));
    let (said, code) = shell("mkfifo $D/f; $S recv --timeout 10ms fifo:$D/f");
    assert!(said.contains("nobody opened it for writing"), "{said}");
    assert_eq!(code, Some(1));
}

/// Standard streams that another process has put into non-blocking mode.
#[test]
fn non_blocking_standard_streams() {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    let nonblocking = |fd: std::os::fd::BorrowedFd<'_>| {
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    };
    let sinew = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command
            .args(["60", env!("CARGO_BIN_EXE_sinew")])
            .args(arguments);
        command
    };
    for flags in [&["send"][..], &["send", "--raw"]] {
        let (input, mut writer) = std::io::pipe().unwrap();
        nonblocking(input.as_fd());
        let sender = sinew(&[flags, &["exec:cat"]].concat())
            .stdin(input)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        writer.write_all(b"one\n").unwrap();
        // So that it finds nothing to read once.
        std::thread::sleep(std::time::Duration::from_millis(100));
        writer.write_all(b"two\n").unwrap();
        drop(writer);
        let output = sender.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"one\ntwo\n");
    }

    let (mut reader, output) = std::io::pipe().unwrap();
    nonblocking(output.as_fd());
    let mut receiver = sinew(&["recv", "exec:seq 100000"])
        .stdout(output)
        .spawn()
        .unwrap();
    // So that the pipe is full once.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert!(receiver.wait().unwrap().success());
    assert_eq!(printed.lines().count(), 100_000);
}
