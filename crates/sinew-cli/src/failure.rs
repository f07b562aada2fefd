use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use sinew::{AddressError, Error};

use crate::blocking::Blocking;

/// Why the program did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed: exit code 1.
    Error(Error),
    /// The command line is wrong in a way that clap cannot see: exit code 2.
    Usage(Error),
    /// So many messages were lost, of each of which it was said: exit code 1.
    Lost(u64),
    /// A signal asked it to end: 128 and the signal's number.
    Signal(u8),
}

impl Failure {
    pub(crate) fn io(operation: impl Into<Cow<'static, str>>, error: io::Error) -> Self {
        Self::Error(Error::from_io(operation, error))
    }

    /// Says it, in one line.
    pub(crate) fn say(&self) {
        let line = match self {
            Self::Error(error) | Self::Usage(error) => error.to_string(),
            Self::Lost(1) => "a message was lost; everything else was received".to_owned(),
            Self::Lost(count) => {
                format!("{count} messages were lost; everything else was received")
            }
            Self::Signal(_) => return,
        };
        let _nobody_to_tell = writeln!(Blocking(io::stderr()), "sinew: {line}");
    }

    /// Says it, and what to end with.
    pub(crate) fn report(self) -> ExitCode {
        self.say();
        ExitCode::from(match self {
            Self::Error(_) | Self::Lost(_) => 1,
            Self::Usage(_) => 2,
            Self::Signal(number) => 128 + number,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::Usage(error.into())
    }
}
