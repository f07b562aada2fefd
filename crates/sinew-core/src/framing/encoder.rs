use std::error;
use std::io::IoSlice;

use tokio_util::codec::Encoder;

use super::{Stage, codec_error};
use crate::Error;

const LONGEST_HEADER: usize = 16;

/// What a [`FrameWriter`](crate::FrameWriter) makes frames with.
///
/// [`FrameCodec`](crate::FrameCodec) implements it for everything that is bytes; any codec of
/// `tokio-util` becomes one as a [`TokioCodec`].
pub trait FrameEncoder<M> {
    /// Appends the frame of `message` to `stage`.
    ///
    /// # Errors
    ///
    /// If the message cannot be a frame; `stage` is as it was then, and the writer goes on.
    fn encode_frame(&mut self, message: &M, stage: &mut Stage) -> Result<(), Error>;

    /// The same frame around the message's own bytes, to be written from where they are; `None` if there
    /// is no such thing, or if it is cheaper to copy them.
    ///
    /// # Errors
    ///
    /// As for [`encode_frame`](Self::encode_frame).
    fn borrow_frame<'a>(&mut self, message: &'a M) -> Result<Option<BorrowedFrame<'a>>, Error> {
        let _ = message;
        Ok(None)
    }
}

/// A frame whose payload stays where it is.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedFrame<'a> {
    header: ([u8; LONGEST_HEADER], usize),
    payload: &'a [u8],
    trailer: &'static [u8],
}

impl<'a> BorrowedFrame<'a> {
    /// `header`, `payload`, `trailer`; `None` if the header is longer than 16 bytes.
    pub fn new(header: &[u8], payload: &'a [u8], trailer: &'static [u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST_HEADER];
        bytes.get_mut(..header.len())?.copy_from_slice(header);
        Some(Self {
            header: (bytes, header.len()),
            payload,
            trailer,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.header.1 + self.payload.len() + self.trailer.len()
    }

    /// What is to be written, and how many slices it is.
    pub(super) fn slices(&self) -> ([IoSlice<'_>; 3], usize) {
        let (header, len) = &self.header;
        let pieces = [&header[..*len], self.payload, self.trailer];
        let mut slices = [IoSlice::new(&[]); 3];
        let mut count = 0;
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            slices[count] = IoSlice::new(piece);
            count += 1;
        }
        (slices, count)
    }
}

/// Any [`Encoder`] of `tokio-util` as a [`FrameEncoder`]. Messages are cloned into it.
#[derive(Debug, Clone, Default)]
pub struct TokioCodec<E> {
    encoder: E,
}

impl<E> TokioCodec<E> {
    /// Wraps a codec.
    pub fn new(encoder: E) -> Self {
        Self { encoder }
    }

    /// The codec.
    pub fn into_inner(self) -> E {
        self.encoder
    }
}

impl<M, E> FrameEncoder<M> for TokioCodec<E>
where
    M: Clone,
    E: Encoder<M, Error: error::Error + Send + Sync + 'static>,
{
    fn encode_frame(&mut self, message: &M, stage: &mut Stage) -> Result<(), Error> {
        let buffer = stage.buffer();
        let before = buffer.len();
        self.encoder
            .encode(message.clone(), buffer)
            .map_err(|error| {
                buffer.truncate(before);
                codec_error("send", error)
            })
    }
}
