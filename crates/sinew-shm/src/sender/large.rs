//! Messages above the threshold: in segments that are used again.

use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use sinew_core::Error;

use super::{Blocked, Sender};
use crate::segments::Place;
use crate::wire::{
    FRAME_SEGMENT, FRAME_SEGMENT_END, PACKET_SEGMENT, SEGMENT_FRAME, encode_segment_frame,
};

impl Sender {
    /// Whether a message of `len` bytes goes into a segment.
    pub(super) fn takes_segment(&self, len: usize) -> bool {
        len <= self.pool.most() && len as u64 <= self.max_message
    }

    /// Copies a message into a segment and stages it; what blocks it, if something does.
    pub(super) fn stage_segment(
        &mut self,
        payload: &[u8],
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        if let Some(blocked) = self.stage_earlier()? {
            return Ok(Some(blocked));
        }
        match self.find_segment(payload.len(), cx)? {
            Err(blocked) => Ok(Some(blocked)),
            Ok(at) => {
                self.pool
                    .bytes_mut(at, payload.len())
                    .copy_from_slice(payload);
                self.stage_segment_frame(at, payload.len())?;
                Ok(None)
            }
        }
    }

    /// Waits for a segment with room for `len` bytes, and for room to announce it.
    pub(super) fn poll_segment(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<usize, Error>> {
        ready!(self.turn.poll_proceed(cx));
        self.take_event()?;
        loop {
            self.disarm();
            self.check_open()?;
            let blocked = match self.stage_pending(Some(cx))? {
                Some(blocked) => blocked,
                None => match self.find_segment(len, Some(cx))? {
                    Err(blocked) => blocked,
                    Ok(at) => {
                        self.spin.succeed();
                        return Poll::Ready(Ok(at));
                    }
                },
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
    }

    /// A free segment that the peer has, while there is room to announce it; or what blocks that.
    fn find_segment(
        &mut self,
        len: usize,
        mut cx: Option<&mut Context<'_>>,
    ) -> Result<Result<usize, Blocked>, Error> {
        loop {
            let released = self.producer.refresh();
            let released = released.map_err(|corruption| self.corrupted(corruption))?;
            if !self.has_room(SEGMENT_FRAME, false)? {
                return Ok(Err(Blocked::Room {
                    len: SEGMENT_FRAME,
                    memory: false,
                }));
            }
            let at = match self.pool.place(len, released) {
                Place::At(at) => at,
                Place::Busy(cursor) => return Ok(Err(Blocked::Released(cursor))),
                Place::Create(size) => {
                    let created = self.pool.create(size);
                    created.map_err(|error| self.link.error(error))?;
                    continue;
                }
                Place::Retire(at) => {
                    if let Some(number) = self.pool.number(at) {
                        let frame = number.to_le_bytes();
                        let staged = self.producer.stage(FRAME_SEGMENT_END, &frame);
                        self.staged(staged)?;
                    }
                    self.pool.remove(at);
                    continue;
                }
            };
            let Some(fd) = self.pool.unsent(at) else {
                return Ok(Ok(at));
            };
            let sent = self
                .link
                .poll_send_fd(cx.as_deref_mut(), PACKET_SEGMENT, fd.as_fd());
            match sent {
                Poll::Pending => return Ok(Err(Blocked::Socket)),
                Poll::Ready(Err(error)) => return Err(self.socket_error(error)),
                Poll::Ready(Ok(())) => self.pool.set_sent(at),
            }
        }
    }

    /// Stages the message of `len` bytes that was written into a segment.
    pub(crate) fn stage_segment_frame(&mut self, at: usize, len: usize) -> Result<(), Error> {
        let number = self.pool.number(at).unwrap_or_default();
        let frame = encode_segment_frame(number, len as u64);
        let staged = self.producer.stage(FRAME_SEGMENT, &frame);
        self.staged(staged)?;
        self.pool.set_busy(at, self.producer.position());
        self.count(len);
        self.stats.memories += 1;
        Ok(())
    }

    pub(crate) fn segment(&self, at: usize, len: usize) -> &[u8] {
        self.pool.bytes(at, len)
    }

    pub(crate) fn segment_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        self.pool.bytes_mut(at, len)
    }
}
