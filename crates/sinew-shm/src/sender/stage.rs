//! Staging messages, and publishing what is staged.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};
use sinew_memory::Frozen;
use sinew_ring::{FrameBuffer, PushError};

use super::{Blocked, COLLECT, MAX_COLLECTED, Pending, Sender};
use crate::link::Half;
use crate::wire::{FRAME_DATA, FRAME_MEMORY, PACKET_MEMORY, encode_memory_frame};

impl Sender {
    pub(super) async fn send_frames<T: AsRef<[u8]>>(
        &mut self,
        frames: &mut FrameBuffer,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, Error> {
        let mut count = 0;
        for payload in payloads {
            let payload = payload.as_ref();
            count += 1;
            if payload.len() <= MAX_COLLECTED.min(self.threshold) {
                frames.push(FRAME_DATA, payload);
                if frames.size() >= COLLECT {
                    poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
                }
                continue;
            }
            poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
            if self.stage(payload)?.is_some() {
                self.send(payload).await?;
            }
        }
        poll_fn(|cx| self.poll_stage_all(cx, frames)).await?;
        // Staging never waits, so a batch gives others their turn at its end.
        self.publish();
        poll_fn(|cx| self.turn.poll_proceed(cx)).await;
        Ok(count)
    }

    pub(super) fn poll_stage_all(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut FrameBuffer,
    ) -> Poll<Result<(), Error>> {
        while !frames.is_empty() {
            self.disarm();
            self.check_open()?;
            let blocked = match self.stage_pending(Some(cx))? {
                Some(blocked) => blocked,
                None => match self.producer.stage_all(frames) {
                    Ok(()) => {
                        self.spin.succeed();
                        self.stats.messages += frames.len() as u64;
                        self.stats.bytes += frames.payload_size() as u64;
                        self.turn.spend(frames.size());
                        frames.clear();
                        return Poll::Ready(Ok(()));
                    }
                    Err(PushError::Corrupted(corruption)) => {
                        return Poll::Ready(Err(self.corrupted(corruption)));
                    }
                    // Collected frames are fewer than what the smallest ring holds.
                    Err(_) => Blocked::Room {
                        len: frames.size(),
                        memory: false,
                    },
                },
            };
            ready!(self.poll_blocked(cx, blocked))?;
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    pub(super) fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
        self.turn.spend(len);
    }

    /// Stages a message up to the threshold; what blocks it, if something does.
    #[inline]
    pub(super) fn stage(&mut self, payload: &[u8]) -> Result<Option<Blocked>, Error> {
        if self.armed {
            self.disarm();
        }
        if self.failed.is_some() || self.closed || payload.len() > self.threshold {
            return self.stage_slow(payload);
        }
        if self.pending.is_some()
            && let Some(blocked) = self.stage_pending(None)?
        {
            return Ok(Some(blocked));
        }
        match self.producer.stage(FRAME_DATA, payload) {
            Ok(()) => {
                self.count(payload.len());
                Ok(None)
            }
            Err(PushError::Full) => Ok(Some(Blocked::Room {
                len: payload.len(),
                memory: false,
            })),
            Err(PushError::Corrupted(corruption)) => Err(self.corrupted(corruption)),
            // The threshold is below what the ring can hold.
            Err(_) => Err(self
                .link
                .error(Error::new(ErrorKind::LimitExceeded, "send"))),
        }
    }

    #[cold]
    pub(super) fn stage_slow(&mut self, payload: &[u8]) -> Result<Option<Blocked>, Error> {
        self.check_open()?;
        if self.takes_segment(payload.len()) {
            return self.stage_segment(payload, None);
        }
        let memory = self.freeze(payload)?;
        self.stage_frozen(&memory, None)
    }

    /// Stages what comes before a message that is about to be staged; what blocks it, if something
    /// does.
    pub(super) fn stage_earlier(&mut self) -> Result<Option<Blocked>, Error> {
        self.disarm();
        self.check_open()?;
        self.stage_pending(None)
    }

    pub(super) fn stage_frozen(
        &mut self,
        memory: &Frozen,
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        if let Some(blocked) = self.stage_earlier()? {
            return Ok(Some(blocked));
        }
        self.stage_memory(memory, cx)
    }

    /// Sends the memory, then stages the frame that announces it: in this order, so that a receiver
    /// which sees the frame finds the memory on the socket.
    pub(super) fn stage_memory(
        &mut self,
        memory: &Frozen,
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        let frame = encode_memory_frame(memory.len() as u64);
        if !self.has_room(frame.len(), true)? {
            return Ok(Some(Blocked::Room {
                len: frame.len(),
                memory: true,
            }));
        }
        match self.link.poll_send_fd(cx, PACKET_MEMORY, memory.as_fd()) {
            Poll::Pending => return Ok(Some(Blocked::Socket)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(self.socket_error(error)),
        }
        let staged = self.producer.stage(FRAME_MEMORY, &frame);
        self.staged(staged)?;
        self.memories.push_back(self.producer.position());
        self.count(memory.len());
        self.stats.memories += 1;
        Ok(None)
    }

    /// A send on the socket failed: often because the peer is gone, which is the better thing to say.
    pub(super) fn socket_error(&mut self, error: Error) -> Error {
        if !matches!(
            error.errno().map(Errno::from_raw_os_error),
            Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
        ) {
            return error;
        }
        match self.link.drain_now(Half::Sender) {
            Ok(()) => self.fate().unwrap_or(error),
            Err(error) => error,
        }
    }

    /// Stages what the sink took.
    pub(super) fn stage_pending(
        &mut self,
        cx: Option<&mut Context<'_>>,
    ) -> Result<Option<Blocked>, Error> {
        let Some(pending) = self.pending.take() else {
            return Ok(None);
        };
        let blocked = match &pending {
            Pending::Data(payload) => self.stage(payload),
            Pending::Memory(memory) => {
                self.check_open()?;
                self.stage_memory(memory, cx)
            }
        };
        if !matches!(blocked, Ok(None)) && self.failed.is_none() {
            self.pending = Some(pending);
        }
        blocked
    }

    /// Sends a loan that was written in the ring.
    #[inline]
    pub(crate) fn commit_ring(&mut self, len: usize) -> Result<(), Error> {
        self.stage_ring(len)?;
        self.publish();
        Ok(())
    }

    /// Stages a loan that was written in the ring.
    #[inline]
    pub(crate) fn stage_ring(&mut self, len: usize) -> Result<(), Error> {
        let staged = self.producer.commit(FRAME_DATA, len);
        self.staged(staged)?;
        self.count(len);
        Ok(())
    }

    /// What came of staging a frame for which there was room.
    #[inline]
    pub(super) fn staged(&mut self, staged: Result<(), PushError>) -> Result<(), Error> {
        match staged {
            Ok(()) => Ok(()),
            Err(PushError::Corrupted(corruption)) => Err(self.corrupted(corruption)),
            Err(_) => Err(self
                .link
                .error(Error::new(ErrorKind::LimitExceeded, "send"))),
        }
    }

    /// Sends a loan that was written: as memory of its own.
    pub(crate) async fn commit_memory(&mut self, memory: &Frozen) -> Result<(), Error> {
        poll_fn(|cx| self.poll_send_frozen(cx, memory)).await
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.producer.publish() {
            self.ring();
        }
    }

    #[cold]
    pub(super) fn ring(&mut self) {
        self.stats.rings += 1;
        self.link.ring();
    }
}
