//! Queues, which keep messages while nobody is there.
#![allow(clippy::unwrap_used)]

mod process;

use std::process::Stdio;

use process::{sinew, start, start_with};

/// The address of a queue that nobody else has, and that goes with the test.
struct Place {
    address: String,
    remove: &'static str,
}

impl Place {
    fn mq(test: u32) -> Self {
        Self {
            address: format!("mq:/sinew-cli-{}-{test}", std::process::id()),
            remove: "unlink",
        }
    }

    fn sysvmq(test: u32) -> Self {
        let key = 0x6000_0000 | std::process::id() << 4 & 0x0fff_fff0 | test;
        Self {
            address: format!("sysvmq:{key:#x}"),
            remove: "remove",
        }
    }

    fn with(&self, parameters: &str) -> String {
        format!("{}?{parameters}", self.address)
    }

    fn removing(&self) -> String {
        self.with(self.remove)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It makes the queue where there is none, sends nothing, and removes it.
        let mut removes = sinew(&["send", &format!("{}&create", self.removing())]);
        removes.stdin(Stdio::null());
        let _removed_before = removes.stderr(Stdio::null()).status();
    }
}

#[test]
fn sent_now_and_received_later() {
    for place in [Place::mq(1), Place::sysvmq(1)] {
        start(&["send", &place.with("create"), "hello", "there"])
            .end()
            .done();
        let first = start(&["recv", "-n1", &place.address]);
        assert_eq!(first.end().done(), b"hello\n");
        let last = start(&["recv", "-n1", &place.removing()]);
        assert_eq!(last.end().done(), b"there\n");
        let none = start(&["recv", &place.address]);
        none.end().failed(1, &["ENOENT", "create"]);
    }
}

/// More than a queue holds: the sender waits, the receiver loses nothing.
#[test]
fn more_than_there_is_room_for() {
    let lines: Vec<u8> = (0..5000)
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect();
    for place in [Place::mq(2), Place::sysvmq(2)] {
        let receiver = start(&["recv", "-n5000", &place.with("create")]);
        let sender = start_with(&["send", &place.with("create")], lines.clone());
        sender.end().done();
        assert_eq!(receiver.end().done(), lines);
    }
}

/// A SysV queue that is removed is a clean end.
#[test]
fn a_removed_queue_ends_its_receiver() {
    let place = Place::sysvmq(3);
    start(&["send", &place.with("create"), "hello"])
        .end()
        .done();
    let receiver = start(&["recv", &place.address]);
    process::until("it prints nothing", || process::written(&receiver) >= 6);
    start(&["send", &place.removing()]).end().done();
    assert_eq!(receiver.end().done(), b"hello\n");
}
