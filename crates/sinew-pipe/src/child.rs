use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use sinew_core::{
    AsyncIo, Error, ErrorKind, FrameCodec, FrameEncoder, Home, MessageSink, TryRecvError,
    TrySendError, attempt,
};
use tokio::io::Interest;

use crate::packet::{PacketReceiver, PacketSender};
use crate::{Options, Receiver, Sender, sys};

/// Has `command` give its process a descriptor under this number, such as one of
/// [`Options::sender`](crate::Options::sender).
///
/// The descriptor stays open in `command`: drop it after it was spawned, or the other side does not see
/// the end.
///
/// # Errors
///
/// `EMFILE`, or `EINVAL` and `EBADF` for a number that no descriptor can have.
///
/// Where the number is in use in this process, `spawn` may fail with `EBUSY`: another thread closed
/// it meanwhile, and the standard library needs it for the start of the process. Spawn again.
///
/// # Examples
///
/// ```
/// use std::process::Command;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut receiver, theirs) = sinew_pipe::Options::new().receiver()?;
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo hello >&7"]);
/// sinew_pipe::pass_fd(&mut command, theirs, 7)?;
/// let mut child = command.spawn()?;
/// drop(command);
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(receiver.recv().await?, None);
/// child.wait()?;
/// # Ok(())
/// # }
/// ```
pub fn pass_fd(command: &mut Command, fd: impl Into<OwnedFd>, number: RawFd) -> Result<(), Error> {
    let fd = fd.into();
    sys::pass(command, fd.as_fd(), number)
        .map_err(|error| Error::from_io("fcntl", error).with_detail(format!("fd={number}")))
}

/// A process that was started, killed when nothing that speaks with it is left, and always reaped.
///
/// One that leads a process group is killed with its whole group.
#[derive(Debug)]
struct Process {
    child: Mutex<std::process::Child>,
    name: String,
    /// The process that has started it.
    home: Home,
}

impl Process {
    fn try_wait(&self) -> io::Result<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait()?.ok_or(io::ErrorKind::WouldBlock.into())
    }

    /// Kills it, unless it has ended, and its group. A process id is not given to another before it
    /// was reaped. In a child that was forked it does nothing.
    fn kill(&self) {
        if !self.home.is_here() {
            return;
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            sys::kill(&child);
        }
    }

    /// The end, or why it is none to be content with.
    fn judge(&self, status: ExitStatus) -> Result<(), Error> {
        if status.success() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PeerCrashed, "exec")
            .with_address(&self.name)
            .with_reason(format!("the process failed: {status}"))
            .with_remedy("look at what it wrote to its standard error"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.home.is_here() || self.try_wait().is_ok() {
            return;
        }
        self.kill();
        // It may take its time to die, for which nobody's worker thread waits. A process id is not
        // given to another before it was reaped, and a zombie would be left if nobody did that.
        if self.try_wait().is_ok() {
            return;
        }
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let pid = rustix::process::Pid::from_child(child);
        let reap = move || sys::reap(pid);
        let reaping = std::thread::Builder::new()
            .name("sinew-reaper".to_owned())
            .stack_size(64 << 10)
            .spawn(reap);
        if reaping.is_err() {
            reap();
        }
    }
}

/// A process with a way to wait for its end.
#[derive(Debug)]
struct Exit {
    pidfd: AsyncIo<OwnedFd>,
    process: Arc<Process>,
}

impl Exit {
    fn new(process: Arc<Process>) -> Result<Self, Error> {
        let pidfd = {
            let child = process.child.lock().unwrap_or_else(PoisonError::into_inner);
            sys::pidfd(&child)
        };
        Ok(Self {
            pidfd: AsyncIo::with_interest(pidfd?, Interest::READABLE)?,
            process,
        })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ended = self.pidfd.poll_read_with(cx, |_| self.process.try_wait());
        Poll::Ready(match ready!(ended) {
            Ok(status) => self.process.judge(status),
            Err(error) => Err(Error::from_io("waitpid", error).with_address(&self.process.name)),
        })
    }
}

