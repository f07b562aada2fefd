//! Standard input, read by a thread of its own.
//!
//! The thread is at most two blocks ahead: when the channel is full, reading stops.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use sinew::{Error, ErrorKind};
use sinew_core::thread;
use tokio::sync::mpsc;

use crate::blocking::Blocking;
use crate::failure::Failure;

/// Bytes read at a time, but for `--raw`.
const BLOCK: usize = 64 << 10;
const BLOCKS_AHEAD: usize = 2;
/// The longest line. It has to be held in memory as a whole.
const LONGEST: usize = 1 << 30;

type Blocks = mpsc::Sender<Result<Bytes, Failure>>;

/// What comes from standard input, in blocks.
#[derive(Debug)]
pub(crate) struct Input {
    blocks: mpsc::Receiver<Result<Bytes, Failure>>,
}

impl Input {
    /// Blocks of whole lines: see [`lines`].
    pub(crate) fn of_lines() -> Result<Self, Failure> {
        Self::start(read_lines)
    }

    /// Blocks of `size` bytes, of which the last may be shorter.
    pub(crate) fn of_chunks(size: usize) -> Result<Self, Failure> {
        Self::start(move |blocks| read_chunks(blocks, size))
    }

    fn start(
        read: impl FnOnce(&Blocks) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        // It may sit in its system call for as long as it likes, also when the program ends.
        thread::start("sinew-input", move || {
            if let Err(failure) = read(&sender) {
                let _nobody_to_tell = sender.blocking_send(Err(failure));
            }
        })?;
        Ok(Self { blocks })
    }

    /// The next block; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.blocks.recv().await.transpose()
    }
}

/// The lines of a block, without their newlines.
pub(crate) fn lines(mut block: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        if block.is_empty() {
            return None;
        }
        match block.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let line = block.split_to(at);
                block.advance(1);
                Some(line)
            }
            None => Some(std::mem::take(&mut block)),
        }
    })
}

fn failed(error: io::Error) -> Failure {
    Failure::Error(Error::from_io("read", error).with_address("standard input"))
}

fn read_lines(blocks: &Blocks) -> Result<(), Failure> {
    let mut stdin = Blocking(io::stdin().lock());
    let mut buffer = BytesMut::new();
    loop {
        let begun = buffer.len();
        if begun > LONGEST {
            return Err(Error::new(ErrorKind::LimitExceeded, "read")
                .with_address("standard input")
                .with_reason(format!("a line of more than {LONGEST} bytes"))
                .with_remedy("use --raw for what has no lines")
                .into());
        }
        buffer.resize(begun + BLOCK, 0);
        let count = loop {
            match stdin.read(&mut buffer[begun..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(failed)?,
            }
        };
        let ended = count == 0;
        buffer.truncate(begun + count);
        let whole = if ended {
            buffer.len()
        } else {
            let newline = buffer[begun..].iter().rposition(|byte| *byte == b'\n');
            newline.map_or(0, |at| begun + at + 1)
        };
        if whole > 0
            && blocks
                .blocking_send(Ok(buffer.split_to(whole).freeze()))
                .is_err()
        {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
    }
}

fn read_chunks(blocks: &Blocks, size: usize) -> Result<(), Failure> {
    let mut stdin = Blocking(io::stdin().lock());
    loop {
        let mut chunk = Vec::with_capacity(size.min(1 << 20));
        let count = stdin
            .by_ref()
            .take(size as u64)
            .read_to_end(&mut chunk)
            .map_err(failed)?;
        if count == 0 || blocks.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_block() {
        let of =
            |text: &'static str| lines(Bytes::from_static(text.as_bytes())).collect::<Vec<_>>();
        assert_eq!(of("one\ntwo\n"), ["one", "two"]);
        assert_eq!(of("one\ntwo"), ["one", "two"]);
        assert_eq!(of("\n\n"), ["", ""]);
        assert_eq!(of("a\r\n"), ["a\r"]);
        assert!(of("").is_empty());
    }
}
