use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Error, ErrorKind};

use super::op::Steps;
use super::operation::{Operation, attempt, block};
use super::permit::Permit;
use super::set::Opened;
use super::sys::{self, Step};
use super::units::{SemaphoreSink, SemaphoreStream};

/// One semaphore of a [`Set`](super::Set).
///
/// # Fairness
///
/// Those of this process that wait for the same are woken in the order in which they came; whoever comes
/// just when a unit is given may have it before them. A process that waits *in* the kernel may get it before
/// one that waits like this, too.
///
/// # Examples
///
/// ```
/// use sinew_sync::sysv::{Options, Target};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let set = Options::new().value(2).remove_on_drop(true).open(Target::Private).await?;
/// // Killed, this process does not keep what it has.
/// let slots = set.semaphore(0)?.undo(true);
///
/// let permit = slots.acquire().await?;
/// assert_eq!(slots.value()?, 1);
/// drop(permit);
/// assert_eq!(slots.value()?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    opened: Arc<Opened>,
    index: u16,
    undo: bool,
}

impl Semaphore {
    /// The largest value: `SEMVMX` of semop(2).
    pub const MAX: u16 = 32_767;

    pub(super) fn new(opened: Arc<Opened>, index: u16) -> Self {
        Self {
            opened,
            index,
            undo: false,
        }
    }

    /// Whether the kernel takes back what is done with this handle when the process ends, in whatever way:
    /// `SEM_UNDO`. Default: no.
    ///
    /// What is undone is what the *process* has done: see [the module](super#undo).
    #[must_use]
    pub fn undo(mut self, undo: bool) -> Self {
        self.undo = undo;
        self
    }

    /// Takes a unit, waiting for one where there is none. It is given back when the permit is dropped.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](ErrorKind::Closed) once the set was removed,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) where no helper thread can be started; `EACCES`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the unit is taken in the poll that returns it.
    pub async fn acquire(&self) -> Result<Permit, Error> {
        self.acquire_many(1).await
    }

