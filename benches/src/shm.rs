//! The suite `shm`: the shared-memory channel against its limits and its peers.
//!
//! The cases of one kind and size are neighbours, limits first, so that what is compared was
//! measured at nearly the same time.

use crate::case::{Case, Comparison, Kind, Size, Suite};
use crate::{iceoryx2, ipc_channel, limit, rtrb, sinew, sinew_loan, tokio_pipe, tokio_unix};

pub(crate) const SUITE: Suite = Suite {
    name: "shm",
    cases,
    limit: limit::of,
    comparisons: &COMPARISONS,
};

fn cases() -> Vec<Case> {
    let subjects = [
        limit::cases,
        sinew::cases,
        sinew_loan::cases,
        iceoryx2::cases,
        ipc_channel::cases,
        tokio_unix::cases,
        tokio_pipe::cases,
        rtrb::cases,
    ];
    let mut cases = Vec::new();
    for kind in [Kind::RoundTrip, Kind::Throughput] {
        for size in Size::ALL {
            cases.extend(subjects.iter().flat_map(|of| of(kind, size)));
        }
        // What is written and read in place.
        for size in [Size::MEDIUM, Size::HUGE] {
            cases.extend(sinew_loan::cases(kind, size));
            cases.extend(iceoryx2::cases(kind, size));
        }
    }
    cases
}

const fn compare(
    ours: (&'static str, &'static str),
    theirs: (&'static str, &'static str),
) -> Comparison {
    Comparison { ours, theirs }
}

/// A line is printed where the run has both of its cases.
const COMPARISONS: [Comparison; 34] = [
    compare(("sinew", "rtt/4KiB/loan"), ("iceoryx2", "rtt/4KiB/poll")),
    compare(("sinew", "rtt/64KiB/loan"), ("iceoryx2", "rtt/64KiB/poll")),
    compare(("sinew", "rtt/1MiB/loan"), ("iceoryx2", "rtt/1MiB/poll")),
    compare(("sinew", "rtt/16MiB/loan"), ("iceoryx2", "rtt/16MiB/poll")),
    compare(
        ("sinew", "throughput/4KiB/loan"),
        ("iceoryx2", "throughput/4KiB/poll"),
    ),
    compare(
        ("sinew", "throughput/64KiB/loan"),
        ("iceoryx2", "throughput/64KiB/poll"),
    ),
    compare(
        ("sinew", "throughput/1MiB/loan"),
        ("iceoryx2", "throughput/1MiB/poll"),
    ),
    compare(
        ("sinew", "throughput/16MiB/loan"),
        ("iceoryx2", "throughput/16MiB/poll"),
    ),
    compare(
        ("sinew", "rtt/4KiB/loan-spin"),
        ("iceoryx2", "rtt/4KiB/poll"),
    ),
    compare(
        ("sinew", "rtt/64KiB/loan-spin"),
        ("iceoryx2", "rtt/64KiB/poll"),
    ),
    compare(
        ("sinew", "rtt/1MiB/loan-spin"),
        ("iceoryx2", "rtt/1MiB/poll"),
    ),
    compare(
        ("sinew", "rtt/16MiB/loan-spin"),
        ("iceoryx2", "rtt/16MiB/poll"),
    ),
    compare(
        ("sinew", "throughput/4KiB/loan-spin"),
        ("iceoryx2", "throughput/4KiB/poll"),
    ),
    compare(
        ("sinew", "throughput/64KiB/loan-spin"),
        ("iceoryx2", "throughput/64KiB/poll"),
    ),
    compare(
        ("sinew", "throughput/1MiB/loan-spin"),
        ("iceoryx2", "throughput/1MiB/poll"),
    ),
    compare(
        ("sinew", "throughput/16MiB/loan-spin"),
        ("iceoryx2", "throughput/16MiB/poll"),
    ),
    compare(("sinew", "rtt/64/adaptive"), ("limit", "rtt/64/cache-line")),
    compare(
        ("sinew", "rtt/4KiB/adaptive"),
        ("limit", "rtt/4KiB/cache-line"),
    ),
    compare(("sinew", "rtt/64/adaptive"), ("iceoryx2", "rtt/64/poll")),
    compare(
        ("sinew", "rtt/4KiB/adaptive"),
        ("iceoryx2", "rtt/4KiB/poll"),
    ),
    compare(
        ("sinew", "rtt/1MiB/adaptive"),
        ("iceoryx2", "rtt/1MiB/poll"),
    ),
    compare(("sinew", "rtt/64/park"), ("limit", "rtt/64/eventfd-epoll")),
    compare(("sinew", "rtt/64/park"), ("iceoryx2", "rtt/64/event")),
    compare(
        ("sinew", "rtt/64/park"),
        ("tokio-unix", "rtt/64/current-thread"),
    ),
    compare(
        ("sinew", "throughput/64/adaptive"),
        ("iceoryx2", "throughput/64/poll"),
    ),
    compare(
        ("sinew", "throughput/4KiB/adaptive"),
        ("iceoryx2", "throughput/4KiB/poll"),
    ),
    compare(
        ("sinew", "throughput/1MiB/adaptive"),
        ("iceoryx2", "throughput/1MiB/poll"),
    ),
    compare(
        ("sinew", "throughput/64/adaptive"),
        ("tokio-unix", "throughput/64/current-thread"),
    ),
    compare(
        ("sinew", "throughput/4KiB/adaptive"),
        ("tokio-unix", "throughput/4KiB/current-thread"),
    ),
    compare(
        ("sinew", "throughput/1MiB/adaptive"),
        ("tokio-unix", "throughput/1MiB/current-thread"),
    ),
    compare(
        ("sinew", "throughput/64/adaptive"),
        ("rtrb", "throughput/64/threads"),
    ),
    compare(
        ("sinew", "throughput/64/adaptive"),
        ("rtrb", "throughput/64/threads-chunk"),
    ),
    compare(
        ("sinew", "throughput/4KiB/adaptive"),
        ("rtrb", "throughput/4KiB/threads"),
    ),
    compare(
        ("sinew", "throughput/1MiB/adaptive"),
        ("limit", "throughput/1MiB/memcpy"),
    ),
];
