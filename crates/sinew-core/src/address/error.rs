use std::{error, fmt};

use super::fault::Fault;
use crate::{Error, ErrorKind};

/// Why a text is not an [`Address`](crate::Address): where, what, and what was probably meant.
///
/// It converts into [`Error`], so `?` works where a function returns that.
///
/// # Examples
///
/// ```
/// use sinew_core::{Address, Error};
///
/// let error = "mq:/jobs?maxmgs=10".parse::<Address>().unwrap_err();
/// assert_eq!(error.position(), 9);
/// assert_eq!(error.offending(), "maxmgs");
/// assert_eq!(error.suggestion(), Some("maxmsg"));
/// assert_eq!(
///     Error::from(error).to_string(),
///     r#"parse("mq:/jobs?maxmgs=10"): at byte 9: `mq` has no parameter `maxmgs`; did you mean `maxmsg`?"#,
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    inner: Box<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    input: String,
    position: usize,
    offending: String,
    reason: String,
    suggestion: Option<String>,
    remedy: Option<String>,
}

impl AddressError {
    pub(super) fn new(input: &str, fault: Fault) -> Self {
        let position = fault.range.start.min(input.len());
        let offending = input.get(fault.range).unwrap_or(&input[..0]).to_owned();
        Self {
            inner: Box::new(Inner {
                input: input.to_owned(),
                position,
                offending,
                reason: fault.reason.into_owned(),
                suggestion: fault.suggestion,
                remedy: fault.remedy.map(Into::into),
            }),
        }
    }

    /// The text that was parsed. For an address that was built, the text that it would print.
    pub fn input(&self) -> &str {
        &self.inner.input
    }

    /// The byte of [`input`](Self::input) at which the offending part begins.
    pub fn position(&self) -> usize {
        self.inner.position
    }

    /// The offending part of [`input`](Self::input). Empty where something is missing.
    pub fn offending(&self) -> &str {
        &self.inner.offending
    }

    /// What was probably meant instead of the offending part.
    pub fn suggestion(&self) -> Option<&str> {
        self.inner.suggestion.as_deref()
    }

    /// What to write instead, in words.
    pub fn remedy(&self) -> Option<&str> {
        self.inner.remedy.as_deref()
    }

    fn to_error(&self) -> Error {
        let inner = &*self.inner;
        let error = Error::new(ErrorKind::InvalidAddress, "parse")
            .with_address(&inner.input)
            .with_reason(format!("at byte {}: {}", inner.position, inner.reason));
        match &inner.remedy {
            Some(remedy) => error.with_remedy(remedy.clone()),
            None => error,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_error().fmt(f)
    }
}

/// As of an [`Error`], since `main` prints it so.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressError")
            .field("message", &format_args!("{self}"))
            .finish()
    }
}

impl error::Error for AddressError {}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        error.to_error()
    }
}
