use std::fmt::{self, Display};
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{error, io};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::io::AsyncRead;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::{FrameCodec, codec_error};
use crate::{Error, TryRecvError, attempt, make_room};

/// Bytes asked for at first.
const LEAST: usize = 8 << 10;
/// Bytes asked for where each read fills what was asked for: twice what a pipe holds.
const MOST: usize = 128 << 10;

/// Messages out of a stream of bytes.
///
/// It is a `Stream` of what its decoder makes: [`Bytes`] with a [`FrameCodec`], anything with another
/// [`Decoder`] of `tokio-util`.
///
/// A message shares the memory of the block that it was read in, up to 128 KiB, which lives as long as
/// the message: copy small messages that are kept for long.
///
/// # Ends
///
/// `None` is the end of the stream on the boundary of two messages. If it comes within a message, a
/// [`FrameCodec`] for [`Framing::Length`](crate::Framing::Length) makes that an error with
/// [`is_peer_crashed`](Error::is_peer_crashed). After an error the stream ends; `recv` repeats the error.
///
/// # Examples
///
/// ```
/// use sinew_core::{FrameReader, Framing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let mut lines = FrameReader::new(&b"one\ntwo"[..], Framing::Lines);
/// assert_eq!(lines.recv().await?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(lines.recv().await?.as_deref(), Some(&b"two"[..]));
/// assert_eq!(lines.recv().await?, None);
/// # Ok(())
/// # }
/// ```
pub struct FrameReader<R, D = FrameCodec> {
    io: R,
    decoder: D,
    buffer: BytesMut,
    read_size: usize,
    state: State,
    address: Option<String>,
}

#[derive(Debug, Clone)]
enum State {
    /// There may be a message in the buffer.
    Decode,
    /// There is none.
    Read,
    /// The stream has ended; what is in the buffer is the last of it.
    Drain,
    Ended,
    /// With whether the stream has yielded the error.
    Failed(Error, bool),
}

impl<R> FrameReader<R> {
    /// Reads messages of this framing, or [`FrameCodec`], from `io`.
    pub fn new(io: R, codec: impl Into<FrameCodec>) -> Self {
        Self::with_decoder(io, codec.into())
    }
}

impl<R, D> FrameReader<R, D> {
    /// Reads what `decoder` makes of the bytes from `io`.
    pub fn with_decoder(io: R, decoder: D) -> Self {
        Self {
            io,
            decoder,
            buffer: BytesMut::new(),
            read_size: LEAST,
            state: State::Decode,
            address: None,
        }
    }

    /// Names the other end in errors.
    #[must_use]
    pub fn with_address(mut self, address: impl Display) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// What is read from.
    pub fn get_ref(&self) -> &R {
        &self.io
    }

    /// What is read from. Bytes that are read past this reader are missing from it.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// The codec.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// What is read from, and the bytes that were read and made no message yet.
    pub fn into_parts(self) -> (R, Bytes) {
        (self.io, self.buffer.freeze())
    }

    /// Takes the bytes that were read and made no message yet.
    pub fn take_buffered(&mut self) -> Bytes {
        if let State::Read = self.state {
            // A decoder that knows how much of them it has seen is to see that they have gone.
            self.state = State::Decode;
        }
        self.buffer.split().freeze()
    }

    /// Begins anew, for an `io` that comes back after its end, as a FIFO with the next writer does.
    /// The decoder must be as new after the end of a stream, as [`FrameCodec`] is.
    pub fn restart(&mut self) {
        self.buffer.clear();
        self.state = State::Decode;
    }

    #[cold]
    fn fail(&mut self, error: Error) -> Error {
        let error = match (&self.address, error.address()) {
            (Some(address), None) => error.with_address(address),
            _ => error,
        };
        self.state = State::Failed(error.clone(), false);
        error
    }
}

impl<R, D> FrameReader<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder<Error: error::Error + Send + Sync + 'static>,
{
    /// Receives the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of reading and of the decoder. With a [`FrameCodec`]: of kind
    /// [`PeerCrashed`](crate::ErrorKind::PeerCrashed) if the stream ended within a message, and
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) if a message is longer than it takes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it, and what was read of one stays.
    pub async fn recv(&mut self) -> Result<Option<D::Item>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// An `io` of Tokio may say that nothing is there until the runtime has heard of it; those of
    /// Sinew's adapters ask the kernel (see [`is_attempt`](crate::is_attempt)).
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<D::Item, TryRecvError> {
        match attempt(|cx| self.poll_recv(cx)) {
            None => Err(TryRecvError::Empty),
            Some(Ok(Some(message))) => Ok(message),
            Some(Ok(None)) => Err(TryRecvError::Closed),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Polls for the next message: see [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    #[inline(always)]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<D::Item>, Error>> {
        loop {
            match self.state {
                State::Decode => match self.decoder.decode(&mut self.buffer) {
                    Ok(Some(message)) => return Poll::Ready(Ok(Some(message))),
                    Ok(None) => self.state = State::Read,
                    Err(error) => return Poll::Ready(Err(self.fail(codec_error("recv", error)))),
                },
                State::Read => match ready!(self.poll_read(cx)) {
                    Ok(0) => self.state = State::Drain,
                    Ok(_) => self.state = State::Decode,
                    Err(error) => {
                        return Poll::Ready(Err(self.fail(Error::from_io("read", error))));
                    }
                },
                State::Drain | State::Ended | State::Failed(..) => {
                    return Poll::Ready(self.finish());
                }
            }
        }
    }

    /// What there is after the end of the stream.
    #[cold]
    fn finish(&mut self) -> Result<Option<D::Item>, Error> {
        match &self.state {
            State::Drain => match self.decoder.decode_eof(&mut self.buffer) {
                Ok(Some(message)) => Ok(Some(message)),
                Ok(None) => {
                    self.state = State::Ended;
                    Ok(None)
                }
                Err(error) => Err(self.fail(codec_error("recv", error))),
            },
            State::Failed(error, _) => Err(error.clone()),
            _ => Ok(None),
        }
    }

    #[inline(always)]
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let asked = self.read_size;
        make_room(&mut self.buffer, asked / 2, asked);
        let room = self.buffer.capacity() - self.buffer.len();
        let io = Pin::new(&mut self.io);
        let count = ready!(poll_read_buf(io, cx, &mut self.buffer))?;
        if count == room {
            self.read_size = (asked * 2).min(MOST);
        }
        Poll::Ready(Ok(count))
    }
}

impl<R, D> Stream for FrameReader<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder<Error: error::Error + Send + Sync + 'static> + Unpin,
{
    type Item = Result<D::Item, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Failed(_, true) = self.state {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx)).transpose();
        if let State::Failed(_, yielded) = &mut self.state {
            *yielded = true;
        }
        Poll::Ready(item)
    }
}

impl<R: AsFd, D> AsFd for FrameReader<R, D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<R: fmt::Debug, D: fmt::Debug> fmt::Debug for FrameReader<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("io", &self.io)
            .field("decoder", &self.decoder)
            .field("buffered", &self.buffer.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
