//! The suite `carriers`: each mechanism that carries messages, through Sinew and by hand. `sinew` looks for a moment before
//! it waits, as it does by default; `sinew-park` waits at once, as the loop by hand.
//!
//! By hand is a loop of raw system calls: the call is tried, and where it would block the process waits with
//! epoll and tries again. On a stream a message has its length before it, as with Sinew: it is written with
//! one call, without a copy, and what reads takes as much as there is, and takes it apart. SysV queues
//! cannot be polled; by hand their calls block.

mod meeting;
mod raw;
mod sinew;

use crate::case::{Case, Comparison, Kind, Size, Suite, Wait};
use crate::payload::Stamp;
use crate::session::Session;

pub(crate) const SUITE: Suite = Suite {
    name: "carriers",
    cases,
    limit: |case| Some(case.name()),
    comparisons: &COMPARISONS,
};

const COMPARISONS: [Comparison; 0] = [];

/// The mechanisms, as the last part of a case's name.
const CARRIERS: [&str; 10] = [
    "pipe",
    "pipe-packet",
    "fifo",
    "mq",
    "sysvmq",
    "unix",
    "unix-dgram",
    "unix-seqpacket",
    "tcp",
    "udp",
];

/// Of UDP, which drops what nobody has room for, how many messages are on their way at most: after as many
/// the receiver says that they have arrived.
fn window(session: &Session) -> u64 {
    match session.how() {
        "udp" => 16,
        _ => u64::MAX,
    }
}

/// What the receiver says.
fn arrived(count: u64) -> Stamp {
    Stamp::new(count, false, false)
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Kind::RoundTrip, Kind::Throughput] {
        for size in [Size::SMALL, Size::PAGE] {
            for how in CARRIERS {
                let make = |subject, ask, answer, collect, send| match kind {
                    Kind::RoundTrip => {
                        Case::round_trip(subject, size, how, Wait::Park, ask, answer)
                    }
                    Kind::Throughput => {
                        Case::throughput(subject, size, how, Wait::Park, collect, send)
                    }
                };
                let limit = crate::limit::SUBJECT;
                cases.push(make(limit, raw::ask, raw::answer, raw::collect, raw::send));
                for subject in sinew::SUBJECTS {
                    cases.push(make(
                        subject,
                        sinew::ask,
                        sinew::answer,
                        sinew::collect,
                        sinew::send,
                    ));
                }
            }
        }
    }
    cases
}
