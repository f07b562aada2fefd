use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{Error, ErrorKind, Home, MessageSink, TryRecvError, TrySendError};

use super::attributes::Attributes;
use super::message::Message;
use super::receiver::Receiver;
use super::select::Select;
use super::sender::Sender;
use crate::{sys, sysctl};

/// Both directions of a SysV queue, and its administration.
///
/// Sending and receiving are as with the halves, [`Sender`] and [`Receiver`], into which it
/// [splits](Self::split). Note that a queue has no directions of its own: what is sent here can be received
/// here, too, unless types tell who is meant.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_mqueue::sysv::{Message, Options, Select, Target};
///
/// let mut queue = Options::new().remove_on_drop(true).open(Target::Private)?;
/// let mut urgent = queue.select(Select::UpTo(2))?;
///
/// queue.send(Message::from("sweep").with_kind(9)).await?;
/// queue.send(Message::from("fire").with_kind(1)).await?;
/// assert_eq!(queue.attributes()?.messages, 2);
///
/// let first = urgent.recv().await?;
/// assert_eq!(first.as_ref().map(|message| &message.payload()[..]), Some(&b"fire"[..]));
///
/// queue.remove()?;
/// assert_eq!(urgent.recv().await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Queue {
    sender: Sender,
    receiver: Receiver,
}

/// What the halves of an open share.
pub(super) struct Opened {
    pub(super) id: i32,
    name: String,
    remove: bool,
    /// The process that has opened it.
    home: Home,
}

impl Opened {
    pub(super) fn new(id: i32, name: String, remove: bool) -> Self {
        Self {
            id,
            name,
            remove,
            home: Home::here(),
        }
    }

    /// Whether this is the process that has opened it, and not a child that was forked since.
    pub(super) fn is_here(&self) -> bool {
        self.home.is_here()
    }

    pub(super) fn error(&self, operation: &'static str, error: io::Error) -> Error {
        let removed = is_removed(&error);
        let error = Error::from_io(operation, error).with_address(&self.name);
        if removed {
            return error
                .with_kind(ErrorKind::Closed)
                .with_reason("the queue was removed")
                .with_remedy("open it anew");
        }
        match error.errno() {
            Some(libc::EACCES) => error
                .with_reason("the queue's mode forbids it to this user")
                .with_remedy("its owner can change the mode"),
            _ => error,
        }
    }

    /// Whether the queue is there.
    pub(super) fn exists(&self) -> bool {
        match sys::status(self.id) {
            Ok(_) => true,
            Err(error) => error.raw_os_error() == Some(libc::EACCES),
        }
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.with_address(&self.name)
    }

    /// Where a helper thread has failed in what it was asked for.
    pub(super) fn helper_failed(&self, errno: i32) -> Error {
        let error = io::Error::from_raw_os_error(errno);
        if errno != libc::EAGAIN {
            return self.error("msgrcv", error);
        }
        // Only the timer that interrupts it can meet with this.
        self.named(Error::from_io("timer_create", error))
            .with_kind(ErrorKind::LimitExceeded)
            .with_reason("the helper thread gets no timer")
            .with_remedy("raise RLIMIT_SIGPENDING (ulimit -i)")
    }

    /// Where no helper thread can be started.
    pub(super) fn no_helper(&self, operation: &'static str, error: io::Error) -> Error {
        let error = Error::from_io(operation, error)
            .with_address(&self.name)
            .with_detail("a helper thread");
        match error.errno() {
            Some(libc::EAGAIN) => error
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason("the thread cannot be started")
                .with_remedy(
                    "raise RLIMIT_NPROC (ulimit -u), kernel.threads-max or the cgroup's pids.max",
                ),
            _ => error,
        }
    }

    pub(super) fn attributes(&self) -> Result<Attributes, Error> {
        match sys::status(self.id) {
            Ok(status) => Ok(Attributes::of(&status)),
            Err(error) => Err(self.error("msgctl", error)),
        }
    }

