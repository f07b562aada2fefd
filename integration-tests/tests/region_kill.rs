//! Channels in named memory whose ends are killed, and come back.

use std::time::{Duration, Instant};

use sinew_integration_tests::{Board, Peer, Random, Watchdog, region_place, scaled};
use sinew_memory::{PosixShm, SysvShm};
use sinew_shm::named::Options;

const PEER: &str = env!("CARGO_BIN_EXE_region_peer");

/// A place of each kind that nobody else has, and that goes with the test.
struct Places {
    name: String,
    key: i32,
    directory: tempfile::TempDir,
}

impl Places {
    fn new(number: u32) -> Self {
        let id = std::process::id();
        Self {
            name: format!("/sinew-kill-{id}-{number}"),
            key: (0x5500_0000 | id << 3 & 0x00ff_fff8 | number).cast_signed(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn all(&self) -> [String; 3] {
        let file = self.directory.path().join("ring");
        [
            format!("posix:{}", self.name),
            format!("sysv:{}", self.key),
            format!("file:{}", file.display()),
        ]
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let _unlinked_before = PosixShm::unlink(&self.name);
        let _removed_before = SysvShm::remove(self.key);
    }
}

fn kills(number: u32, kind: &str, wait: &str, count: u64) {
    let places = Places::new(number);
    let random = &mut Random::from_env(kind);
    for place in places.all() {
        let board = Board::open(&places.directory.path().join("board"));
        board.reset();
        let seed = random.below(1 << 32).to_string();
        let start = |what: &str| Peer::start(PEER, &[what, &place, wait, board.path(), &seed]);
        let (mut sender, mut receiver) = (start("send"), start(kind));
        for round in 0..count {
            std::thread::sleep(Duration::from_micros(random.below(4000)));
            let victims = random.below(4);
            if victims != 0 {
                sender.kill();
            }
            if victims != 1 {
                receiver.kill();
            }
            if victims != 0 {
                sender.wait();
                sender = start("send");
            }
            if victims != 1 {
                receiver.wait();
                receiver = start(kind);
            }
            // It goes on: no end is stuck.
            let before = board.done();
            let begun = Instant::now();
            while board.done() == before {
                assert_eq!(board.wrongs(), 0, "{place}");
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "{place} is stuck after {round} rounds, at {before}"
                );
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        // It ends; at times by the hand of a sender that comes after a dead one, and has nothing to send.
        let sends = random.below(2) == 0;
        if sends {
            board.begin(1);
        } else {
            sender.kill();
            sender.wait();
            board.begin(1);
            sender = start("send");
        }
        assert!(sender.wait().success(), "{place}");
        assert!(receiver.wait().success(), "{place}");
        assert_eq!(board.wrongs(), 0, "{place}");

        // All that was published was received, and nothing is left.
        let options = Options::new();
        let sender = options.blocking_open_sender(region_place(&place)).unwrap();
        let receiver = options
            .blocking_open_receiver(region_place(&place))
            .unwrap();
        assert_eq!(sender.published(), receiver.consumed(), "{place}");
        assert_eq!(board.done(), receiver.consumed(), "{place}");
    }
}

/// What is committed after it was handled is handled once, or shown again to be recognised by its number.
#[test]
fn nothing_is_lost_or_taken_twice_with_peek() {
    let _watchdog = Watchdog::new("region_kill::peek");
    kills(0, "peek", "adaptive", scaled(340));
}

/// What is received is received once, and one message at most goes with each receiver that is killed.
#[test]
fn nothing_is_taken_twice_with_recv() {
    let _watchdog = Watchdog::new("region_kill::recv");
    kills(1, "recv", "park", scaled(340));
}
