//! Messages on a stream of bytes: how pipes and stream sockets keep the boundaries.

mod codec;
mod encoder;
mod reader;
mod stage;
mod writer;

use std::any::Any;
use std::str::FromStr;
use std::{error, fmt, io};

pub use codec::FrameCodec;
pub use encoder::{BorrowedFrame, FrameEncoder, TokioCodec};
pub use reader::FrameReader;
pub use stage::Stage;
pub use writer::FrameWriter;

use crate::{Error, ErrorKind};

/// How the boundaries of messages are kept on a stream of bytes.
///
/// Addresses name it by the words `lines`, `length` and `none`, with `framing=`.
///
/// # Examples
///
/// ```
/// use sinew_core::Framing;
///
/// assert_eq!("length".parse::<Framing>()?, Framing::Length);
/// assert_eq!(Framing::Lines.to_string(), "lines");
/// # Ok::<(), sinew_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// A message is a line: it ends with a `\n`, which is not part of it, and holds none. A `\r` is
    /// kept. What follows the last `\n` is a message too, so `printf 'a\nb'` makes two.
    ///
    /// The end of the stream says nothing about whether the last line is whole; where that matters, use
    /// `Length`.
    Lines,
    /// A message is its length as four bytes, big-endian, and its bytes, of any value. It is what
    /// [`LengthDelimitedCodec`](tokio_util::codec::LengthDelimitedCodec) makes by default. A stream that
    /// ends within a message is an error.
    Length,
    /// Nothing is added, for programs that know nothing of messages. What is sent is written as it
    /// is. What is received is whatever a read returned, at most the longest message: its
    /// boundaries mean nothing, and none is empty.
    Unframed,
}

impl Framing {
    /// The word for it in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Length => "length",
            Self::Unframed => "none",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Framing {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "lines" => Ok(Self::Lines),
            "length" => Ok(Self::Length),
            "none" => Ok(Self::Unframed),
            _ => Err(Error::new(ErrorKind::InvalidInput, "parse")
                .with_address(word)
                .with_reason("there is no such framing")
                .with_remedy("it can be lines, length, none")),
        }
    }
}

/// The error of any codec, which is an [`Error`] or an [`io::Error`] already or becomes one of kind
/// [`ErrorKind::Protocol`].
fn codec_error<E>(operation: &'static str, error: E) -> Error
where
    E: error::Error + Send + Sync + 'static,
{
    let mut error = Some(error);
    let any: &mut dyn Any = &mut error;
    if let Some(error) = any.downcast_mut::<Option<Error>>().and_then(Option::take) {
        return error;
    }
    if let Some(error) = any
        .downcast_mut::<Option<io::Error>>()
        .and_then(Option::take)
    {
        return Error::from_io(operation, error);
    }
    let made = Error::new(ErrorKind::Protocol, operation);
    match error {
        Some(error) => made.with_reason(error.to_string()).with_source(error),
        None => made,
    }
}