    fn set(&self, detail: String, change: impl FnOnce(&mut libc::msqid_ds)) -> Result<(), Error> {
        let mut status = sys::status(self.id).map_err(|error| self.error("msgctl", error))?;
        change(&mut status);
        sys::set_status(self.id, &status).map_err(|error| {
            if is_removed(&error) && self.exists() {
                let error = self.named(Error::from_io("msgctl", error));
                return error.with_detail(detail).with_reason("the kernel takes no such value");
            }
            let error = self.error("msgctl", error).with_detail(detail);
            match error.errno() {
                Some(libc::EPERM) => error
                    .with_reason(format!(
                        "only the queue's owner, its creator and root may; {}, above which only root may",
                        sysctl::shown("kernel.msgmnb")
                    ))
                    .with_remedy("raise kernel.msgmnb, ask for less, or do it as that user"),
                _ => error,
            }
        })
    }

    fn remove(&self) -> Result<(), Error> {
        sys::remove(self.id).map_err(|error| {
            let error = self.error("msgctl", error);
            match error.errno() {
                Some(libc::EPERM) => {
                    error.with_reason("only the queue's owner, its creator and root may remove it")
                }
                _ => error,
            }
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.remove
            && self.is_here()
            && let Err(error) = sys::remove(self.id)
            && !is_removed(&error)
        {
            tracing::warn!(queue = self.name, %error, "cannot remove the queue");
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// `EIDRM` for a queue that goes away meanwhile, `EINVAL` for one that was gone before: the id is never
/// given again soon.
pub(super) fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIDRM | libc::EINVAL))
}

impl Queue {
    pub(super) fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver }
    }

    /// Sends a message, waiting for room where there is none: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Sends a message if there is room now: see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`].
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), TrySendError<Message>> {
        self.sender.try_send(message)
    }

    /// Receives the next message: see [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv().await
    }

    /// Receives a message if one is there: see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As for [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Sends what the sink still has, and closes the sending half: see [`Sender::close`]. The queue stays.
    ///
    /// # Errors
    ///
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// The halves, for different tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sending half.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The receiving half.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Another sender on the same queue.
    pub fn clone_sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Another receiver on the same queue, with a selection of its own.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for a type that is not positive.
    pub fn select(&self, select: Select) -> Result<Receiver, Error> {
        self.receiver.with_select(select)
    }

    /// The kernel's id of the queue, for [`Target::Id`](super::Target::Id) and ipcs(1).
    pub fn id(&self) -> i32 {
        self.opened().id
    }

    /// What is in the queue, who used it last, its owner and mode.
    ///
    /// # Errors
    ///
    /// `EACCES` without permission to read, and of kind [`Closed`](ErrorKind::Closed) once the queue was
    /// removed.
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened().attributes()
    }

    /// Sets how many bytes the queue holds, `msg_qbytes`. What is in it stays, also where that is more.
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the queue's owner, its creator and root; above `kernel.msgmnb`, for anybody
    /// without `CAP_SYS_RESOURCE`.
    pub fn set_max_bytes(&self, bytes: u64) -> Result<(), Error> {
        self.opened().set(format!("msg_qbytes={bytes}"), |status| {
            status.msg_qbytes = bytes as _
        })
    }

    /// Sets the permissions.
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the queue's owner, its creator and root.
    #[allow(clippy::cast_possible_truncation, reason = "nine bits")]
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        self.opened().set(format!("mode={mode:o}"), |status| {
            status.msg_perm.mode = (mode & 0o777) as _;
        })
    }

    /// Sets the owner's user id and group id.
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the queue's owner, its creator and root.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Error> {
        self.opened().set(format!("owner={uid}:{gid}"), |status| {
            status.msg_perm.uid = uid;
            status.msg_perm.gid = gid;
        })
    }

    /// Removes the queue and what is in it, for all processes: whoever receives from it gets the end of
    /// the stream, whoever sends an error of kind [`Closed`](ErrorKind::Closed).
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the queue's owner, its creator and root, and of kind
    /// [`Closed`](ErrorKind::Closed) if it was removed before.
    pub fn remove(&self) -> Result<(), Error> {
        self.opened().remove()
    }

    fn opened(&self) -> &Arc<Opened> {
        self.sender.opened()
    }
}

impl Stream for Queue {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl Sink<Message> for Queue {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}

impl MessageSink for Queue {
    type Native = Message;
}
