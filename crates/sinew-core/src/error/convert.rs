use std::borrow::Cow;
use std::convert::Infallible;
use std::io;

use super::{Error, ErrorKind, errno};

impl Error {
    /// The error that `error` reports, in `operation`.
    ///
    /// An `io::Error` that was made from an `Error` becomes that one again, with its own, more exact
    /// operation.
    pub fn from_io(operation: impl Into<Cow<'static, str>>, error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(original) => return original,
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(errno) => Self::from_raw_os_error(operation, errno),
            None => Self::new(kind_of(error.kind()), operation)
                .with_reason(error.to_string())
                .with_source(error),
        }
    }

    /// Whether there is nothing here but what follows from the errno.
    fn bare_errno(&self) -> Option<i32> {
        let inner = &*self.inner;
        let errno = inner.errno?;
        let bare = inner.operation.is_empty()
            && inner.address.is_none()
            && inner.detail.is_none()
            && inner.reason.is_none()
            && inner.lost.is_none()
            && inner.source.is_none()
            && inner.kind == errno::kind(errno)
            && inner.remedy.as_deref() == errno::remedy(errno);
        bare.then_some(errno)
    }
}

impl From<io::Error> for Error {
    /// As [`Error::from_io`], with no operation.
    fn from(error: io::Error) -> Self {
        Self::from_io("", error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        if let Some(errno) = error.bare_errno() {
            return Self::from_raw_os_error(errno);
        }
        let kind = match (error.kind(), error.errno()) {
            // Where the mechanism knows better than the errno says.
            (kind @ (ErrorKind::NotFound | ErrorKind::AlreadyExists), _) => io_kind_of(kind),
            (_, Some(errno)) => Self::from_raw_os_error(errno).kind(),
            (kind, None) => io_kind_of(kind),
        };
        Self::new(kind, error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn kind_of(kind: io::ErrorKind) -> ErrorKind {
    match kind {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
        io::ErrorKind::InvalidData => ErrorKind::Protocol,
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => {
            ErrorKind::LimitExceeded
        }
        io::ErrorKind::TimedOut => ErrorKind::TimedOut,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied => ErrorKind::Refused,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    }
}

fn io_kind_of(kind: ErrorKind) -> io::ErrorKind {
    match kind {
        ErrorKind::NotFound => io::ErrorKind::NotFound,
        ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
        ErrorKind::InvalidInput | ErrorKind::InvalidAddress => io::ErrorKind::InvalidInput,
        ErrorKind::Closed => io::ErrorKind::BrokenPipe,
        ErrorKind::PeerCrashed => io::ErrorKind::ConnectionReset,
        ErrorKind::Corrupted | ErrorKind::Protocol => io::ErrorKind::InvalidData,
        ErrorKind::TimedOut => io::ErrorKind::TimedOut,
        ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
        ErrorKind::Unsupported => io::ErrorKind::Unsupported,
        ErrorKind::System | ErrorKind::LimitExceeded | ErrorKind::Lost => io::ErrorKind::Other,
    }
}
