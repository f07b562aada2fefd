use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use sinew::{AddressError, Error};

/// Why the program did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed: exit code 1.
    Error(Error),
    /// The command line is wrong in a way that clap cannot see: exit code 2.
    Usage(AddressError),
    /// A signal asked it to end: 128 and the signal's number.
    Signal(u8),
}

impl Failure {
    pub(crate) fn io(operation: impl Into<Cow<'static, str>>, error: io::Error) -> Self {
        Self::Error(Error::from_io(operation, error))
    }

    /// Says it, in one line.
    pub(crate) fn report(self) -> ExitCode {
        let (line, code) = match self {
            Self::Error(error) => (error.to_string(), 1),
            Self::Usage(error) => (error.to_string(), 2),
            Self::Signal(number) => return ExitCode::from(128 + number),
        };
        let _nobody_to_tell = writeln!(io::stderr(), "sinew: {line}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::Usage(error)
    }
}