/// Messages to a process, through its standard input.
///
/// [`close`](Self::close) ends its input. Where the process was started with
/// [`Options::spawn_sender`](crate::Options::spawn_sender), it then waits for the process, and fails if
/// the process does.
///
/// Dropping it before it was closed kills the process, unless it has ended: its input ends only
/// after that, so that it does not take what it has for all. Dropping both halves of a process
/// kills it, too. Where the command has a
/// [`process_group`](std::os::unix::process::CommandExt::process_group) of its own (0), its
/// children in that group are killed with it.
#[derive(Debug)]
pub struct ChildSender<S = Sender> {
    // Dropped before `sender`, so that the process has been killed when its input ends.
    exit: Exit,
    sender: S,
    /// Whether nobody receives what the process says.
    alone: bool,
    /// Whether its input was ended, or it reads no more.
    closed: bool,
}

/// Messages from a process, through its standard output: a `Stream`.
///
/// At the end of what the process writes, it waits for the process: `None` if it was successful, an error
/// with [`is_peer_crashed`](Error::is_peer_crashed) and the exit status if it was not.
#[derive(Debug)]
pub struct ChildReceiver<R = Receiver> {
    receiver: R,
    exit: Exit,
    end: Option<Result<(), Error>>,
    yielded: bool,
}

impl<S> Drop for ChildSender<S> {
    fn drop(&mut self) {
        if !self.closed {
            self.exit.process.kill();
        }
    }
}

impl<S> ChildSender<S> {
    /// The process number.
    pub fn id(&self) -> u32 {
        id(&self.exit.process)
    }

    /// The sender inside.
    pub fn get_ref(&self) -> &S {
        &self.sender
    }

    /// A process that reads no more takes nothing for its end, and may still have something to say.
    fn noted<T>(&mut self, sent: Result<T, Error>) -> Result<T, Error> {
        self.closed |= matches!(&sent, Err(error) if error.is_closed());
        sent
    }

    /// The sender inside, with all that it can.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.sender
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        S: Sink<Bytes, Error = Error> + Unpin,
    {
        let ended = ready!(Pin::new(&mut self.sender).poll_close(cx));
        self.closed |= ended.is_ok();
        self.noted(ended)?;
        match self.alone {
            true => self.exit.poll(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl ChildSender<Sender> {
    /// Sends a message: see [`FrameWriter::send`](sinew_core::FrameWriter::send).
    ///
    /// # Errors
    ///
    /// Those of [`FrameWriter::send`](sinew_core::FrameWriter::send); of kind
    /// [`Closed`](ErrorKind::Closed) if the process reads no more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`FrameWriter::send`](sinew_core::FrameWriter::send).
    pub async fn send<M>(&mut self, message: M) -> Result<(), Error>
    where
        FrameCodec: FrameEncoder<M>,
    {
        let sent = self.sender.send(message).await;
        self.noted(sent)
    }

    /// Sends a message if there is room now: see
    /// [`FrameWriter::try_send`](sinew_core::FrameWriter::try_send).
    ///
    /// # Errors
    ///
    /// Those of [`FrameWriter::try_send`](sinew_core::FrameWriter::try_send).
    pub fn try_send<M>(&mut self, message: M) -> Result<(), TrySendError<M>>
    where
        FrameCodec: FrameEncoder<M>,
    {
        self.sender.try_send(message)
    }
}

impl ChildSender<PacketSender> {
    /// Sends a packet: see [`PacketSender::send`].
    ///
    /// # Errors
    ///
    /// Those of [`PacketSender::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`PacketSender::send`].
    pub async fn send(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let sent = self.sender.send(payload).await;
        self.noted(sent)
    }

    /// Sends a packet if there is room now: see [`PacketSender::try_send`].
    ///
    /// # Errors
    ///
    /// Those of [`PacketSender::try_send`].
    pub fn try_send<T: AsRef<[u8]>>(&mut self, payload: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(payload)
    }
}

impl<S: Sink<Bytes, Error = Error> + Unpin> ChildSender<S> {
    /// Sends what was accepted, and ends the input of the process. If nobody receives what the process
    /// says, it waits for its end too.
    ///
    /// # Errors
    ///
    /// Those of sending, and with [`is_peer_crashed`](Error::is_peer_crashed) if the process fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_end(cx)).await
    }
}

impl<S: Sink<Bytes, Error = Error> + Unpin> Sink<Bytes> for ChildSender<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = ready!(Pin::new(&mut self.sender).poll_ready(cx));
        Poll::Ready(self.noted(ready))
    }

    fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(payload)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sent = ready!(Pin::new(&mut self.sender).poll_flush(cx));
        Poll::Ready(self.noted(sent))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_end(cx)
    }
}

