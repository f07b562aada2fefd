use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sinew_core::{Attributes, Credentials, Error, UnixEndpoint};

use crate::Outgoing;

/// A message of a Unix socket: a payload, descriptors, and who and where it is from.
///
/// # Examples
///
/// ```
/// use sinew_socket::unix::Message;
///
/// # fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/null")?;
/// let message = Message::new("take this").with_fds([file.into()]);
/// assert_eq!(message.payload(), "take this");
/// assert_eq!(message.fds().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Message {
    payload: Bytes,
    fds: Vec<OwnedFd>,
    credentials: Option<Credentials>,
    address: Option<Arc<UnixEndpoint>>,
}

impl Message {
    /// A message with this payload alone.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    pub(crate) fn received(
        payload: Bytes,
        fds: Vec<OwnedFd>,
        credentials: Option<Credentials>,
        address: Option<Arc<UnixEndpoint>>,
    ) -> Self {
        Self {
            payload,
            fds,
            credentials,
            address,
        }
    }

    /// Sets the descriptors that travel with it, 253 at most, instead of those that were there.
    #[must_use]
    pub fn with_fds(mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.fds = fds.into_iter().collect();
        self
    }

    /// Sets where it is to go, for datagrams.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<UnixEndpoint>) -> Self {
        self.address = Some(Arc::new(address.into()));
        self
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload alone; descriptors are closed.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// The descriptors that came or go with it. Those that were received are close-on-exec.
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Takes the descriptors out of the message; those that stay in it are closed with it.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Who sent it, as the kernel vouches, where the receiver's options ask for credentials.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// Of a datagram: where it came from, unless its sender was not bound, or where it is to go.
    pub fn address(&self) -> Option<&UnixEndpoint> {
        self.address.as_deref()
    }
}

impl Outgoing<UnixEndpoint> for Message {
    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn as_bytes(&self) -> Option<&Bytes> {
        Some(&self.payload)
    }

    fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    fn fds_mut(&mut self) -> Option<&mut Vec<OwnedFd>> {
        Some(&mut self.fds)
    }

    fn address(&self) -> Option<&UnixEndpoint> {
        self.address.as_deref()
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
    /// The address of a datagram has no place there, and is dropped.
    fn from(message: Message) -> Self {
        let common = Self::new(message.payload).with_fds(message.fds);
        match message.credentials {
            Some(credentials) => common.with_credentials(credentials),
            None => common,
        }
    }
}

impl TryFrom<sinew_core::Message> for Message {
    type Error = Error;

    /// Fails for a priority, a kind, and credentials, which the kernel alone can attest.
    fn try_from(mut message: sinew_core::Message) -> Result<Self, Error> {
        message.require_support("send", Attributes::FDS)?;
        let fds = message.take_fds();
        Ok(Self::new(message.into_payload()).with_fds(fds))
    }
}
