//! Reading bytes, and what came beside them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use sinew_core::{AdaptiveSpin, Credentials, Error, FrameCodec};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::Decoder;

use crate::link::Link;
use crate::sys::{self, Control};
use crate::unix::packet::{loss, too_many_fds};
use crate::unix::refusal;

/// The reading half of a stream, which counts bytes and keeps descriptors until their message is whole.
pub(crate) struct ReadIo {
    pub(crate) link: Arc<Link>,
    control: Control,
    max_fds: usize,
    credentials: bool,
    /// Ask the kernel even if the runtime has not heard of bytes.
    pub(crate) at_once: bool,
    spin: AdaptiveSpin,
    /// Before the first byte, look whether the listener has refused this end.
    pub(crate) may_be_refused: bool,
    /// Bytes read so far.
    position: u64,
    /// Of the last read.
    fds: Vec<OwnedFd>,
    arrived: VecDeque<Arrival>,
    /// From which byte on who wrote them.
    writers: VecDeque<(u64, Credentials)>,
}

/// What came with a read.
struct Arrival {
    /// Which byte was the last of it.
    last: u64,
    fds: Result<Vec<OwnedFd>, Error>,
}

impl ReadIo {
    pub(crate) fn new(link: Arc<Link>, max_fds: usize, credentials: bool) -> Self {
        Self {
            link,
            control: Control::new(max_fds),
            max_fds,
            credentials,
            at_once: false,
            spin: AdaptiveSpin::adaptive(),
            may_be_refused: false,
            position: 0,
            fds: Vec::new(),
            arrived: VecDeque::new(),
            writers: VecDeque::new(),
        }
    }

    /// One for the same socket, as new.
    pub(crate) fn another(&self) -> Self {
        let mut another = Self::new(self.link.clone(), self.max_fds, self.credentials);
        another.may_be_refused = self.may_be_refused;
        another
    }

    /// Takes what belongs to the message that ends before byte `end`.
    pub(crate) fn claim(&mut self, end: u64) -> Result<(Vec<OwnedFd>, Option<Credentials>), Error> {
        let mut result = Ok(Vec::new());
        while self
            .arrived
            .front()
            .is_some_and(|arrival| arrival.last < end)
        {
            let Some(arrival) = self.arrived.pop_front() else {
                break;
            };
            match (&mut result, arrival.fds) {
                (Ok(all), Ok(fds)) if all.is_empty() => *all = fds,
                (Ok(all), Ok(fds)) => all.extend(fds),
                (Ok(_), Err(error)) => result = Err(error),
                (Err(_), _) => {}
            }
        }
        if matches!(&result, Ok(fds) if fds.len() > self.max_fds) {
            result = Err(self.link.named(too_many_fds(self.max_fds)));
        }
        let credentials = if self.credentials {
            while self.writers.get(1).is_some_and(|(start, _)| *start < end) {
                self.writers.pop_front();
            }
            self.writers.front().map(|(_, writer)| *writer)
        } else {
            None
        };
        Ok((result?, credentials))
    }

    /// Takes all that has come.
    pub(crate) fn claim_all(&mut self) -> Result<Vec<OwnedFd>, Error> {
        self.claim(u64::MAX).map(|(fds, _)| fds)
    }

    /// Whatever is kept when more is read belongs to the one message that is not whole yet. Closes it, if
    /// that message cannot be delivered any more.
    fn give_up(&mut self) {
        let mut error = None;
        let mut count = 0;
        for arrival in &self.arrived {
            match &arrival.fds {
                Ok(fds) => count += fds.len(),
                Err(lost) => error = Some(lost.clone()),
            }
        }
        if count > self.max_fds {
            error = error.or_else(|| Some(self.link.named(too_many_fds(self.max_fds))));
        }
        if let (Some(error), Some(last)) = (error, self.arrived.back().map(|back| back.last)) {
            self.arrived.clear();
            self.arrived.push_back(Arrival {
                last,
                fds: Err(error),
            });
        }
    }

    fn note(&mut self, received: &sys::Received) {
        self.position += received.len as u64;
        let last = self.position.saturating_sub(1);
        if let (true, Some(writer)) = (self.credentials, received.credentials)
            && received.len > 0
            && self
                .writers
                .back()
                .is_none_or(|(_, known)| *known != writer)
        {
            let start = self.position - received.len as u64;
            self.writers.push_back((start, writer));
        }
        if self.fds.is_empty() && !received.control_truncated {
            return;
        }
        self.give_up();
        let fds = std::mem::take(&mut self.fds);
        let fds = match loss(&fds, received.control_truncated, self.max_fds) {
            Some(error) => Err(self.link.named(error)),
            None => Ok(fds),
        };
        self.arrived.push_back(Arrival { last, fds });
    }
}

impl AsyncRead for ReadIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buffer.remaining();
        let (control, fds) = (&mut this.control, &mut this.fds);
        let may_be_refused = this.may_be_refused;
        let mut read = |fd: &OwnedFd| {
            if may_be_refused && refusal::was_told(fd) {
                return Err(refusal::errno());
            }
            let received = sys::receive_stream(fd.as_fd(), buffer, control, fds)?;
            // Descriptors, or another writer's bytes behind, make a read short as well.
            let drained = (1..room).contains(&received.len)
                && !received.is_accompanied
                && !received.control_truncated;
            Ok((received, drained))
        };
        let received = if this.at_once {
            match this.link.fd.try_read_with(|fd| read(fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                received => received.map(|(received, _)| received),
            }
        } else {
            ready!(this.link.fd.poll_read_spinning(cx, &mut this.spin, read))
        };
        Poll::Ready(match received {
            Ok(received) => {
                this.may_be_refused = false;
                this.note(&received);
                Ok(())
            }
            Err(error) => Err(this.link.failed("recv", error).into()),
        })
    }
}

/// A codec that says where in the stream its messages end.
#[derive(Debug)]
pub(crate) struct Counting {
    codec: FrameCodec,
    consumed: u64,
}

impl Counting {
    pub(crate) fn new(codec: FrameCodec) -> Self {
        Self { codec, consumed: 0 }
    }

    fn count(
        &mut self,
        buffer: &mut BytesMut,
        decode: fn(&mut FrameCodec, &mut BytesMut) -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<(Bytes, u64)>, Error> {
        let before = buffer.len();
        let message = decode(&mut self.codec, buffer)?;
        self.consumed += (before - buffer.len()) as u64;
        Ok(message.map(|message| (message, self.consumed)))
    }
}

impl Decoder for Counting {
    type Item = (Bytes, u64);
    type Error = Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Self::Item>, Error> {
        self.count(buffer, FrameCodec::decode)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Self::Item>, Error> {
        self.count(buffer, FrameCodec::decode_eof)
    }
}