impl<S: Sink<Bytes, Error = Error> + Unpin> MessageSink for ChildSender<S> {
    type Native = Bytes;
}

impl<R> ChildReceiver<R> {
    /// The process number.
    pub fn id(&self) -> u32 {
        id(&self.exit.process)
    }

    /// The receiver inside.
    pub fn get_ref(&self) -> &R {
        &self.receiver
    }
}

impl<R: Stream<Item = Result<Bytes, Error>> + Unpin> ChildReceiver<R> {
    /// Receives the next message; `None` once the process has ended with success.
    ///
    /// # Errors
    ///
    /// Those of receiving, and with [`is_peer_crashed`](Error::is_peer_crashed) if the process has failed.
    /// They are repeated.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the poll that returns it.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a message if one is there.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if none is there now, [`Closed`](TryRecvError::Closed) once the
    /// process has ended with success, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        match attempt(|cx| self.poll_recv(cx)) {
            None => Err(TryRecvError::Empty),
            Some(Ok(Some(message))) => Ok(message),
            Some(Ok(None)) => Err(TryRecvError::Closed),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if let Some(end) = &self.end {
            return Poll::Ready(end.clone().map(|()| None));
        }
        let end = match ready!(Pin::new(&mut self.receiver).poll_next(cx)) {
            Some(Ok(message)) => return Poll::Ready(Ok(Some(message))),
            Some(Err(error)) if error.is_recoverable() => return Poll::Ready(Err(error)),
            Some(Err(error)) => Err(error),
            None => ready!(self.exit.poll(cx)),
        };
        self.end = Some(end.clone());
        Poll::Ready(end.map(|()| None))
    }
}

impl<R: Stream<Item = Result<Bytes, Error>> + Unpin> Stream for ChildReceiver<R> {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.yielded {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx)).transpose();
        self.yielded = matches!(self.end, Some(Err(_)));
        Poll::Ready(item)
    }
}

fn id(process: &Process) -> u32 {
    let child = process.child.lock().unwrap_or_else(PoisonError::into_inner);
    child.id()
}

impl Options {
    /// Starts a process, to send messages to its standard input and receive them from its standard
    /// output. Its standard error is that of this process, unless `command` says otherwise.
    ///
    /// Both halves have to be used at once: a process that nobody reads from stops reading.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such program, and the limits of fork(2) and pipe(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sinew_core::Error> {
    /// let (mut sender, mut receiver) = sinew_pipe::Options::new().spawn(&mut Command::new("sort"))?;
    /// sender.send("b").await?;
    /// sender.send("a").await?;
    /// sender.close().await?;
    /// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"a"[..]));
    /// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"b"[..]));
    /// assert_eq!(receiver.recv().await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn(&self, command: &mut Command) -> Result<(ChildSender, ChildReceiver), Error> {
        let (sender, stdin) = self.sender()?;
        let (receiver, stdout) = self.receiver()?;
        let (sender, receiver) = (
            sender.with_address(name(command)),
            receiver.with_address(name(command)),
        );
        spawn(command, sender, receiver, stdin, stdout)
    }

    /// As [`spawn`](Self::spawn), with packets.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_packets(
        &self,
        command: &mut Command,
    ) -> Result<(ChildSender<PacketSender>, ChildReceiver<PacketReceiver>), Error> {
        let (sender, stdin) = self.packet_sender()?;
        let (receiver, stdout) = self.packet_receiver()?;
        let (sender, receiver) = (
            sender.with_address(name(command)),
            receiver.with_address(name(command)),
        );
        spawn(command, sender, receiver, stdin, stdout)
    }

    /// Starts a process to send messages to its standard input. Its standard output is that of this
    /// process.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_sender(&self, command: &mut Command) -> Result<ChildSender, Error> {
        let (sender, stdin) = self.sender()?;
        let sender = sender.with_address(name(command));
        spawn_sender(command, sender, stdin)
    }

    /// As [`spawn_sender`](Self::spawn_sender), with packets.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_packet_sender(
        &self,
        command: &mut Command,
    ) -> Result<ChildSender<PacketSender>, Error> {
        let (sender, stdin) = self.packet_sender()?;
        let sender = sender.with_address(name(command));
        spawn_sender(command, sender, stdin)
    }

    /// Starts a process to receive messages from its standard output. Its standard input is empty.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_receiver(&self, command: &mut Command) -> Result<ChildReceiver, Error> {
        let (receiver, stdout) = self.receiver()?;
        let receiver = receiver.with_address(name(command));
        spawn_receiver(command, receiver, stdout)
    }

    /// As [`spawn_receiver`](Self::spawn_receiver), with packets.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_packet_receiver(
        &self,
        command: &mut Command,
    ) -> Result<ChildReceiver<PacketReceiver>, Error> {
        let (receiver, stdout) = self.packet_receiver()?;
        let receiver = receiver.with_address(name(command));
        spawn_receiver(command, receiver, stdout)
    }
}

