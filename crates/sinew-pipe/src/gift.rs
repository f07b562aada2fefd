use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;

use sinew_core::{Error, ErrorKind};

use crate::Writer;
use crate::sys::Mapping;

/// Pages of memory that can be put into a pipe without being copied.
///
/// It is a slice of bytes, zeroed at first. When they are written, [`into_gift`](Self::into_gift) makes
/// them immutable, so that what the reader gets is what was given.
///
/// # Examples
///
/// ```
/// use sinew_pipe::{Options, Pages};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut writer, mut reader) = Options::new().byte_pair()?;
/// let mut pages = Pages::new(10_000)?;
/// pages.fill(7);
/// let mut gift = pages.into_gift();
/// gift.send(&mut writer).await?;
/// drop(gift); // The pipe keeps the pages for as long as it needs them.
/// let mut received = vec![0; 10_000];
/// reader.read_exact(&mut received).await?;
/// assert!(received.iter().all(|byte| *byte == 7));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pages {
    mapping: Mapping,
}

impl Pages {
    /// Zeroed memory of `len` bytes, on pages of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and of kind [`InvalidInput`](ErrorKind::InvalidInput) for no bytes at all.
    pub fn new(len: usize) -> Result<Self, Error> {
        if len == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "mmap")
                .with_reason("there are no pages of 0 bytes")
                .with_remedy("ask for at least one"));
        }
        Mapping::new(len)
            .map(|mapping| Self { mapping })
            .map_err(|error| Error::from_io("mmap", error).with_detail(format!("length={len}")))
    }

    /// Makes them immutable, to be sent.
    pub fn into_gift(self) -> Gift {
        Gift {
            mapping: self.mapping,
            sent: 0,
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.mapping.as_slice()
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.mapping.as_mut_slice()
    }
}

/// Immutable [`Pages`] on their way into a pipe, by vmsplice(2).
#[derive(Debug)]
pub struct Gift {
    mapping: Mapping,
    sent: usize,
}

impl Gift {
    /// Bytes that are in the pipe so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Puts what is left into a pipe, waiting for room.
    ///
    /// # Errors
    ///
    /// `EPIPE` where nobody reads any more; of kind [`InvalidInput`](ErrorKind::InvalidInput) for what is
    /// no pipe.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: [`sent`](Self::sent) tells how much is in the pipe, and a further call goes on there.
    pub async fn send(&mut self, writer: &mut Writer) -> Result<(), Error> {
        let Some(pipe) = writer.polled() else {
            return Err(Error::new(ErrorKind::InvalidInput, "vmsplice")
                .with_reason("it is a file, or closed")
                .with_remedy("give the pages to a pipe"));
        };
        let len = self.mapping.as_slice().len();
        while self.sent < len {
            let count = pipe
                .write_with(
                    |pipe| match self.mapping.vmsplice(pipe.as_fd(), self.sent, len) {
                        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                        done => done,
                    },
                )
                .await
                .map_err(|error| Error::from_io("vmsplice", error))?;
            self.sent += count;
        }
        Ok(())
    }
}

impl Deref for Gift {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.mapping.as_slice()
    }
}