    /// Takes `count` units at once, waiting until there are as many.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire), and of kind [`InvalidInput`](ErrorKind::InvalidInput) for none or
    /// more than [`MAX`](Self::MAX).
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire).
    pub async fn acquire_many(&self, count: u16) -> Result<Permit, Error> {
        self.operation(self.take(count)?).await?;
        Ok(self.permit(count))
    }

    /// As [`acquire`](Self::acquire), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As for [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, Error> {
        self.opened.within(timeout, self.acquire()).await
    }

    /// Takes a unit if there is one.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Option<Permit>, Error> {
        self.try_acquire_many(1)
    }

    /// Takes `count` units at once if there are as many.
    ///
    /// # Errors
    ///
    /// As for [`acquire_many`](Self::acquire_many).
    pub fn try_acquire_many(&self, count: u16) -> Result<Option<Permit>, Error> {
        let now = Steps::One(self.take(count)?).now();
        let taken = attempt(&self.opened, &now)?;
        Ok(taken.then(|| self.permit(count)))
    }

    /// As [`acquire`](Self::acquire), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, if there is a `timeout`, otherwise as
    /// for [`acquire`](Self::acquire).
    pub fn blocking_acquire(&self, timeout: Option<Duration>) -> Result<Permit, Error> {
        block(&self.opened, &Steps::One(self.take(1)?), timeout)?;
        Ok(self.permit(1))
    }

    /// Waits until there are no units. Permission to read is enough.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_zero(&self) -> Result<(), Error> {
        self.operation(self.step(0)).await
    }

    /// As [`wait_zero`](Self::wait_zero), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_zero_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.opened.within(timeout, self.wait_zero()).await
    }

    /// As [`wait_zero`](Self::wait_zero), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// As for [`blocking_acquire`](Self::blocking_acquire).
    pub fn blocking_wait_zero(&self, timeout: Option<Duration>) -> Result<(), Error> {
        block(&self.opened, &Steps::One(self.step(0)), timeout)
    }

    /// Gives a unit, and wakes whom that helps.
    ///
    /// # Errors
    ///
    /// Of kind [`LimitExceeded`](ErrorKind::LimitExceeded), `ERANGE`, at [`MAX`](Self::MAX);
    /// [`Closed`](ErrorKind::Closed) once the set was removed; `EACCES`.
    pub fn post(&self) -> Result<(), Error> {
        self.post_many(1)
    }

    /// Gives `count` units at once.
    ///
    /// # Errors
    ///
    /// As for [`post`](Self::post), and of kind [`InvalidInput`](ErrorKind::InvalidInput) for none or more
    /// than [`MAX`](Self::MAX).
    pub fn post_many(&self, count: u16) -> Result<(), Error> {
        let now = Steps::One(self.step(self.units(count)?)).now();
        // Giving never has to wait.
        attempt(&self.opened, &now).map(drop)
    }

    /// The units that are to be had; another process may change it at once.
    ///
    /// # Errors
    ///
    /// `EACCES` without permission to read, and of kind [`Closed`](ErrorKind::Closed) once the set was
    /// removed.
    #[doc(alias = "GETVAL")]
    pub fn value(&self) -> Result<u16, Error> {
        let value = self.number(libc::GETVAL)?;
        Ok(u16::try_from(value).unwrap_or(Self::MAX))
    }

    /// Sets the value, and wakes whom that helps. What processes would have undone here is forgotten.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) above [`MAX`](Self::MAX), otherwise as for
    /// [`post`](Self::post).
    #[doc(alias = "SETVAL")]
    pub fn set_value(&self, value: u16) -> Result<(), Error> {
        self.opened.check_value(value)?;
        sys::set_value(self.opened.id, self.index, value)
            .map_err(|error| self.opened.error("semctl", error))
    }

    /// How many wait for units, in the kernel. Those of one process that wait like this with the same
    /// operation are one together.
    ///
    /// # Errors
    ///
    /// As for [`value`](Self::value).
    #[doc(alias = "GETNCNT")]
    pub fn waiting(&self) -> Result<u32, Error> {
        self.number(libc::GETNCNT)
    }

    /// How many wait until there are no units, counted as [`waiting`](Self::waiting) does.
    ///
    /// # Errors
    ///
    /// As for [`value`](Self::value).
    #[doc(alias = "GETZCNT")]
    pub fn waiting_for_zero(&self) -> Result<u32, Error> {
        self.number(libc::GETZCNT)
    }

    /// The process that was the last to do something here, if any has; waiting counts, too.
    ///
    /// # Errors
    ///
    /// As for [`value`](Self::value).
    #[doc(alias = "GETPID")]
    pub fn last_process(&self) -> Result<Option<u32>, Error> {
        let pid = self.number(libc::GETPID)?;
        Ok(Some(pid).filter(|pid| *pid != 0))
    }

    /// Its number in the set.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The kernel's id of the set.
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// A stream with an item for each unit acquired. The units are not given back.
    pub fn into_stream(self) -> SemaphoreStream {
        SemaphoreStream::new(self)
    }

    /// A sink that gives a unit for each item.
    pub fn into_sink(self) -> SemaphoreSink {
        SemaphoreSink::new(self)
    }

    /// Takes a unit for good.
    pub(super) fn taking(&self) -> Operation {
        self.operation(self.step(-1))
    }

    fn permit(&self, count: u16) -> Permit {
        Permit::new(self.clone(), count)
    }

    fn operation(&self, step: Step) -> Operation {
        Operation::new(Arc::clone(&self.opened), Steps::One(step))
    }

    fn step(&self, value: i16) -> Step {
        Step::new(self.index, value).undo(self.undo)
    }

    fn take(&self, count: u16) -> Result<Step, Error> {
        Ok(self.step(-self.units(count)?))
    }

    fn units(&self, count: u16) -> Result<i16, Error> {
        match i16::try_from(count) {
            Ok(units) if units > 0 => Ok(units),
            _ => Err(self.opened.named(
                Error::new(ErrorKind::InvalidInput, "semop")
                    .with_detail(format!("{count} units"))
                    .with_reason("it takes from 1 to 32767 of them")
                    .with_remedy("ask for others"),
            )),
        }
    }

    fn number(&self, command: libc::c_int) -> Result<u32, Error> {
        sys::number(self.opened.id, self.index, command)
            .map_err(|error| self.opened.error("semctl", error))
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("set", &self.opened.name())
            .field("index", &self.index)
            .field("undo", &self.undo)
            .finish_non_exhaustive()
    }
}
