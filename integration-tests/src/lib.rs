//! What the integration tests share: a watchdog, a seed, counters of what a process holds, a second
//! process, and a peer that speaks the wire protocol by hand.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `SINEW_TEST_SCALE` | `ci` for the full counts, a number to divide them by; default 20 |
//! | `SINEW_SEED` | the seed of what is random; printed by a test that fails |
//! | `SINEW_SKIP_LOG` | a file to which tests that cannot run here append a line |
//! | `SINEW_PYTHON` | the Python of the tests, instead of the one that `ci/install.sh` prepares |

mod board;
mod foreign;
mod limited;
mod options;
mod payload;
mod peer;
mod place;
mod raw;
mod resources;
mod scale;
mod seed;
mod server;
mod skip;
mod sys;
mod threads;
mod watchdog;
mod wrong;

pub use board::Board;
pub use foreign::{compile_c, program, python};
pub use limited::{Limited, limited};
pub use options::{BELLS, WAITS, bell_name, one_way, options, parse_options, wait_name};
pub use payload::Payloads;
pub use peer::Peer;
pub use place::region_place;
pub use raw::{
    BELL, FRAME_DATA, FRAME_MEMORY, FRAME_SEGMENT, FRAME_SEGMENT_END, Hello, MEMORY, Offer, PACKET,
    RawEnd, RawMemory, SEGMENT, Wire, frozen, hollow, memfd,
};
pub use resources::Resources;
pub use scale::{is_full, scaled};
pub use seed::Random;
pub use server::{Honest, Server};
pub use skip::skip;
pub use sys::{Forked, SharedMap};
pub use threads::assert_no_thread;
pub use watchdog::Watchdog;
pub use wrong::{epoll_instance, eventfd, wrong_bells, wrong_memories, wrong_memory};
