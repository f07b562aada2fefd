use std::io;
use std::sync::Arc;

use sinew_core::sysv::{Target, ftok};
use sinew_core::{Error, ErrorKind};

use super::queue::{Opened, Queue};
use super::receiver::Receiver;
use super::select::Select;
use super::sender::Sender;
use crate::{sys, sysctl};

/// How a SysV queue is opened.
///
/// | option | default | |
/// |---|---|---|
/// | [`create`](Self::create) | no | make the queue where there is none |
/// | [`exclusive`](Self::exclusive) | no | fail where there is one |
/// | [`mode`](Self::mode) | 600 | permissions of a queue that is made |
/// | [`select`](Self::select) | [`Select::Any`] | which messages are received |
/// | [`kind`](Self::kind) | 1 | the type of messages that are sent without one |
/// | [`max_message`](Self::max_message) | none | the longest message that is received |
/// | [`remove_on_drop`](Self::remove_on_drop) | no | remove the queue after use |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_mqueue::sysv::{Options, Select, Target};
///
/// let options = Options::new().select(Select::Equal(7)).kind(7).remove_on_drop(true);
/// let mut queue = options.open(Target::Private)?;
/// queue.send("hello").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    create: bool,
    exclusive: bool,
    mode: u32,
    select: Select,
    kind: i64,
    max_message: Option<usize>,
    remove: bool,
}

/// What a half needs, in the owner's bits.
#[derive(Debug, Clone, Copy)]
enum Access {
    Receive = 0o400,
    Send = 0o200,
    Both = 0o600,
}

/// Between a create that finds a queue and an open that finds none, somebody has removed it. Whoever does
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
            select: Select::Any,
            kind: 1,
            max_message: None,
            remove: false,
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

    /// The permissions of a queue that is made: who may read, may receive, who may write, may send. The
    /// umask has no part in it.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Which messages are received.
    #[must_use]
    pub fn select(mut self, select: Select) -> Self {
        self.select = select;
        self
    }

    /// The type of messages that are sent without one; it must be positive.
    #[must_use]
    pub fn kind(mut self, kind: i64) -> Self {
        self.kind = kind;
        self
    }

    /// The longest message that is received, bytes. Without this there is no limit but the sender's,
    /// `kernel.msgmax`. What a longer one does is said at [`Receiver`].
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Whether to remove the queue, with what is in it, when the last of the halves that came of this
    /// open is dropped. A process that is killed leaves it.
    #[must_use]
    pub fn remove_on_drop(mut self, remove: bool) -> Self {
        self.remove = remove;
        self
    }

    /// Opens a queue for both directions.
    ///
    /// # Errors
    ///
    /// Those of msgget(2) and ftok(3): `ENOENT` where there is none and it was not to be created, `EEXIST`
    /// where there is one and it was to be new, `EACCES` without permission to read and write, `ENOSPC`
    /// where `kernel.msgmni` queues exist. Of kind [`InvalidInput`](ErrorKind::InvalidInput) for a type
    /// that is not positive.
    pub fn open(&self, target: impl Into<Target>) -> Result<Queue, Error> {
        let opened = self.opened(&target.into(), Access::Both)?;
        Ok(Queue::new(
            self.sender(Arc::clone(&opened)),
            self.receiver(opened)?,
        ))
    }

    /// Opens a queue for sending; permission to write is enough.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_sender(&self, target: impl Into<Target>) -> Result<Sender, Error> {
        Ok(self.sender(self.opened(&target.into(), Access::Send)?))
    }

    /// Opens a queue for receiving; permission to read is enough.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_receiver(&self, target: impl Into<Target>) -> Result<Receiver, Error> {
        self.receiver(self.opened(&target.into(), Access::Receive)?)
    }

    fn sender(&self, opened: Arc<Opened>) -> Sender {
        Sender::new(opened, self.kind)
    }

    fn receiver(&self, opened: Arc<Opened>) -> Result<Receiver, Error> {
        Receiver::new(opened, self.select, self.max_message)
    }

    fn opened(&self, target: &Target, access: Access) -> Result<Arc<Opened>, Error> {
        let name = target.to_string();
        // Before a queue is made that nobody would remove.
        super::sender::check(self.kind)
            .and_then(|()| super::receiver::check(self.select))
            .map_err(|error| error.with_address(&name))?;
        let id = self.find(target, access, &name)?;
        Ok(Arc::new(Opened::new(id, name, self.remove)))
    }

    fn find(&self, target: &Target, access: Access, name: &str) -> Result<i32, Error> {
        let key = match target {
            Target::Id(id) => return by_id(*id, access, name),
            Target::Private | Target::Key(libc::IPC_PRIVATE) => {
                return sys::get(libc::IPC_PRIVATE, self.flags(0))
                    .map_err(|error| refused(error, name));
            }
            Target::Key(key) => *key,
            Target::Path { path, project } => {
                ftok(path, *project).map_err(|error| error.with_address(name))?
            }
        };
        if !self.create && !self.exclusive {
            return sys::get(key, access as i32).map_err(|error| refused(error, name));
        }
        let mut attempt = 0;
        loop {
            // In two steps, because with `IPC_CREAT` alone the mode of the new queue would be demanded
            // of one that exists.
            match sys::get(key, self.flags(libc::IPC_CREAT | libc::IPC_EXCL)) {
                Err(error) if is(&error, libc::EEXIST) && !self.exclusive => {}
                done => return done.map_err(|error| refused(error, name)),
            }
            match sys::get(key, access as i32) {
                Err(error) if is(&error, libc::ENOENT) && attempt < ATTEMPTS => attempt += 1,
                done => return done.map_err(|error| refused(error, name)),
            }
        }
    }

    fn flags(&self, flags: i32) -> i32 {
        self.mode.cast_signed() | flags
    }
}

fn by_id(id: i32, access: Access, name: &str) -> Result<i32, Error> {
    match sys::status(id) {
        Ok(_) => Ok(id),
        // It exists, and sending needs no permission to read.
        Err(error) if is(&error, libc::EACCES) && matches!(access, Access::Send) => Ok(id),
        Err(error) if is(&error, libc::EINVAL) || is(&error, libc::EIDRM) => {
            Err(Error::from_io("msgctl", error)
                .with_kind(ErrorKind::NotFound)
                .with_address(name)
                .with_reason("no queue has this id")
                .with_remedy("see `ipcs -q`"))
        }
        Err(error) => Err(refused(error, name)),
    }
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}

fn refused(error: io::Error, name: &str) -> Error {
    let error = Error::from_io("msgget", error).with_address(name);
    match error.errno() {
        Some(libc::ENOSPC) => error
            .with_reason(sysctl::shown("kernel.msgmni"))
            .with_remedy("raise it, or remove queues that nobody needs (`ipcs -q`, `ipcrm -q`)"),
        Some(libc::ENOENT) => error
            .with_reason("there is no such queue")
            .with_remedy("start the process that makes it, or open it with `create`"),
        Some(libc::EEXIST) => error
            .with_reason("there is such a queue, and it was to be new")
            .with_remedy("open it without `exclusive`, or remove it (`ipcrm`)"),
        Some(libc::EACCES) => error
            .with_reason("the queue's mode forbids it to this user")
            .with_remedy("see `ipcs -q -i ID`; its owner can change the mode"),
        _ => error,
    }
}
