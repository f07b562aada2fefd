//! Signals that the program gets, and those that were ignored when it began.
#![allow(clippy::unwrap_used, clippy::panic)]

mod process;

use std::fs::{File, read_to_string};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use process::{Place, Running, sinew, start};
use rustix::process::{Pid, Signal, test_kill_process};

/// Starts the program as a shell does that ignores a signal.
fn ignoring(signal: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh"]);
    command.arg(env!("CARGO_BIN_EXE_sinew")).args(arguments);
    Running::start(command.stdin(Stdio::null()).env_remove("RUST_LOG"))
}

#[test]
fn what_was_ignored_stays_ignored() {
    for (name, signal) in [
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("TERM", Signal::TERM),
    ] {
        let place = Place::new();
        let receiver = ignoring(name, &["recv", &place.address()]);
        place.until_bound();
        receiver.signal(signal);
        std::thread::sleep(Duration::from_millis(20));
        start(&["send", &place.address(), "x"]).end().done();
        assert_eq!(receiver.end().done(), b"x\n", "{name}");
    }
}

/// The end of a terminal's session ends the program as Ctrl-C does.
#[test]
fn a_hangup_leaves_nothing_behind() {
    for address in ["shm:", "unix:"] {
        let place = Place::new();
        let address = format!("{address}{}", place.path().display());
        let receiver = start(&["recv", &address]);
        place.until_bound();
        receiver.signal(Signal::HUP);
        let ended = receiver.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(129), ""));
        assert!(!place.path().exists());
    }
    let place = Place::new();
    let ring = place.file("ring");
    let address = format!("mmap:{}?create&unlink", ring.display());
    let sender = Running::start(sinew(&["send", &address]).stdin(Stdio::piped()));
    process::until("it is not made", || ring.exists());
    sender.signal(Signal::HUP);
    assert_eq!(sender.end().code, Some(129));
    assert!(!ring.exists());
}

/// Whether a process is there, and no zombie.
fn is_alive(pid: i32) -> bool {
    let status = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !status.contains(") Z ")
}

/// The program of `exec:` ends with everything that it has started.
#[test]
fn the_children_of_a_program_end_with_it() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        for direction in ["recv", "send"] {
            let program = "exec:sh -c 'sleep 1000 & echo $! >&2; cat; wait'";
            let mut child = sinew(&[direction, program])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let pid = number_on(child.stderr.take().unwrap());
            let running = Running::of(child);
            assert!(is_alive(pid), "{direction}");
            running.signal(signal);
            assert_eq!(running.end().code, Some(code), "{direction}");
            process::until("a child of the program is left", || !is_alive(pid));
        }
    }
}

fn number_on(output: impl Read) -> i32 {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

/// Beyond the limit of file sizes, whatever grows a file fails. The default action of SIGXFSZ would
/// end the program without a word.
#[test]
fn a_file_that_grows_beyond_its_limit() {
    let place = Place::new();
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 8; exec \"$@\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_sinew")).args(arguments);
        let out = File::create(place.file("out")).unwrap();
        command.stdin(Stdio::null()).stdout(out);
        Running::of(command.stderr(Stdio::piped()).spawn().unwrap())
    };
    let receiver = limited(&["recv", "--raw", "exec:head -c 1000000 /dev/zero"]);
    let said = ["write(\"standard output\")", "EFBIG", "ulimit -f"];
    receiver.end().failed(1, &said);

    // The memory of a channel is a file, too.
    let receiver = limited(&["recv", &place.address()]);
    let sender = start(&["send", &place.address(), "x"]);
    receiver.end().failed(1, &["EFBIG", "ulimit -f"]);
    sender.end().failed(1, &["the listener has no memory"]);
    let address = format!("mmap:{}?create", place.file("ring").display());
    let receiver = limited(&["recv", &address]);
    receiver.end().failed(1, &["EFBIG", "ulimit -f"]);
}
