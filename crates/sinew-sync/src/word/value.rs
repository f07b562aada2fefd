use sinew_core::{Attributes, Error, ErrorKind, Message};

/// What a word holds, or is to hold.
///
/// As a [`Message`] it is the number in decimal.
///
/// # Examples
///
/// ```
/// use sinew_core::Message;
/// use sinew_sync::WordValue;
///
/// assert_eq!(Message::from(WordValue(7)).payload(), "7");
/// assert_eq!(WordValue::try_from(Message::from("7\n"))?, WordValue(7));
/// assert!(WordValue::try_from(Message::from("seven")).is_err());
/// # Ok::<(), sinew_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WordValue(pub u32);

impl From<u32> for WordValue {
    fn from(value: u32) -> Self {
        Self(value)
    }
}

impl From<WordValue> for Message {
    fn from(value: WordValue) -> Self {
        Self::from(value.0.to_string())
    }
}

impl TryFrom<Message> for WordValue {
    type Error = Error;

    /// White space around the number is no fault.
    fn try_from(message: Message) -> Result<Self, Error> {
        message.require_support("futex_wake", Attributes::NONE)?;
        let text = message.payload().trim_ascii();
        let is_decimal = text.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(text).ok().filter(|_| is_decimal);
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => Ok(Self(number)),
            None => Err(Error::new(ErrorKind::InvalidInput, "futex_wake")
                .with_reason(format!(
                    "`{}` is no value of a word",
                    text.get(..32).unwrap_or(text).escape_ascii()
                ))
                .with_remedy("send a number from 0 to 4294967295, in decimal")),
        }
    }
}
