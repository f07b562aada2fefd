use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};

use crate::{Attributes, Error, ErrorKind};

/// What can cross from any mechanism to any other: a payload, and attributes that not every mechanism
/// can carry.
///
/// Each mechanism has its own message type, with everything that it knows. Where one is turned into
/// another, it goes through this type: see [`MessageStream`](crate::MessageStream) and
/// [`MessageSink`](crate::MessageSink).
///
/// # Examples
///
/// ```
/// use sinew_core::{Attributes, Message};
///
/// let message = Message::from("job 7").with_priority(3);
/// assert_eq!(message.payload(), "job 7");
/// assert_eq!(message.priority(), Some(3));
///
/// // A pipe carries bytes alone.
/// assert_eq!(message.dropped_attributes(Attributes::NONE), Attributes::PRIORITY);
/// ```
#[derive(Debug, Default)]
pub struct Message {
    payload: Bytes,
    priority: Option<u32>,
    kind: Option<i64>,
    credentials: Option<Credentials>,
    fds: Vec<OwnedFd>,
}

/// Who sent a message, as the kernel attests it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// Process id, as seen from the receiver's pid namespace; 0 where it is not visible there.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Credentials {
    /// Credentials with these ids.
    pub fn new(pid: u32, uid: u32, gid: u32) -> Self {
        Self { pid, uid, gid }
    }
}

impl Message {
    /// A message with this payload and no attributes.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Sets the priority. The greater comes first, as in mq_overview(7).
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the type tag, the `mtype` of msgop(2).
    #[must_use]
    pub fn with_kind(mut self, kind: i64) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets who sent it.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the file descriptors that travel with it, instead of those that were there.
    #[must_use]
    pub fn with_fds(mut self, fds: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.fds = fds.into_iter().collect();
        self
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload alone; the attributes are dropped, and the file descriptors closed.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// The priority, where the mechanism has one.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// The type tag, where the mechanism has one.
    pub fn kind(&self) -> Option<i64> {
        self.kind
    }

    /// Who sent it, where the mechanism tells.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// The file descriptors that travel with it.
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Takes the file descriptors out of the message; those that stay in it are closed with it.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Which attributes this message has.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::NONE;
        if self.priority.is_some() {
            attributes |= Attributes::PRIORITY;
        }
        if self.kind.is_some() {
            attributes |= Attributes::KIND;
        }
        if self.credentials.is_some() {
            attributes |= Attributes::CREDENTIALS;
        }
        if !self.fds.is_empty() {
            attributes |= Attributes::FDS;
        }
        attributes
    }

    /// Which attributes of this message are lost on a way that carries only those of `supports`.
    pub fn dropped_attributes(&self, supports: Attributes) -> Attributes {
        self.attributes() - supports
    }

    /// Makes sure that nothing is lost on a way that carries only the attributes of `supports`.
    ///
    /// This is for the conversion from a `Message` to a mechanism's own type, in `operation`.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Unsupported`], naming the attributes that cannot cross.
    pub fn require_support(
        &self,
        operation: &'static str,
        supports: Attributes,
    ) -> Result<(), Error> {
        let dropped = self.dropped_attributes(supports);
        if dropped.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, operation)
            .with_reason(format!("the message's {dropped} cannot cross"))
            .with_remedy("remove it, or use a mechanism that carries it"))
    }
}

impl From<Bytes> for Message {
    fn from(payload: Bytes) -> Self {
        Self::new(payload)
    }
}

impl From<BytesMut> for Message {
    fn from(payload: BytesMut) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for Message {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}

impl From<Box<[u8]>> for Message {
    fn from(payload: Box<[u8]>) -> Self {
        Self::new(payload)
    }
}

impl From<String> for Message {
    fn from(payload: String) -> Self {
        Self::new(payload)
    }
}

impl From<&'static [u8]> for Message {
    fn from(payload: &'static [u8]) -> Self {
        Self::new(payload)
    }
}

impl From<&'static str> for Message {
    fn from(payload: &'static str) -> Self {
        Self::new(payload)
    }
}

impl TryFrom<Message> for Bytes {
    type Error = Error;

    /// The payload, for mechanisms that carry nothing else: a message with attributes is an error, so
    /// that none is lost unnoticed. Where they may be, there is [`Message::into_payload`].
    fn try_from(message: Message) -> Result<Self, Error> {
        message.require_support("send", Attributes::NONE)?;
        Ok(message.into_payload())
    }
}
