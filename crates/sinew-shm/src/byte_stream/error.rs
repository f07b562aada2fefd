use std::error::Error;
use std::fmt;

use super::{ByteStream, OwnedReadHalf, OwnedWriteHalf};

/// Two halves that are not of the same stream, handed back by [`OwnedReadHalf::reunite`] and
/// [`OwnedWriteHalf::reunite`].
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same byte stream")
    }
}

impl Error for ReuniteError {}

/// A stream of which a message was read in part, handed back by [`ByteStream::into_channel`].
#[derive(Debug)]
pub struct IntoChannelError(pub ByteStream);

impl fmt::Display for IntoChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a message was read in part; read the rest of it before the stream becomes a channel",
        )
    }
}

impl Error for IntoChannelError {}
