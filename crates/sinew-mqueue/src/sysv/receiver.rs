use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use libc::{c_int, c_long};
use sinew_core::{AdaptiveSpin, Error, ErrorKind, Looks, TryRecvError, put_chunks};
use tokio::task::coop;

use super::attributes::Attributes;
use super::demand::Look;
use super::message::Message;
use super::queue::{Opened, is_removed};
use super::select::Select;
use super::watch::Watcher;
use crate::payload::Buffer;
use crate::sys::{self, TAG};

/// Room for a payload to begin with, bytes; `kernel.msgmax` where nobody has changed it.
const FIRST: usize = 8192;
/// No sysctl is above this.
const LONGEST: usize = i32::MAX as usize;

/// The half of a [`Queue`](super::Queue) that receives: a `Stream` of [`Message`]s.
///
/// Several receivers, in any processes, may share a queue; each message goes to one of them.
///
/// # How it waits
///
/// A SysV queue cannot be polled. A receiver tries by itself, without blocking, in the poll of its future. If
/// there is nothing, it tries again for up to 100 µs as long as that has lately paid off. Then a helper
/// thread waits in the kernel, but takes nothing: it asks for a message without room for a payload, so that
/// the kernel answers that there is one and leaves it where it is. So a receiver that is dropped while
/// it waits loses nothing and disturbs no order. (A message *without* payload is taken by that call. If its
/// receiver is dropped at that moment, it goes to the next one in this process, or back to the end of the
/// queue. Without permission to write it stays with this process for the next receiver of the same
/// selection.) A process that waits *in* the kernel for a message may therefore get it before one that waits
/// like this.
///
/// There is one helper for each queue and selection in a process; it ends with the last receiver, or after a
/// second without use. It is interrupted by a signal that nobody else gets, `SIGURG` directed at that
/// thread. A handler that the program has for `SIGURG` by then is kept, and called for all others; one that
/// is installed later sees ours, too, and like any handler of this signal must not mind.
///
/// # Memory
///
/// Payloads from 1 KiB on are not copied: they share the memory into which the kernel has written them, of two
/// messages of full length, and it is used again once they are dropped. What is kept keeps at most eight
/// times its length; to keep many for long, copy them.
///
/// # Its end
///
/// The stream ends (`None`) when the queue is removed; nothing else ends it, because a queue does not know
/// whether somebody will send.
///
/// # Messages that are too long
///
/// A message above [`max_message`](super::Options::max_message) stays in the queue, whole. `recv` says so
/// each time; the stream says so once and is over. [`set_max_message`](Self::set_max_message) lets both go on.
pub struct Receiver {
    opened: Arc<Opened>,
    select: Select,
    arguments: (c_long, c_int),
    watcher: Watcher,
    spin: AdaptiveSpin,
    buffer: Buffer,
    /// Bytes of a payload for which there is room.
    room: usize,
    max_message: Option<usize>,
    ended: bool,
    /// The stream has yielded an error, and is over.
    fused: bool,
}

/// What a try without waiting found.
enum Found {
    /// A message, which is in the buffer.
    Message,
    Nothing,
    Removed,
}

impl Receiver {
    pub(super) fn new(
        opened: Arc<Opened>,
        select: Select,
        max_message: Option<usize>,
    ) -> Result<Self, Error> {
        check(select).map_err(|error| opened.named(error))?;
        let arguments = select
            .arguments()
            .map_err(|error| opened.named(Error::from_io("msgrcv", error)))?;
        Ok(Self {
            watcher: Watcher::new(opened.id, select),
            opened,
            select,
            arguments,
            spin: AdaptiveSpin::adaptive(),
            buffer: Buffer::default(),
            room: FIRST.min(max_message.unwrap_or(FIRST)),
            max_message,
            ended: false,
            fused: false,
        })
    }

