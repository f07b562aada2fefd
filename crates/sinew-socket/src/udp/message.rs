use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use sinew_core::Error;

use crate::Outgoing;

/// A datagram: a payload, and where it is from or is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    payload: Bytes,
    address: Option<SocketAddr>,
}

impl Message {
    /// A datagram for the peer that the socket is connected to.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            address: None,
        }
    }

    /// Sets where it is to go.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload alone.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// Where it came from, or is to go.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Outgoing<SocketAddr> for Message {
    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn as_bytes(&self) -> Option<&Bytes> {
        Some(&self.payload)
    }

    fn address(&self) -> Option<&SocketAddr> {
        self.address.as_ref()
    }
}

macro_rules! from {
    ($($type:ty),+) => {$(
        impl From<$type> for Message {
            fn from(payload: $type) -> Self {
                Self::new(payload)
            }
        }
    )+};
}

from!(
    Bytes,
    BytesMut,
    Vec<u8>,
    Box<[u8]>,
    String,
    &'static [u8],
    &'static str
);

impl From<Message> for sinew_core::Message {
    /// The address has no place there, and is dropped.
    fn from(message: Message) -> Self {
        Self::new(message.payload)
    }
}

impl TryFrom<sinew_core::Message> for Message {
    type Error = Error;

    /// Fails for any attribute: a datagram is bytes alone.
    fn try_from(message: sinew_core::Message) -> Result<Self, Error> {
        Ok(Self::new(Bytes::try_from(message)?))
    }
}
