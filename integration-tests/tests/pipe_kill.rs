//! Writers that are killed in the middle of a message.

use std::process::{Child, Command};

use sinew_integration_tests::{Random, Watchdog, python, scaled};
use sinew_pipe::{Framing, Options, fifo};

/// Writes frames of which each byte is the number of the frame, as fast as it can.
const FLOOD: &str = "
import os, struct
out = 1
n = 0
while True:
    size = (n * 7919) % 200000
    left = memoryview(struct.pack('>I', size) + bytes([n % 256]) * size)
    while left:
        left = left[os.write(out, left):]
    n += 1
";

/// Writes five frames and a part of the sixth.
const CUT: &str = "
import os, signal, struct, sys
out = open(sys.argv[1], 'wb', buffering=0)
for n in range(6):
    size = n * 7919
    out.write(struct.pack('>I', size) + bytes(size if n < 5 else 1000))
print('cut', flush=True)
signal.pause()
";

/// Killed and reaped at the latest on drop.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        let _ended_before = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn a_frame_comes_whole_or_as_a_crash() {
    let _watchdog = Watchdog::new("a_frame_comes_whole_or_as_a_crash");
    let Some(python) = python("a_frame_comes_whole_or_as_a_crash", &[]) else {
        return;
    };
    let mut random = Random::from_env("a_frame_comes_whole_or_as_a_crash");
    let mut crashes = 0;
    let rounds = scaled(200);
    for round in 0..rounds {
        let (mut receiver, theirs) = Options::new().framing(Framing::Length).receiver().unwrap();
        let mut command = Command::new(&python);
        command.args(["-c", FLOOD]).stdout(theirs);
        let mut child = Killed(command.spawn().unwrap());
        drop(command);
        let last = random.below(40);
        let mut number = 0_u64;
        let ended = loop {
            if number == last {
                child.kill();
            }
            match receiver.recv().await {
                Ok(Some(frame)) => {
                    let size = usize::try_from((number * 7919) % 200_000).unwrap();
                    assert_eq!(frame.len(), size);
                    let byte = number.to_le_bytes()[0];
                    assert!(frame.iter().all(|other| *other == byte));
                    number += 1;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert!(number >= last);
        if let Some(error) = ended {
            assert!(error.is_peer_crashed(), "round {round}: {error}");
            assert!(error.to_string().contains("bytes came"), "{error}");
            crashes += 1;
        }
    }
    assert!(crashes > 0, "never in the middle, of {rounds}");
}

#[tokio::test]
async fn a_fifo_goes_on_with_the_next_writer() {
    let _watchdog = Watchdog::new("a_fifo_goes_on_with_the_next_writer");
    let Some(python) = python("a_fifo_goes_on_with_the_next_writer", &[]) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let options = fifo::Options::new()
        .create(true)
        .framing(Framing::Length)
        .eof(fifo::Eof::Reopen);
    let start = || {
        // Says on its standard output when it has written a part of the last frame.
        let (said, theirs) = Options::new().receiver().unwrap();
        let mut command = Command::new(&python);
        command.args(["-c", CUT]).arg(&path).stdout(theirs);
        (Killed(command.spawn().unwrap()), said)
    };
    fifo::create(&path, 0o600).unwrap();
    let (mut child, mut said) = start();
    let mut receiver = options.receiver(&path).await.unwrap();
    for _ in 0..scaled(100).max(5) {
        for number in 0..5 {
            let frame = receiver.recv().await.unwrap().unwrap();
            assert_eq!(
                frame.len(),
                number * 7919,
                "it begins anew with each writer"
            );
        }
        assert_eq!(said.recv().await.unwrap().unwrap(), "cut");
        child.kill();
        let error = receiver.recv().await.unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(error.lost(), Some(1));
        assert!(error.to_string().contains("1000 of 39595 bytes"), "{error}");
        (child, said) = start();
    }
}
