//! The one error of Sinew.

mod attempt;
mod convert;
mod errno;
mod kind;

use std::borrow::Cow;
use std::sync::Arc;
use std::{error, fmt};

pub use attempt::{TryRecvError, TrySendError};
pub use kind::ErrorKind;

/// What failed, on what, why, and what to do about it.
///
/// Every part of Sinew fails with this type. It prints as one lower-case line,
/// `operation("address") with detail: ERRNO: reason; remedy`, of which each part is there when it is
/// known. It is one pointer in size, so a `Result` that carries it stays small, and cloning it does not
/// copy its source.
///
/// # What to do with one
///
/// A receiver goes on after an error that [`is_recoverable`](Self::is_recoverable); any other error is
/// the end of it. A dead peer ([`is_peer_crashed`](Self::is_peer_crashed)) is told apart from one that
/// closed cleanly, which is no error at all: the stream ends with `None`.
///
/// # `io::Error`
///
/// An [`io::Error`](std::io::Error) becomes an `Error` that keeps its errno and has it as reason. The
/// other way, an `Error` that says nothing more than an errno becomes exactly that OS error, with its
/// `raw_os_error`; any other becomes an `io::Error` of a fitting
/// [`ErrorKind`](std::io::ErrorKind) that carries the `Error` whole. Converting that back gives the
/// identical `Error`, so no errno is lost on the way through code that deals in `io::Error`.
///
/// # Examples
///
/// ```
/// use sinew_core::Error;
///
/// const EINVAL: i32 = 22;
/// let error = Error::from_raw_os_error("mq_open", EINVAL)
///     .with_address("/jobs")
///     .with_detail("maxmsg=64")
///     .with_reason("fs.mqueue.msg_max is 10")
///     .with_remedy("raise it or ask for fewer");
/// assert_eq!(
///     error.to_string(),
///     r#"mq_open("/jobs") with maxmsg=64: EINVAL: fs.mqueue.msg_max is 10; raise it or ask for fewer"#,
/// );
/// assert_eq!(error.errno(), Some(EINVAL));
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    address: Option<String>,
    detail: Option<Cow<'static, str>>,
    errno: Option<i32>,
    reason: Option<Cow<'static, str>>,
    remedy: Option<Cow<'static, str>>,
    lost: Option<u64>,
    recoverable: bool,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind in `operation`: a system call or a method of Sinew, by name.
    ///
    /// An empty operation is left out when the error is printed.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                operation: operation.into(),
                address: None,
                detail: None,
                errno: None,
                reason: None,
                remedy: None,
                lost: None,
                recoverable: false,
                source: None,
            }),
        }
    }

    /// The error that the kernel reported as `errno`, with the kind and the remedy that follow from the
    /// number alone.
    pub fn from_raw_os_error(operation: impl Into<Cow<'static, str>>, errno: i32) -> Self {
        let mut error = Self::new(errno::kind(errno), operation);
        error.inner.errno = Some(errno);
        match errno::sandboxed(&error.inner.operation, errno) {
            Some((reason, remedy)) => error
                .with_kind(ErrorKind::Unsupported)
                .with_reason(reason)
                .with_remedy(remedy),
            None => {
                error.inner.remedy = errno::remedy(errno).map(Cow::Borrowed);
                error
            }
        }
    }

    /// The error of the calling thread's last system call, from `errno`.
    pub fn last_os_error(operation: impl Into<Cow<'static, str>>) -> Self {
        Self::from_io(operation, std::io::Error::last_os_error())
    }

    /// Sets the kind, where the mechanism knows better than the errno.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Sets what the operation was done on: an address, a path, a name, a number.
    #[must_use]
    pub fn with_address(mut self, address: impl fmt::Display) -> Self {
        self.inner.address = Some(address.to_string());
        self
    }

    /// Sets the argument that mattered, such as `maxmsg=64`.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.inner.detail = Some(detail.into());
        self
    }

    /// Sets the reason, instead of the description of the errno or the kind.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.inner.reason = Some(reason.into());
        self
    }

    /// Sets what the reader of the message can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.inner.remedy = Some(remedy.into());
        self
    }

    /// Sets how many items were lost, and the kind to [`ErrorKind::Lost`].
    #[must_use]
    pub fn with_lost(mut self, count: u64) -> Self {
        self.inner.kind = ErrorKind::Lost;
        self.inner.lost = Some(count);
        self
    }

    /// Says that the stream or sink goes on after this error: see [`is_recoverable`](Self::is_recoverable).
    ///
    /// # Examples
    ///
    /// ```
    /// use sinew_core::{Error, ErrorKind};
    ///
    /// let crash = Error::new(ErrorKind::PeerCrashed, "recv");
    /// assert!(!crash.is_recoverable());
    /// assert!(crash.into_recoverable().is_recoverable());
    /// ```
    #[must_use]
    pub fn into_recoverable(mut self) -> Self {
        self.inner.recoverable = true;
        self
    }

    /// Sets the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl error::Error + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Arc::new(source));
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What failed: a system call or a method of Sinew, by name. Empty if unknown.
    pub fn operation(&self) -> &str {
        &self.inner.operation
    }

    /// What the operation was done on.
    pub fn address(&self) -> Option<&str> {
        self.inner.address.as_deref()
    }

    /// The argument that mattered.
    pub fn detail(&self) -> Option<&str> {
        self.inner.detail.as_deref()
    }

    /// The kernel's error number.
    pub fn errno(&self) -> Option<i32> {
        self.inner.errno
    }

    /// The symbolic name of [`errno`](Self::errno), such as `ENOENT`.
    pub fn errno_name(&self) -> Option<&'static str> {
        self.inner.errno.and_then(errno::name)
    }

    /// What can be done about it.
    pub fn remedy(&self) -> Option<&str> {
        self.inner.remedy.as_deref()
    }

    /// How many items were lost, where the kernel or the peer tells.
    pub fn lost(&self) -> Option<u64> {
        self.inner.lost
    }

    /// Whether the stream or the sink goes on after this: items were lost, and that is all, or the error
    /// [says so](Self::into_recoverable).
    pub fn is_recoverable(&self) -> bool {
        self.inner.kind == ErrorKind::Lost || self.inner.recoverable
    }

    /// Whether the peer died without closing.
    pub fn is_peer_crashed(&self) -> bool {
        self.inner.kind == ErrorKind::PeerCrashed
    }

    /// Whether the other side has closed, or the object was removed.
    pub fn is_closed(&self) -> bool {
        self.inner.kind == ErrorKind::Closed
    }

    /// Whether shared memory held what no correct peer writes.
    pub fn is_corrupted(&self) -> bool {
        self.inner.kind == ErrorKind::Corrupted
    }

    /// Whether the deadline passed.
    pub fn is_timed_out(&self) -> bool {
        self.inner.kind == ErrorKind::TimedOut
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        OneLine(&inner.operation).fmt(f)?;
        if let Some(address) = &inner.address {
            write!(f, "(\"{}\")", OneLine(address))?;
        }
        if let Some(detail) = &inner.detail {
            if !inner.operation.is_empty() || inner.address.is_some() {
                f.write_str(" ")?;
            }
            write!(f, "with {}", OneLine(detail))?;
        }
        if !inner.operation.is_empty() || inner.address.is_some() || inner.detail.is_some() {
            f.write_str(": ")?;
        }
        if let Some(errno) = inner.errno {
            match errno::name(errno) {
                Some(name) => write!(f, "{name}: ")?,
                None => write!(f, "errno {errno}: ")?,
            }
        }
        match (&inner.reason, inner.errno, inner.lost) {
            (Some(reason), ..) => OneLine(reason).fmt(f)?,
            (None, _, Some(1)) => f.write_str("1 item was lost")?,
            (None, _, Some(count)) => write!(f, "{count} items were lost")?,
            (None, Some(errno), None) => f.write_str(&errno::description(errno))?,
            (None, None, None) => inner.kind.fmt(f)?,
        }
        if let Some(remedy) = &inner.remedy {
            write!(f, "; {}", OneLine(remedy))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let mut s = f.debug_struct("Error");
        s.field("kind", &inner.kind)
            .field("message", &format_args!("{self}"));
        if let Some(source) = &inner.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let source = self.inner.source.as_deref()?;
        Some(source)
    }
}

/// Text from a peer, the kernel or a user, with its control characters escaped so that it cannot forge
/// or break a line of a log.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(char::is_control) {
            f.write_str(&rest[..at])?;
            let control = rest[at..].chars().next().unwrap_or_default();
            write!(f, "{}", control.escape_default())?;
            rest = &rest[at + control.len_utf8()..];
        }
        f.write_str(rest)
    }
}
