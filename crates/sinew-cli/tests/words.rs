//! What the program says: whether it sends its user the right way.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

fn sinew() -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_sinew")]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn addresses_that_are_no_utf8() {
    let address = OsStr::from_bytes(b"unix:/tmp/\xff");
    let output = sinew().arg("recv").arg(address).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("%FF"), "{}", said(&output));
}

#[test]
fn a_percent_sign_in_a_command() {
    let output = sinew()
        .args(["recv", "exec:printf %02d 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("%2502"), "{}", said(&output));
    let output = sinew()
        .args(["recv", "exec:printf %2502d 7"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"07\n");
}

#[test]
fn the_port_that_was_chosen() {
    for (scheme, ends) in [("tcp", true), ("udp", false)] {
        let mut receiver = sinew()
            .args(["recv", "-n", "1", &format!("{scheme}:127.0.0.1:0")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(receiver.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap();
        let sent = sinew().args(["send", address, "hello"]).status().unwrap();
        assert!(sent.success() || !ends, "{line}");
        let output = receiver.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"hello\n", "{line}");
    }
}

/// A file without a name gets one by way of /proc, and so a FIFO is opened.
#[test]
fn without_proc() {
    let directory = tempfile::tempdir().unwrap();
    let script = "umount -l /proc || exit 77; for address in \
        sem:/sinew-proc-$$?create\\&unlink futex:$D/w?create fifo:$D/f fifo:$D/g?create; do \
        timeout 10 $S send $address 1; done";
    let made = Command::new("mkfifo")
        .arg(directory.path().join("f"))
        .status();
    assert!(made.unwrap().success());
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .env("S", env!("CARGO_BIN_EXE_sinew"))
        .env("D", directory.path())
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) && !said(&output).contains("unshare:") => {
            output
        }
        _ => {
            writeln!(
                std::io::stdout(),
                "skipped: there is no unshare(1) with its permissions"
            )
            .unwrap();
            return;
        }
    };
    let lines = said(&output);
    assert_eq!(lines.lines().count(), 4, "{lines}");
    for line in lines.lines() {
        assert!(line.contains("/proc is not mounted"), "{lines}");
    }
}
