use std::error;

use tokio_util::codec::Encoder;

use super::{Stage, codec_error};
use crate::Error;

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
