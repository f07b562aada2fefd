use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use posixmq::OpenOptions;
use rustix::fs::{Mode, fchmod};
use sinew_core::{Error, ErrorKind};

use super::limits::Limits;
use super::name;
use super::queue::{Opened, Queue};
use super::receiver::Receiver;
use super::refusal::{self, Asked};
use super::sender::Sender;
use crate::sys::Descriptor;

/// How a POSIX queue is opened.
///
/// | option | default | |
/// |---|---|---|
/// | [`create`](Self::create) | no | make the queue where there is none |
/// | [`exclusive`](Self::exclusive) | no | fail where there is one |
/// | [`mode`](Self::mode) | 600 | permissions of a queue that is made |
/// | [`max_messages`](Self::max_messages) | `fs.mqueue.msg_default`, 10 | messages that the queue holds |
/// | [`message_size`](Self::message_size) | `fs.mqueue.msgsize_default`, 8192 | bytes of the longest |
/// | [`priority`](Self::priority) | 0 | of messages that are sent without one |
/// | [`unlink_on_drop`](Self::unlink_on_drop) | no | remove the name after use |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_mqueue::posix::Options;
///
/// # let name = format!("/sinew-doc-options-{}", std::process::id());
/// let options = Options::new().create(true).max_messages(4).message_size(128).unlink_on_drop(true);
/// let mut queue = options.open(&name)?;
/// queue.send("hello").await?;
/// assert_eq!(queue.attributes()?.messages, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    create: bool,
    exclusive: bool,
    mode: u32,
    max_messages: Option<usize>,
    message_size: Option<usize>,
    priority: u32,
    unlink: bool,
}

