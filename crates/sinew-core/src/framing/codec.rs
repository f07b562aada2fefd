use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::{BorrowedFrame, FrameEncoder, Framing, Stage};
use crate::{Error, ErrorKind};

/// Bytes of the length before a frame.
const HEADER: usize = 4;
/// Bytes that are made room for at once. More is made as it fills, whatever length a peer announces.
const GROWTH: usize = 64 << 10;
/// Bytes from which on a payload is written from where it is: a copy of fewer costs less than what
/// writev(2) costs beyond write(2).
const BORROWED: usize = 8192;

/// A [`Framing`] with its limit, as a [`Decoder`] and an [`Encoder`] of `tokio-util`.
///
/// It works with [`FrameReader`](crate::FrameReader) and [`FrameWriter`](crate::FrameWriter), and with
/// `tokio_util::codec::Framed` as well.
///
/// # Examples
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use sinew_core::{FrameCodec, Framing};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// let mut codec = FrameCodec::new(Framing::Length);
/// let mut wire = BytesMut::new();
/// codec.encode(Bytes::from("job"), &mut wire)?;
/// assert_eq!(&wire[..], b"\0\0\0\x03job");
/// assert_eq!(codec.decode(&mut wire)?, Some(Bytes::from("job")));
/// # Ok::<(), sinew_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameCodec {
    framing: Framing,
    max_message: usize,
    /// Bytes of an unfinished line in which there is no newline.
    scanned: usize,
}

impl FrameCodec {
    /// The longest message, unless [`max_message`](Self::max_message) says otherwise: 16 MiB.
    pub const MAX_MESSAGE: usize = 16 << 20;

    /// This framing, with messages of up to 16 MiB.
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            max_message: Self::MAX_MESSAGE,
            scanned: 0,
        }
    }

    /// Sets the longest message in bytes, without what frames it, in both directions.
    ///
    /// [`Framing::Length`] has messages below 4 GiB only. [`Framing::Unframed`] sends what is longer in
    /// any case, since it has no messages.
    #[must_use]
    pub fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The framing.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The longest message in bytes.
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Makes sure that `payload` can be a message.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) if it is too long,
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a line with a newline in it, and for an empty
    /// message without framing.
    pub fn check(&self, payload: &[u8]) -> Result<(), Error> {
        self.header(payload).map(drop)
    }

    #[cold]
    fn too_long(&self, operation: &'static str, what: &str, len: usize) -> Error {
        Error::new(ErrorKind::LimitExceeded, operation)
            .with_reason(format!(
                "{what} of {len} bytes, and max-message is {}",
                self.max_message
            ))
            .with_remedy(match operation {
                "recv" if self.framing == Framing::Length => {
                    "raise max-message, or check that the peer speaks framing=length"
                }
                _ => "raise max-message at both ends, or send less in one message",
            })
    }

    fn decode_line(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        let scanned = std::mem::take(&mut self.scanned);
        // Somebody may have taken bytes away meanwhile.
        let (scanned, unseen) = match buffer.get(scanned..) {
            Some(unseen) => (scanned, unseen),
            None => (0, &buffer[..]),
        };
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            if buffer.len() > self.max_message {
                return Err(self.too_long("recv", "the beginning of a line", buffer.len()));
            }
            self.scanned = buffer.len();
            return Ok(None);
        };
        let len = scanned + at;
        if len > self.max_message {
            return Err(self.too_long("recv", "a line", len));
        }
        let line = buffer.split_to(len).freeze();
        buffer.advance(1);
        Ok(Some(line))
    }

    fn decode_length(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        let Some(header) = buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if len > self.max_message {
            return Err(self.too_long("recv", "a message", len));
        }
        let missing = (HEADER + len).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing.min(buffer.len().max(GROWTH)));
            return Ok(None);
        }
        buffer.advance(HEADER);
        Ok(Some(buffer.split_to(len).freeze()))
    }

    fn take_bytes(&self, buffer: &mut BytesMut) -> Option<Bytes> {
        let len = buffer.len().min(self.max_message.max(1));
        (len > 0).then(|| buffer.split_to(len).freeze())
    }

    /// The header of a message, or why it cannot be sent.
    #[inline]
    fn header(&self, payload: &[u8]) -> Result<[u8; HEADER], Error> {
        let len = payload.len();
        if len > self.max_message && self.framing != Framing::Unframed {
            return Err(self.too_long("send", "a message", len));
        }
        match self.framing {
            Framing::Unframed if payload.is_empty() => Err(nothing()),
            Framing::Unframed => Ok([0; HEADER]),
            Framing::Lines => match memchr::memchr(b'\n', payload) {
                Some(at) => Err(newline(at)),
                None => Ok([0; HEADER]),
            },
            Framing::Length => match u32::try_from(len) {
                Ok(len) => Ok(len.to_be_bytes()),
                Err(_) => Err(beyond_32_bits(len)),
            },
        }
    }

    #[inline]
    fn borrow<'a>(&self, payload: &'a [u8]) -> Result<Option<BorrowedFrame<'a>>, Error> {
        if payload.len() < BORROWED {
            return Ok(None);
        }
        let header = self.header(payload)?;
        Ok(match self.framing {
            Framing::Unframed => BorrowedFrame::new(&[], payload, &[]),
            Framing::Lines => BorrowedFrame::new(&[], payload, b"\n"),
            Framing::Length => BorrowedFrame::new(&header, payload, &[]),
        })
    }

    #[inline]
    fn stage(&self, payload: &[u8], stage: &mut Stage) -> Result<(), Error> {
        let header = self.header(payload)?;
        stage.reserve(HEADER + payload.len());
        match self.framing {
            Framing::Unframed => stage.put_slice(payload),
            Framing::Lines => {
                stage.put_slice(payload);
                stage.put_slice(b"\n");
            }
            Framing::Length => {
                stage.put_slice(&header);
                stage.put_slice(payload);
            }
        }
        Ok(())
    }
}

