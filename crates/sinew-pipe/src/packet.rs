use std::fmt::Display;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use rustix::fs::FileType;
use sinew_core::{Error, ErrorKind, MessageSink, TryRecvError, TrySendError, attempt, make_room};
use tokio::io::AsyncWrite;

use crate::{Reader, Writer, sys};

/// Bytes that are written to a pipe at once or not at all, and the longest packet: 4096 on Linux
/// (pipe(7)).
pub const PIPE_BUF: usize = rustix::pipe::PIPE_BUF;

/// Memory for packets that is allocated at a time.
const BLOCK: usize = 4 * PIPE_BUF;

/// Packets into a pipe (`O_DIRECT` of pipe(2)): a `Sink` of [`Bytes`], each of 1 to [`PIPE_BUF`] bytes.
///
/// A packet is in the kernel whole or not at all, also where several write to the same pipe. It takes a
/// whole page of the pipe, so a pipe of 64 KiB holds 16. The kernel drops empty packets, so they are
/// refused.
///
/// `send` is done when the packet is in the pipe, and sends nothing if it is dropped before. As a `Sink` it
/// takes one packet ahead; `flush` or `close` it, since dropping the sender drops what the kernel has not
/// taken.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (mut sender, mut receiver) = sinew_pipe::Options::new().packet_pair()?;
/// sender.send("one").await?;
/// sender.send("two").await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"two"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PacketSender {
    writer: Writer,
    max_message: usize,
    /// What the sink took and the kernel not yet.
    pending: Option<Bytes>,
    closed: bool,
    address: Option<String>,
}

impl PacketSender {
    pub(crate) fn new(writer: Writer, max_message: Option<usize>) -> Result<Self, Error> {
        let pipe = writer
            .fd()
            .filter(|fd| sys::file_type(*fd).is_ok_and(|file_type| file_type == FileType::Fifo));
        let Some(pipe) = pipe else {
            return Err(no_pipe());
        };
        sys::set_packets(pipe).map_err(|error| Error::from_io("fcntl", error))?;
        Ok(Self {
            writer,
            max_message: max_message.unwrap_or(PIPE_BUF).min(PIPE_BUF),
            pending: None,
            closed: false,
            address: None,
        })
    }

    /// Names the other end in errors.
    #[must_use]
    pub fn with_address(mut self, address: impl Display) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// Another sender into the same pipe.
    ///
    /// # Errors
    ///
    /// As for [`Writer::try_clone`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self {
            writer: self.writer.try_clone()?,
            max_message: self.max_message,
            pending: None,
            closed: false,
            address: self.address.clone(),
        })
    }

    /// The writer inside.
    pub fn get_ref(&self) -> &Writer {
        &self.writer
    }

    /// Sends a packet, waiting for room in the pipe where there is none.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for more than [`PIPE_BUF`] bytes, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) for none; [`Closed`](ErrorKind::Closed) (`EPIPE`) where
    /// nobody reads any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing of the packet.
    pub async fn send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let payload = payload.as_ref();
        self.check(payload)?;
        poll_fn(|cx| self.poll_send(cx, payload)).await
    }

    /// Sends a packet if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) if there is none; otherwise as for [`send`](Self::send). The packet is
    /// handed back.
    pub fn try_send<T: AsRef<[u8]>>(&mut self, payload: T) -> Result<(), TrySendError<T>> {
        let sent = self
            .check(payload.as_ref())
            .and_then(|()| attempt(|cx| self.poll_send(cx, payload.as_ref())).transpose());
        match sent {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(TrySendError::Full(payload)),
            Err(error) => Err(TrySendError::failed(payload, error)),
        }
    }

    /// Waits until the packet that the sink took is in the pipe.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_pending(cx)).await
    }

    /// Sends what the sink took, and closes this end: the receiver gets everything, then `None`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn check(&self, payload: &[u8]) -> Result<(), Error> {
        let len = payload.len();
        if self.closed {
            return Err(self
                .named(Error::new(ErrorKind::Closed, "send").with_reason("this end was closed")));
        }
        if len == 0 {
            return Err(self.named(
                Error::new(ErrorKind::InvalidInput, "send")
                    .with_reason("the kernel drops empty packets")
                    .with_remedy("use framing=length where messages can be empty"),
            ));
        }
        if len > self.max_message {
            return Err(self.named(
                Error::new(ErrorKind::LimitExceeded, "send")
                    .with_reason(format!(
                        "a packet of {len} bytes, and it can have {}",
                        self.max_message
                    ))
                    .with_remedy("use framing=length for longer messages"),
            ));
        }
        Ok(())
    }

    fn named(&self, error: Error) -> Error {
        match (&self.address, error.address()) {
            (Some(address), None) => error.with_address(address),
            _ => error,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), Error>> {
        ready!(self.poll_pending(cx))?;
        self.poll_write(cx, payload)
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(payload) = self.pending.take() else {
            return Poll::Ready(Ok(()));
        };
        let sent = self.poll_write(cx, &payload);
        if sent.is_pending() {
            self.pending = Some(payload);
        }
        sent
    }

    /// The kernel takes a packet whole or not at all.
    fn poll_write(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), Error>> {
        match ready!(Pin::new(&mut self.writer).poll_write(cx, payload)) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.named(Error::from_io("write", error)))),
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pending(cx))?;
        self.closed = true;
        Pin::new(&mut self.writer)
            .poll_shutdown(cx)
            .map_err(|error| self.named(Error::from_io("close", error)))
    }
}

