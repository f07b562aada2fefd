use std::error;
use std::fmt::{self, Display};
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use sinew_core::{Error, FrameCodec, FrameReader, TryRecvError};
use tokio_util::codec::Decoder;

use crate::Reader;

/// Messages from a pipe or a FIFO: a `Stream` of what its decoder makes, [`Bytes`](bytes::Bytes) unless
/// another codec was given.
///
/// `None` is the end, when the last writer has closed. A writer cannot say whether it closed or died;
/// but one that ends within a length frame has died, and is reported so
/// ([`is_peer_crashed`](Error::is_peer_crashed)). On a FIFO with
/// [`Eof::Reopen`](crate::fifo::Eof::Reopen), a message lost in that way is an error that
/// [`is_recoverable`](Error::is_recoverable), and the next writer's messages follow.
///
/// # Examples
///
/// See [`pair`](crate::pair()).
pub struct Receiver<D = FrameCodec> {
    frames: FrameReader<Reader, D>,
}

impl Receiver {
    /// Receives messages of this framing, or [`FrameCodec`].
    pub fn new(reader: Reader, codec: impl Into<FrameCodec>) -> Self {
        Self::with_decoder(reader, codec.into())
    }
}

impl<D> Receiver<D> {
    /// Receives what `decoder` makes of the bytes.
    pub fn with_decoder(reader: Reader, decoder: D) -> Self {
        Self {
            frames: FrameReader::with_decoder(reader, decoder),
        }
    }

    /// Names the other end in errors.
    #[must_use]
    pub fn with_address(mut self, address: impl Display) -> Self {
        self.frames = self.frames.with_address(address);
        self
    }

    /// The reader inside.
    pub fn get_ref(&self) -> &Reader {
        self.frames.get_ref()
    }

    /// The reader, and the bytes that were read and made no message yet.
    pub fn into_parts(self) -> (Reader, bytes::Bytes) {
        self.frames.into_parts()
    }
}

impl<D> Receiver<D>
where
    D: Decoder<Error: error::Error + Send + Sync + 'static>,
{
    /// Receives the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of read(2) and of the decoder. With a [`FrameCodec`]: of kind
    /// [`PeerCrashed`](sinew_core::ErrorKind::PeerCrashed) if the last writer ended within a message,
    /// [`LimitExceeded`](sinew_core::ErrorKind::LimitExceeded) if a message is longer than it takes. They
    /// are repeated.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it, and what was read of one stays.
    pub async fn recv(&mut self) -> Result<Option<D::Item>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<D::Item, TryRecvError> {
        loop {
            let received = self.frames.try_recv();
            let error = match &received {
                Err(TryRecvError::Closed) => None,
                Err(TryRecvError::Failed(error)) => Some(error.clone()),
                _ => return received,
            };
            match self.go_on(error.as_ref()) {
                Some(None) => {}
                Some(Some(lost)) => return Err(lost.into()),
                None => return received,
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<D::Item>, Error>> {
        loop {
            let received = ready!(self.frames.poll_recv(cx));
            let next = match &received {
                Ok(Some(_)) => None,
                Ok(None) => self.go_on(None),
                Err(error) => self.go_on(Some(&error.clone())),
            };
            match next {
                Some(None) => {}
                Some(Some(lost)) => return Poll::Ready(Err(lost)),
                None => return Poll::Ready(received),
            }
        }
    }

    /// Goes on after the end of a generation of writers, if there can be another; perhaps with the
    /// loss that there was.
    fn go_on(&mut self, error: Option<&Error>) -> Option<Option<Error>> {
        if !self.get_ref().comes_back() || error.is_some_and(|error| !error.is_peer_crashed()) {
            return None;
        }
        self.frames.restart();
        Some(error.map(|error| error.clone().with_lost(1)))
    }
}

impl<D> Stream for Receiver<D>
where
    D: Decoder<Error: error::Error + Send + Sync + 'static> + Unpin,
{
    type Item = Result<D::Item, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.get_ref().comes_back() {
            return Pin::new(&mut self.frames).poll_next(cx);
        }
        let this = &mut *self;
        let received = ready!(this.poll_recv(cx));
        match received {
            Err(error) if !error.is_recoverable() => {
                // Yields the error that `poll_recv` has seen, and is over after it.
                let again =
                    Pin::new(&mut this.frames).poll_next(&mut Context::from_waker(Waker::noop()));
                match again {
                    Poll::Ready(None) => Poll::Ready(None),
                    _ => Poll::Ready(Some(Err(error))),
                }
            }
            received => Poll::Ready(received.transpose()),
        }
    }
}

impl<D> AsFd for Receiver<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<D: fmt::Debug> fmt::Debug for Receiver<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.frames).finish()
    }
}