#[cold]
fn newline(at: usize) -> Error {
    Error::new(ErrorKind::InvalidInput, "send")
        .with_reason(format!(
            "the message has a newline at byte {at}, where its line would end"
        ))
        .with_remedy("use framing=length at both ends")
}

#[cold]
fn nothing() -> Error {
    Error::new(ErrorKind::InvalidInput, "send")
        .with_reason("without framing, an empty message is nothing that could be sent")
        .with_remedy("leave it out, or use framing=length at both ends")
}

#[cold]
fn beyond_32_bits(len: usize) -> Error {
    Error::new(ErrorKind::LimitExceeded, "send")
        .with_reason(format!(
            "a message of {len} bytes, and a length has 32 bits"
        ))
        .with_remedy("send less in one message")
}

impl From<Framing> for FrameCodec {
    fn from(framing: Framing) -> Self {
        Self::new(framing)
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        match self.framing {
            Framing::Lines => self.decode_line(buffer),
            Framing::Length => self.decode_length(buffer),
            Framing::Unframed => Ok(self.take_bytes(buffer)),
        }
    }

    /// At the end of the stream: an unfinished line is a message, an unfinished frame is an error of
    /// kind [`ErrorKind::PeerCrashed`].
    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        if let Some(message) = self.decode(buffer)? {
            return Ok(Some(message));
        }
        self.scanned = 0;
        if buffer.is_empty() {
            return Ok(None);
        }
        if self.framing == Framing::Lines {
            return Ok(Some(buffer.split().freeze()));
        }
        let came = buffer.len();
        let reason = match buffer.first_chunk::<HEADER>() {
            Some(header) => format!(
                "the peer ended within a message, of which {} of {} bytes came",
                came - HEADER,
                u32::from_be_bytes(*header)
            ),
            // What the senders of sinew-socket do that are dropped before they were closed.
            None if came == 1 => format!(
                "the peer's sender was dropped without being closed, or ended within the length of a \
                 message, of which 1 of {HEADER} bytes came"
            ),
            None => format!(
                "the peer ended within the length of a message, of which {came} of {HEADER} bytes came"
            ),
        };
        buffer.clear();
        Err(Error::new(ErrorKind::PeerCrashed, "recv")
            .with_reason(reason)
            .with_remedy("look at why the peer ended; that message is not delivered"))
    }
}

impl Encoder<&[u8]> for FrameCodec {
    type Error = Error;

    fn encode(&mut self, payload: &[u8], buffer: &mut BytesMut) -> Result<(), Error> {
        let header = self.header(payload)?;
        buffer.reserve(payload.len() + HEADER);
        if self.framing == Framing::Length {
            buffer.put_slice(&header);
        }
        buffer.put_slice(payload);
        if self.framing == Framing::Lines {
            buffer.put_u8(b'\n');
        }
        Ok(())
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = Error;

    fn encode(&mut self, payload: Bytes, buffer: &mut BytesMut) -> Result<(), Error> {
        self.encode(&payload[..], buffer)
    }
}

impl FrameEncoder<Bytes> for FrameCodec {
    fn encode_frame(&mut self, payload: &Bytes, stage: &mut Stage) -> Result<(), Error> {
        let header = self.header(payload)?;
        if self.framing == Framing::Length {
            stage.put_slice(&header);
        }
        stage.put(payload);
        if self.framing == Framing::Lines {
            stage.put_slice(b"\n");
        }
        Ok(())
    }

    fn borrow_frame<'a>(&mut self, payload: &'a Bytes) -> Result<Option<BorrowedFrame<'a>>, Error> {
        self.borrow(payload)
    }
}

macro_rules! copied {
    ($($payload:ty),+) => {$(
        impl FrameEncoder<$payload> for FrameCodec {
            #[inline]
            fn encode_frame(&mut self, payload: &$payload, stage: &mut Stage) -> Result<(), Error> {
                self.stage(payload.as_ref(), stage)
            }

            #[inline]
            fn borrow_frame<'a>(
                &mut self,
                payload: &'a $payload,
            ) -> Result<Option<BorrowedFrame<'a>>, Error> {
                self.borrow(payload.as_ref())
            }
        }
    )+};
}

copied!(
    &[u8],
    &str,
    Vec<u8>,
    String,
    BytesMut,
    &Bytes,
    &Vec<u8>,
    &String
);

impl<const N: usize> FrameEncoder<&[u8; N]> for FrameCodec {
    fn encode_frame(&mut self, payload: &&[u8; N], stage: &mut Stage) -> Result<(), Error> {
        self.stage(&payload[..], stage)
    }

    fn borrow_frame<'a>(
        &mut self,
        payload: &'a &[u8; N],
    ) -> Result<Option<BorrowedFrame<'a>>, Error> {
        self.borrow(&payload[..])
    }
}
