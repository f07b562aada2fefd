use bytes::Bytes;
use sinew_core::{Attributes, Error};

/// A message of a SysV queue: a payload and a type.
///
/// # Examples
///
/// ```
/// use sinew_mqueue::sysv::Message;
///
/// let message = Message::from("job 7").with_kind(3);
/// assert_eq!(message.payload(), "job 7");
/// assert_eq!(message.kind(), Some(3));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    payload: Bytes,
    kind: Option<i64>,
}

impl Message {
    /// A message with this payload, which can be empty, and the sender's default type.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            kind: None,
        }
    }

    /// Sets the type (`mtype` of msgop(2)), which must be positive.
    #[must_use]
    pub fn with_kind(mut self, kind: i64) -> Self {
        self.kind = Some(kind);
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

    /// The type. A message that was received has one; without one it is sent with the sender's default.
    pub fn kind(&self) -> Option<i64> {
        self.kind
    }
}

from_payload!(Message);

impl From<Message> for sinew_core::Message {
    fn from(message: Message) -> Self {
        let common = Self::new(message.payload);
        match message.kind {
            Some(kind) => common.with_kind(kind),
            None => common,
        }
    }
}

impl TryFrom<sinew_core::Message> for Message {
    type Error = Error;

    /// Fails for a message that has more than a payload and a type.
    fn try_from(message: sinew_core::Message) -> Result<Self, Error> {
        message.require_support("send", Attributes::KIND)?;
        Ok(Self {
            kind: message.kind(),
            payload: message.into_payload(),
        })
    }
}
