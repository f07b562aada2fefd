//! The sender as a sink.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use sinew_core::{Error, ErrorKind, MessageSink};

use super::{Pending, Sender};

/// The error of a sink that is given a message while it still holds one.
pub(crate) fn unready() -> Error {
    Error::new(ErrorKind::InvalidInput, "start_send")
        .with_reason("the sink holds a message for which there was no room")
        .with_remedy("call poll_ready before each start_send, and wait until it is ready")
}

/// Stages with `start_send`, publishes with `poll_flush`: one look at the receiver's wait word, and at
/// most one ring, for all that was staged. One message more than there is room for is kept here.
impl Sink<Bytes> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        ready!(sender.turn.poll_proceed(cx));
        sender.take_event()?;
        if sender.pending.is_some() {
            ready!(sender.poll_pending(cx))?;
        }
        sender.check_open()?;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        let sender = self.get_mut();
        if sender.pending.is_some() {
            return Err(sender.link.error(unready()));
        }
        if payload.len() > sender.threshold {
            sender.check_open()?;
            let memory = sender.freeze(&payload)?;
            if sender.stage_frozen(&memory, None)?.is_some() {
                sender.pending = Some(Pending::Memory(memory));
            }
            return Ok(());
        }
        if sender.stage(&payload)?.is_some() {
            sender.pending = Some(Pending::Data(payload));
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_pending(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_finish(cx)
    }
}

impl MessageSink for Sender {
    type Native = Bytes;
}
