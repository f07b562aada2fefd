//! Receiving without a copy, from a peer that is trusted.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;

use bytes::Bytes;
use sinew_core::{Error, Looks};
use sinew_ring::Frame;

use crate::receiver::{Head, Receiver};
use crate::sys;

/// A [`Receiver`] whose peer was declared trusted: see [`Receiver::into_trusted`].
#[derive(Debug)]
pub struct TrustedReceiver {
    receiver: Receiver,
    /// The oldest message, if it did not come through the ring but beside its cursor.
    beside: Vec<u8>,
}

impl TrustedReceiver {
    pub(crate) fn new(mut receiver: Receiver) -> Self {
        receiver.set_trusted(true);
        Self {
            receiver,
            beside: Vec::new(),
        }
    }

    /// Receives the next message where it lies; its space is released when it is dropped.
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken when its [`Borrowed`] is dropped.
    pub async fn recv(&mut self) -> Result<Option<Borrowed<'_>>, Error> {
        let head = poll_fn(|cx| self.receiver.poll_head(cx, Looks::ALONE)).await?;
        if let Some(Head::Ring(frame)) = &head
            && self.receiver.payload(frame).is_none()
        {
            self.beside.clear();
            self.receiver.append_to(frame, &mut self.beside);
        }
        Ok(head.map(|head| match head {
            Head::Ring(frame) => Borrowed(Inner::Ring {
                receiver: self,
                frame,
            }),
            Head::Memory(bytes) => Borrowed(Inner::Memory(bytes)),
            Head::Segment { frame, bytes } => Borrowed(Inner::Segment {
                receiver: self,
                frame,
                bytes,
            }),
        }))
    }

    /// The receiver, with its peer no longer trusted.
    pub fn into_inner(mut self) -> Receiver {
        self.receiver.set_trusted(false);
        self.receiver
    }

    pub(crate) fn get_ref(&self) -> &Receiver {
        &self.receiver
    }
}

/// A message borrowed from the ring.
///
/// While it lives, its space and all that comes after it are not released.
pub struct Borrowed<'a>(Inner<'a>);

enum Inner<'a> {
    Ring {
        receiver: &'a mut TrustedReceiver,
        frame: Frame,
    },
    Memory(Bytes),
    Segment {
        receiver: &'a mut TrustedReceiver,
        frame: Frame,
        bytes: Bytes,
    },
}

impl Deref for Borrowed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Ring { receiver, frame } => {
                sys::trusted_payload(receiver, frame).unwrap_or(&receiver.beside)
            }
            Inner::Memory(bytes) | Inner::Segment { bytes, .. } => bytes,
        }
    }
}

impl AsRef<[u8]> for Borrowed<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Borrowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrowed")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        match &mut self.0 {
            Inner::Ring { receiver, frame } => receiver.receiver.consume(*frame),
            Inner::Segment {
                receiver,
                frame,
                bytes,
            } => receiver.receiver.consume_of(*frame, bytes.len()),
            Inner::Memory(_) => {}
        }
    }
}