/// Between a create that finds a queue and an open that finds none, somebody has unlinked it. Whoever does
/// that so often does not want it to be opened.
const ATTEMPTS: u32 = 16;

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            create: false,
            exclusive: false,
            mode: 0o600,
            max_messages: None,
            message_size: None,
            priority: 0,
            unlink: false,
        }
    }

    /// Whether to make the queue where there is none.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether to fail where there is one already. This implies `create`.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// The permissions of a queue that is made, exactly, whatever the umask: who may read, may receive,
    /// who may write, may send.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Messages that the queue holds, `mq_maxmsg`. A queue that exists must hold as many.
    #[must_use]
    pub fn max_messages(mut self, count: usize) -> Self {
        self.max_messages = Some(count);
        self
    }

    /// Bytes of the longest message, `mq_msgsize`. A queue that exists must have the same.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message_size = Some(bytes);
        self
    }

    /// The priority of messages that are sent without one, up to 32,767.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Whether to remove the queue's name when the last of the halves that came of this open is dropped.
    /// Who has the queue open keeps it. A process that is killed leaves the name.
    #[must_use]
    pub fn unlink_on_drop(mut self, unlink: bool) -> Self {
        self.unlink = unlink;
        self
    }

    /// Opens a queue for both directions. The name begins with a slash and has no other.
    ///
    /// Where a queue exists that differs from what was asked for, this is an error: other sizes would lose
    /// what the program relies on. Ask for nothing where any will do.
    ///
    /// # Errors
    ///
    /// Those of mq_open(3), with the sysctl or limit where one is reached: `ENOENT` where there is none and it
    /// was not to be created, `EEXIST` where there is one and it was to be new, `EACCES` without permission,
    /// `EINVAL` above `fs.mqueue.msg_max` or `msgsize_max`, `ENOSPC` above `queues_max`, `EMFILE` above
    /// `RLIMIT_MSGQUEUE` or `RLIMIT_NOFILE`. Of kind [`InvalidInput`](ErrorKind::InvalidInput) for a bad
    /// name or priority, where the queue differs from what was asked for, and outside of a Tokio runtime.
    pub fn open(&self, name: impl AsRef<OsStr>) -> Result<Queue, Error> {
        let (opened, descriptor) = self.opened(name.as_ref(), OpenOptions::readwrite())?;
        let second = descriptor
            .try_clone()
            .map_err(|error| opened.error("dup", error))?;
        let receiver = Receiver::new(Arc::clone(&opened), second)?;
        Ok(Queue::new(self.sender(opened, descriptor), receiver))
    }

    /// Opens a queue for sending; permission to write is enough.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_sender(&self, name: impl AsRef<OsStr>) -> Result<Sender, Error> {
        let (opened, descriptor) = self.opened(name.as_ref(), OpenOptions::writeonly())?;
        Ok(self.sender(opened, descriptor))
    }

    /// Opens a queue for receiving; permission to read is enough.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_receiver(&self, name: impl AsRef<OsStr>) -> Result<Receiver, Error> {
        let (opened, descriptor) = self.opened(name.as_ref(), OpenOptions::readonly())?;
        let receiver = Receiver::new(Arc::clone(&opened), descriptor)?;
        self.settle(&opened);
        Ok(receiver)
    }

    /// Nothing can fail any more.
    fn settle(&self, opened: &Opened) {
        if !self.unlink {
            opened.keep();
        }
    }

    fn sender(&self, opened: Arc<Opened>, descriptor: Descriptor) -> Sender {
        self.settle(&opened);
        Sender::new(opened, descriptor, self.priority)
    }

    fn opened(
        &self,
        name: &OsStr,
        mut how: OpenOptions,
    ) -> Result<(Arc<Opened>, Descriptor), Error> {
        let bytes = name::check(name)?;
        let shown = name.to_string_lossy().into_owned();
        if self.priority > super::MAX_PRIORITY {
            return Err(refusal::priority(&shown, self.priority));
        }
        how.nonblocking();
        let (descriptor, made) = self.find(bytes, &shown, how)?;
        // Until all is settled, an error removes a queue that was just made.
        let mut opened = Opened::new(bytes, shown, made || self.unlink);
        if made {
            let mode = Mode::from_raw_mode(self.mode);
            fchmod(descriptor.as_fd(), mode)
                .map_err(|errno| opened.error("fchmod", errno.into()))?;
        }
        opened.learn(&descriptor)?;
        if !made {
            let same = self.check_sizes(&opened);
            if same.is_err() {
                // It is somebody else's.
                opened.keep();
            }
            same?;
        }
        Ok((Arc::new(opened), descriptor))
    }

    /// Opens or makes the queue, and says whether it was made.
    fn find(
        &self,
        name: &[u8],
        shown: &str,
        how: OpenOptions,
    ) -> Result<(Descriptor, bool), Error> {
        let mut attempt = 0;
        loop {
            if self.create || self.exclusive {
                // In two steps, to know whether it was made: the umask has trimmed its mode then.
                let asked = self.asked();
                let made = how
                    .clone()
                    .create_new()
                    .mode(self.mode)
                    .capacity(asked.max_messages)
                    .max_msg_len(asked.message_size)
                    .open(name);
                match made {
                    Ok(queue) => return Ok((Descriptor(queue), true)),
                    Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !self.exclusive => {
                    }
                    Err(error) => return Err(refusal::open(error, shown, Some(asked))),
                }
            }
            match how.clone().existing().open(name) {
                Ok(queue) => return Ok((Descriptor(queue), false)),
                Err(error) if name::is_gone(&error) && self.create && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(refusal::open(error, shown, None)),
            }
        }
    }

    /// mq_open(3) takes both sizes or none. Its defaults are no larger than its limits.
    fn asked(&self) -> Asked {
        let limits = Limits::current();
        let default = |value: Option<u64>, limit: Option<u64>, usual: usize| {
            let value = value
                .and_then(|value| usize::try_from(value).ok())
                .unwrap_or(usual);
            let limit = limit
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(value);
            value.min(limit)
        };
        Asked {
            max_messages: self
                .max_messages
                .unwrap_or_else(|| default(limits.msg_default, limits.msg_max, 10)),
            message_size: self
                .message_size
                .unwrap_or_else(|| default(limits.msgsize_default, limits.msgsize_max, 8192)),
        }
    }

    fn check_sizes(&self, opened: &Opened) -> Result<(), Error> {
        for (what, asked, found) in [
            ("maxmsg", self.max_messages, opened.max_messages),
            ("msgsize", self.message_size, opened.message_size),
        ] {
            if let Some(asked) = asked.filter(|asked| *asked != found) {
                return Err(opened.named(
                    Error::new(ErrorKind::InvalidInput, "mq_open")
                        .with_detail(format!("{what}={asked}"))
                        .with_reason(format!("the queue exists with {what}={found}"))
                        .with_remedy("ask for that or for nothing, or unlink the queue first"),
                ));
            }
        }
        Ok(())
    }
}