fn name(command: &Command) -> String {
    command.get_program().display().to_string()
}

fn start(command: &mut Command) -> Result<Arc<Process>, Error> {
    let name = name(command);
    let started = command.spawn();
    // What is in the command would stay open here.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = started.map_err(|error| {
        let not_found = error.kind() == io::ErrorKind::NotFound;
        let error = Error::from_io("exec", error).with_address(&name);
        match not_found {
            true => error.with_remedy("check the name of the program, and PATH"),
            false => error,
        }
    })?;
    Ok(Arc::new(Process {
        child: Mutex::new(child),
        name,
        home: Home::here(),
    }))
}

fn spawn<S, R>(
    command: &mut Command,
    sender: S,
    receiver: R,
    stdin: OwnedFd,
    stdout: OwnedFd,
) -> Result<(ChildSender<S>, ChildReceiver<R>), Error> {
    let process = start(command.stdin(stdin).stdout(stdout))?;
    Ok((
        ChildSender {
            sender,
            exit: Exit::new(Arc::clone(&process))?,
            alone: false,
            closed: false,
        },
        ChildReceiver {
            receiver,
            exit: Exit::new(process)?,
            end: None,
            yielded: false,
        },
    ))
}

fn spawn_sender<S>(
    command: &mut Command,
    sender: S,
    stdin: OwnedFd,
) -> Result<ChildSender<S>, Error> {
    Ok(ChildSender {
        sender,
        exit: Exit::new(start(command.stdin(stdin).stdout(Stdio::inherit()))?)?,
        alone: true,
        closed: false,
    })
}

fn spawn_receiver<R>(
    command: &mut Command,
    receiver: R,
    stdout: OwnedFd,
) -> Result<ChildReceiver<R>, Error> {
    Ok(ChildReceiver {
        receiver,
        exit: Exit::new(start(command.stdin(Stdio::null()).stdout(stdout))?)?,
        end: None,
        yielded: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Stands for the pipe of a sender, and waits until the process has ended before it closes.
    struct Probe {
        process: Arc<std::sync::OnceLock<u32>>,
        in_order: Arc<Mutex<bool>>,
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let Some(process) = self.process.get() else {
                return;
            };
            let process = format!("/proc/{process}");
            let ended = (0..1000).any(|_| {
                std::thread::sleep(Duration::from_millis(2));
                !std::path::Path::new(&process).exists()
            });
            *self.in_order.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        }
    }

    #[tokio::test]
    async fn a_process_is_killed_before_its_input_ends() -> Result<(), Error> {
        let process = Arc::default();
        let in_order = Arc::default();
        let probe = Probe {
            process: Arc::clone(&process),
            in_order: Arc::clone(&in_order),
        };
        let (_sender, stdin) = Options::new().sender()?;
        let sender = spawn_sender(&mut Command::new("cat"), probe, stdin)?;
        let _first = process.set(sender.id());
        drop(sender);
        assert!(*in_order.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