impl Sink<Bytes> for PacketSender {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_pending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        self.check(&payload)?;
        if self.pending.is_some() {
            return Err(self.named(
                Error::new(ErrorKind::InvalidInput, "start_send")
                    .with_reason("the sink holds a packet that is not written yet")
                    .with_remedy("call poll_ready before each start_send, and wait for it"),
            ));
        }
        self.pending = Some(payload);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_pending(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_finish(cx)
    }
}

impl MessageSink for PacketSender {
    type Native = Bytes;
}

/// Packets from a pipe: a `Stream` of [`Bytes`].
///
/// Each packet comes whole: there is always room for the longest that there can be. `None` is the end,
/// when the last writer has closed. What is written by a writer without `O_DIRECT` has no boundaries.
///
/// Unlike Tokio's `AsyncRead` for pipes, which takes a short read for the end of what is there, and
/// then waits for ever while packets lie in the pipe, this goes on until the kernel says that there is
/// nothing.
///
/// # Examples
///
/// See [`PacketSender`].
#[derive(Debug)]
pub struct PacketReceiver {
    reader: Reader,
    buffer: BytesMut,
    max_message: usize,
    end: Option<Result<(), Error>>,
    yielded: bool,
    address: Option<String>,
}

impl PacketReceiver {
    pub(crate) fn new(reader: Reader, max_message: Option<usize>) -> Result<Self, Error> {
        if !sys::file_type(reader.as_fd()).is_ok_and(|file_type| file_type == FileType::Fifo) {
            return Err(no_pipe());
        }
        Ok(Self {
            reader,
            buffer: BytesMut::new(),
            max_message: max_message.unwrap_or(PIPE_BUF),
            end: None,
            yielded: false,
            address: None,
        })
    }

    /// Names the other end in errors.
    #[must_use]
    pub fn with_address(mut self, address: impl Display) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// The reader inside.
    pub fn get_ref(&self) -> &Reader {
        &self.reader
    }

    /// Receives the next packet; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of read(2), which are repeated. A packet that is longer than was asked for is an error that
    /// [`is_recoverable`](Error::is_recoverable).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a packet is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a packet if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) at the
    /// end, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        match attempt(|cx| self.poll_recv(cx)) {
            None => Err(TryRecvError::Empty),
            Some(Ok(Some(packet))) => Ok(packet),
            Some(Ok(None)) => Err(TryRecvError::Closed),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if let Some(end) = &self.end {
            return Poll::Ready(end.clone().map(|()| None));
        }
        let count = loop {
            make_room(&mut self.buffer, PIPE_BUF, BLOCK);
            match ready!(self.reader.poll_read_append(cx, &mut self.buffer)) {
                Ok(0) if self.reader.comes_back() => {}
                Ok(count) => break count,
                Err(error) => {
                    let error = self.named(Error::from_io("read", error));
                    self.end = Some(Err(error.clone()));
                    return Poll::Ready(Err(error));
                }
            }
        };
        if count == 0 {
            self.end = Some(Ok(()));
            return Poll::Ready(Ok(None));
        }
        let packet = self.buffer.split().freeze();
        if count > self.max_message {
            let error = Error::new(ErrorKind::Lost, "recv")
                .with_lost(1)
                .with_reason(format!(
                    "a packet of {count} bytes, and max-message is {}",
                    self.max_message
                ))
                .with_remedy("raise max-message");
            return Poll::Ready(Err(self.named(error)));
        }
        Poll::Ready(Ok(Some(packet)))
    }

    fn named(&self, error: Error) -> Error {
        match (&self.address, error.address()) {
            (Some(address), None) => error.with_address(address),
            _ => error,
        }
    }
}

impl Stream for PacketReceiver {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.yielded {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx)).transpose();
        self.yielded = matches!(self.end, Some(Err(_)));
        Poll::Ready(item)
    }
}

impl AsFd for PacketReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn no_pipe() -> Error {
    Error::new(ErrorKind::InvalidInput, "open")
        .with_reason("only pipes and FIFOs have packets")
        .with_remedy("use framing=length, or name a pipe")
}
