use std::borrow::Cow;
use std::ops::Range;

use super::AddressError;

/// What is wrong with a part of an address, before it is known where in the address that part stands.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) range: Range<usize>,
    pub(super) reason: Cow<'static, str>,
    pub(super) suggestion: Option<String>,
    pub(super) remedy: Option<Cow<'static, str>>,
}

impl Fault {
    pub(super) fn new(range: Range<usize>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            range,
            reason: reason.into(),
            suggestion: None,
            remedy: None,
        }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) fn meant(mut self, suggestion: impl Into<String>) -> Self {
        let suggestion = suggestion.into();
        self.remedy = Some(format!("did you mean `{suggestion}`?").into());
        self.suggestion = Some(suggestion);
        self
    }

    /// The same fault, seen from the text in which the part begins at `offset`.
    pub(super) fn shifted(mut self, offset: usize) -> Self {
        self.range = self.range.start + offset..self.range.end + offset;
        self
    }

    pub(super) fn into_error(self, input: &str) -> AddressError {
        AddressError::new(input, self)
    }
}