    /// Receives the next message; `None` once the queue was removed.
    ///
    /// # Errors
    ///
    /// Of kind [`LimitExceeded`](ErrorKind::LimitExceeded) for a message that is too long, see
    /// [above](Self#messages-that-are-too-long), or where no helper thread can be started; `EACCES` without
    /// permission to read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_recv(cx)).await
    }

    /// Receives the next message by appending its payload to `buffer`, which saves the allocation. Returns
    /// its type, or `None` as [`recv`](Self::recv) does.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<i64>, Error> {
        let waiting = Waiting(self);
        if !poll_fn(|cx| waiting.0.poll_found(cx)).await? {
            return Ok(None);
        }
        let (kind, payload) = waiting.0.found();
        put_chunks(buffer, payload);
        Ok(Some(kind))
    }

    /// Receives a message if one is there.
    ///
    /// Right after a `recv` was dropped that had been waiting, the helper thread may still be in the
    /// kernel. Until it is back, this says `Empty`, so that no message can overtake another.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) once the
    /// queue was removed, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if self.ended {
            return Err(TryRecvError::Closed);
        }
        let found = match self.watcher.look(None) {
            Look::Try => self.attempt()?,
            Look::Empty(kind) => self.empty(kind),
            Look::Failed(errno) => self.helper_failed(errno)?,
            Look::Wait => Found::Nothing,
        };
        match found {
            Found::Message => Ok(self.take()),
            Found::Nothing => Err(TryRecvError::Empty),
            Found::Removed => Err(TryRecvError::Closed),
        }
    }

    /// Another receiver on the same queue, with a selection of its own.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for a type that is not positive.
    pub fn with_select(&self, select: Select) -> Result<Self, Error> {
        Self::new(Arc::clone(&self.opened), select, self.max_message)
    }

    /// Changes the longest message that is received, bytes, or lifts the limit. An end of the stream that
    /// came of a longer one is over.
    pub fn set_max_message(&mut self, bytes: Option<usize>) {
        self.max_message = bytes;
        self.room = self.room.min(bytes.unwrap_or(self.room));
        self.fused = false;
    }

    /// Which messages this receiver takes.
    pub fn select(&self) -> Select {
        self.select
    }

    /// The kernel's id of the queue.
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// What is in the queue, who used it last, its owner and mode.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](ErrorKind::Closed) once the queue was removed.
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened.attributes()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        let found = ready!(self.poll_found(cx))?;
        Poll::Ready(Ok(found.then(|| self.take())))
    }

    /// Ready with `true` once there is a message in the buffer.
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        let turn = ready!(coop::poll_proceed(cx));
        let mut look = self.watcher.look(Some(cx.waker()));
        loop {
            let found = match look {
                Look::Try => self.attempt()?,
                Look::Empty(kind) => self.empty(kind),
                Look::Failed(errno) => self.helper_failed(errno)?,
                Look::Wait => {
                    self.spin.reset();
                    return Poll::Pending;
                }
            };
            match found {
                Found::Message => {
                    turn.made_progress();
                    self.spin.succeed();
                    return Poll::Ready(Ok(true));
                }
                Found::Removed => return Poll::Ready(Ok(false)),
                Found::Nothing => {}
            }
            look = match ready!(self.spin.poll_again(cx, Looks::RECEIVE)) {
                true => self.watcher.look(Some(cx.waker())),
                false => self.wait(cx.waker())?,
            };
        }
    }

    fn wait(&mut self, waker: &Waker) -> Result<Look, Error> {
        self.watcher
            .wait(waker)
            .map_err(|error| self.opened.no_helper("recv", error))
    }

    fn attempt(&mut self) -> Result<Found, Error> {
        let (kind, flags) = self.arguments;
        loop {
            let received = sys::receive(self.opened.id, &mut self.buffer, self.room, kind, flags);
            let Err(error) = received else {
                return Ok(Found::Message);
            };
            match error.raw_os_error() {
                Some(libc::ENOMSG) => return Ok(Found::Nothing),
                Some(libc::EINTR) => {}
                Some(libc::E2BIG) => self.grow(error)?,
                _ if is_removed(&error) => return Ok(self.removed()),
                _ => return Err(self.opened.error("msgrcv", error)),
            }
        }
    }

    /// Makes room for a message that was too long; it has stayed in the queue.
    #[cold]
    fn grow(&mut self, error: io::Error) -> Result<(), Error> {
        let most = self.max_message.unwrap_or(LONGEST).min(LONGEST);
        if self.room < most {
            self.room = (self.room.max(FIRST) * 2).min(most);
            return Ok(());
        }
        Err(self.opened.named(
            Error::from_io("msgrcv", error)
                .with_kind(ErrorKind::LimitExceeded)
                .with_detail(format!("max_message={most}"))
                .with_reason("the next message is longer; it has stayed in the queue")
                .with_remedy("raise max_message"),
        ))
    }

    fn helper_failed(&mut self, errno: i32) -> Result<Found, Error> {
        if is_removed(&io::Error::from_raw_os_error(errno)) {
            return Ok(self.removed());
        }
        Err(self.opened.helper_failed(errno))
    }

    fn removed(&mut self) -> Found {
        self.ended = true;
        Found::Removed
    }

    fn empty(&mut self, kind: i64) -> Found {
        let memory = self.buffer.prepare(TAG, 1);
        // It comes from a tag, so that it is one.
        if let Ok(tag) = sys::tag(kind) {
            memory.extend_from_slice(&tag.to_ne_bytes());
        }
        Found::Message
    }

    fn found(&self) -> (i64, &[u8]) {
        match self.buffer.bytes().split_first_chunk::<TAG>() {
            Some((tag, payload)) => (sys::kind_of(c_long::from_ne_bytes(*tag)), payload),
            None => (0, &[]),
        }
    }

    fn take(&mut self) -> Message {
        let (kind, _) = self.found();
        Message::new(self.buffer.take(TAG)).with_kind(kind)
    }
}

/// Whether messages can have the type that is selected.
pub(super) fn check(select: Select) -> Result<(), Error> {
    if select.kind().is_none_or(|kind| kind > 0) && select.arguments().is_ok() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "msgrcv")
        .with_detail(select.to_string())
        .with_reason("a message's type is positive, and fits in a long")
        .with_remedy("select such a type, or Select::Any"))
}

/// Ends the wait of a future that is dropped.
struct Waiting<'a>(&'a mut Receiver);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.watcher.withdraw();
        self.0.spin.reset();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queue", &self.opened)
            .field("select", &self.select)
            .finish_non_exhaustive()
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.fused {
            return Poll::Ready(None);
        }
        let item = ready!(receiver.poll_recv(cx));
        receiver.fused = item.is_err();
        Poll::Ready(item.transpose())
    }
}
