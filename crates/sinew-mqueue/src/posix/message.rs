use bytes::Bytes;
use sinew_core::{Attributes, Error};

/// A message of a POSIX queue: a payload and a priority.
///
/// # Examples
///
/// ```
/// use sinew_mqueue::posix::Message;
///
/// let message = Message::from("job 7").with_priority(3);
/// assert_eq!(message.payload(), "job 7");
/// assert_eq!(message.priority(), Some(3));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    payload: Bytes,
    priority: Option<u32>,
}

impl Message {
    /// A message with this payload, which can be empty, and the sender's default priority.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            priority: None,
        }
    }

    /// Sets the priority, from 0 to 32,767. The highest is received first.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
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

    /// The priority. A message that was received has one; without one it is sent with the sender's default.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }
}

from_payload!(Message);

impl From<Message> for sinew_core::Message {
    fn from(message: Message) -> Self {
        let common = Self::new(message.payload);
        match message.priority {
            Some(priority) => common.with_priority(priority),
            None => common,
        }
    }
}

impl TryFrom<sinew_core::Message> for Message {
    type Error = Error;

    /// Fails for a message that has more than a payload and a priority.
    fn try_from(message: sinew_core::Message) -> Result<Self, Error> {
        message.require_support("send", Attributes::PRIORITY)?;
        Ok(Self {
            priority: message.priority(),
            payload: message.into_payload(),
        })
    }
}
