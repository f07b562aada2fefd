//! The sender as a sink.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use sinew_core::{Error, MessageSink};

use super::Sender;
use crate::sender::unready;

/// Stages with `start_send`, publishes with `poll_flush`. One message more than there is room for is kept here.
impl Sink<Bytes> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sender = self.get_mut();
        ready!(sender.poll_turn(cx));
        if sender.pending.is_some() {
            ready!(sender.poll_pending(cx))?;
        }
        sender.check_open()?;
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        let sender = self.get_mut();
        if sender.pending.is_some() {
            return Err(sender.error(unready()));
        }
        let label = sender.label();
        if !sender.stage(&payload, label)? {
            sender.pending = Some((payload, label));
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
