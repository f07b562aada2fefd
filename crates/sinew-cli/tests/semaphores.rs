//! Semaphores, of which a message is a unit, and words, of which it is a value.
#![allow(clippy::unwrap_used)]

mod process;

use std::process::Stdio;

use process::{sinew, start};

/// An address that nobody else has; what it names goes with the test.
struct Place {
    address: String,
    remove: &'static str,
}

impl Place {
    fn with(&self, parameters: &str) -> String {
        format!("{}?{parameters}", self.address)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It makes it where there is none, sends nothing, and removes it.
        let address = self.with(&format!("create&{}", self.remove));
        let mut removes = sinew(&["send", &address]);
        removes.stdin(Stdio::null());
        let _removed_before = removes.stderr(Stdio::null()).status();
    }
}

#[test]
fn a_unit_for_each_message() {
    let pid = std::process::id();
    let key = 0x7800_0000 | pid << 4 & 0x00ff_fff0;
    let places = [
        Place {
            address: format!("sem:/sinew-cli-{pid}"),
            remove: "unlink",
        },
        Place {
            address: format!("sysvsem:{key:#x}/0"),
            remove: "remove",
        },
    ];
    for place in places {
        start(&["send", &place.with("create"), "x"]).end().done();
        start(&["send", &place.address, "y", "z"]).end().done();
        let all = start(&["recv", "-n3", &place.address]);
        assert_eq!(all.end().done(), b"\n\n\n");
        // Nothing is left: it waits until there is one.
        let waits = start(&["recv", "-n1", &place.address]);
        start(&["send", &place.address, ""]).end().done();
        assert_eq!(waits.end().done(), b"\n");
    }
}

#[test]
fn values_of_a_word() {
    let path = format!("/dev/shm/sinew-cli-word-{}", std::process::id());
    let address = format!("futex:{path}?create");
    start(&["send", &address, "7"]).end().done();
    assert_eq!(std::fs::read(&path).unwrap()[..4], 7_u32.to_ne_bytes());
    start(&["send", &address, "seven"])
        .end()
        .failed(1, &["seven", "in decimal"]);
    std::fs::remove_file(path).unwrap();
}
