use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::time;
use sinew_core::{Error, ErrorKind, Home};

use super::attributes::{Attributes, count};
use super::demand::Failure;
use super::limits::shown;
use super::op::{Op, Steps};
use super::operation::{Operation, attempt, block};
use super::semaphore::Semaphore;
use super::sys::{self, Step};
use super::watch;

/// A set of semaphores, and its administration.
///
/// It is a handle: clones are of the same set.
///
/// # Examples
///
/// ```
/// use sinew_sync::sysv::{Op, Options, Target};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let set = Options::new().count(2).remove_on_drop(true).open(Target::Private).await?;
/// set.set_values(&[3, 0])?;
///
/// // Two of the first become one of the second, or nothing happens.
/// set.apply(&[Op::new(0, -2), Op::new(1, 1)]).await?;
/// assert_eq!(set.values()?, [1, 1]);
/// assert!(!set.try_apply(&[Op::new(0, -2), Op::new(1, 1)])?);
///
/// set.remove()?;
/// assert!(set.values().is_err_and(|error| error.is_closed()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Set {
    opened: Arc<Opened>,
}

/// What the handles on a set share.
pub(super) struct Opened {
    pub(super) id: i32,
    pub(super) count: u16,
    name: String,
    remove: bool,
    /// The process that has opened it.
    home: Home,
}

impl Set {
    pub(super) fn new(opened: Opened) -> Self {
        Self {
            opened: Arc::new(opened),
        }
    }

    /// One semaphore of the set, by its number, from 0 on.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if the set has fewer.
    pub fn semaphore(&self, index: u16) -> Result<Semaphore, Error> {
        self.opened.check(index)?;
        Ok(Semaphore::new(Arc::clone(&self.opened), index))
    }

    /// Does all of these at once, waiting until all can be done: nobody sees a part of it.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where one would have to wait that [is not to](Op::nowait); of kind
    /// [`Closed`](ErrorKind::Closed) once the set was removed,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for more than `SEMOPM` of them, a value above
    /// [`Semaphore::MAX`], or where no helper thread can be started;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for none, or for a semaphore that the set does not have.
    /// `EACCES`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has done nothing.
    #[doc(alias = "semop")]
    pub async fn apply(&self, ops: &[Op]) -> Result<(), Error> {
        let steps = self.steps(ops)?;
        Operation::new(Arc::clone(&self.opened), steps).await
    }

    /// As [`apply`](Self::apply), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, otherwise as for
    /// [`apply`](Self::apply).
    ///
    /// # Cancel safety
    ///
    /// As for [`apply`](Self::apply).
    #[doc(alias = "semtimedop")]
    pub async fn apply_timeout(&self, ops: &[Op], timeout: Duration) -> Result<(), Error> {
        self.opened.within(timeout, self.apply(ops)).await
    }

    /// Does all of these at once if all can be done now, and says whether it has.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub fn try_apply(&self, ops: &[Op]) -> Result<bool, Error> {
        attempt(&self.opened, &self.steps(ops)?.now())
    }

    /// As [`apply`](Self::apply), for a thread that is not part of a runtime.
    ///
    /// It blocks the thread: do not call it in a task.
    ///
    /// # Errors
    ///
    /// Of kind [`TimedOut`](ErrorKind::TimedOut) when the time is up, if there is a `timeout`, otherwise as
    /// for [`apply`](Self::apply).
    pub fn blocking_apply(&self, ops: &[Op], timeout: Option<Duration>) -> Result<(), Error> {
        block(&self.opened, &self.steps(ops)?, timeout)
    }

    /// The kernel's id of the set, for [`Target::Id`](super::Target::Id) and ipcs(1).
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// How many semaphores it has.
    pub fn count(&self) -> u16 {
        self.opened.count
    }

    /// All values, as they were at one moment.
    ///
    /// # Errors
    ///
    /// `EACCES` without permission to read, and of kind [`Closed`](ErrorKind::Closed) once the set was
    /// removed.
    #[doc(alias = "GETALL")]
    pub fn values(&self) -> Result<Vec<u16>, Error> {
        sys::values(self.opened.id, self.opened.count)
            .map_err(|error| self.opened.error("semctl", error))
    }

    /// Sets all values at once, and wakes whom that helps. What processes would have undone is forgotten.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) unless there is one for each semaphore, and each
    /// at most [`Semaphore::MAX`]; `EACCES`; of kind [`Closed`](ErrorKind::Closed) once the set was removed.
    #[doc(alias = "SETALL")]
    pub fn set_values(&self, values: &[u16]) -> Result<(), Error> {
        if values.len() != usize::from(self.opened.count) {
            return Err(self.opened.named(
                Error::new(ErrorKind::InvalidInput, "semctl")
                    .with_detail(format!("{} values", values.len()))
                    .with_reason(format!("the set has {} semaphores", self.opened.count))
                    .with_remedy("give a value for each"),
            ));
        }
        values
            .iter()
            .try_for_each(|value| self.opened.check_value(*value))?;
        sys::set_values(self.opened.id, values).map_err(|error| self.opened.error("semctl", error))
    }

    /// Its owner and mode, and when it was used.
    ///
    /// # Errors
    ///
    /// As for [`values`](Self::values).
    #[doc(alias = "IPC_STAT")]
    pub fn attributes(&self) -> Result<Attributes, Error> {
        self.opened.status().map(|status| Attributes::of(&status))
    }

    /// Sets the permissions.
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the set's owner, its creator and root.
    #[allow(clippy::cast_possible_truncation, reason = "nine bits")]
    #[doc(alias = "IPC_SET")]
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        self.opened.set(format!("mode={mode:o}"), |status| {
            status.sem_perm.mode = (mode & 0o777) as _;
        })
    }

    /// Sets the owner's user id and group id.
    ///
    /// # Errors
    ///
    /// As for [`set_mode`](Self::set_mode).
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Error> {
        self.opened.set(format!("owner={uid}:{gid}"), |status| {
            status.sem_perm.uid = uid;
            status.sem_perm.gid = gid;
        })
    }

    /// Removes the set. Everybody who waits is woken with an error of kind [`Closed`](ErrorKind::Closed),
    /// in whatever process; streams end.
    ///
    /// # Errors
    ///
    /// `EPERM` for anybody but the set's owner, its creator and root; of kind
    /// [`Closed`](ErrorKind::Closed) if it was removed before.
    #[doc(alias = "IPC_RMID")]
    pub fn remove(&self) -> Result<(), Error> {
        sys::remove(self.opened.id).map_err(|error| self.opened.not_owner("remove it", error))
    }

    fn steps(&self, ops: &[Op]) -> Result<Steps, Error> {
        if ops.is_empty() {
            return Err(self.opened.named(
                Error::new(ErrorKind::InvalidInput, "semop")
                    .with_reason("there are no operations")
                    .with_remedy("give one at least"),
            ));
        }
        ops.iter()
            .try_for_each(|op| self.opened.check(op.index()))?;
        Ok(Steps::new(ops))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.opened.fmt(f)
    }
}

/// `EIDRM` for a set that goes away meanwhile, `EINVAL` for one that was gone before: the id is never given
/// again soon.
pub(super) fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIDRM | libc::EINVAL))
}

impl Opened {
    pub(super) fn new(id: i32, count: u16, name: String, remove: bool) -> Self {
        Self {
            id,
            count,
            name,
            remove,
            home: Home::here(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.with_address(&self.name)
    }

    fn check(&self, index: u16) -> Result<(), Error> {
        if index < self.count {
            return Ok(());
        }
        Err(self.named(
            Error::new(ErrorKind::InvalidInput, "semop")
                .with_detail(format!("semaphore {index}"))
                .with_reason(format!("the set has {}, from 0 on", self.count))
                .with_remedy("choose one of them, or make a larger set"),
        ))
    }

    pub(super) fn check_value(&self, value: u16) -> Result<(), Error> {
        check_value(value).map_err(|error| self.named(error))
    }

    pub(super) fn status(&self) -> Result<libc::semid_ds, Error> {
        sys::status(self.id).map_err(|error| self.error("semctl", error))
    }

    pub(super) fn error(&self, operation: &'static str, error: io::Error) -> Error {
        let removed = is_removed(&error);
        let error = self.named(Error::from_io(operation, error));
        if removed {
            return error
                .with_kind(ErrorKind::Closed)
                .with_reason("the set was removed")
                .with_remedy("open it anew");
        }
        match error.errno() {
            Some(libc::EACCES) => error
                .with_reason("the set's mode forbids it to this user")
                .with_remedy("its owner can change the mode"),
            _ => error,
        }
    }

    pub(super) fn operation_failed(&self, error: io::Error, steps: &[Step]) -> Error {
        let error = self.error("semop", error);
        let undo = steps.iter().any(|step| step.is_undo());
        match error.errno() {
            Some(libc::E2BIG) => error
                .with_kind(ErrorKind::LimitExceeded)
                .with_detail(format!("{} operations", steps.len()))
                .with_reason(shown("SEMOPM", |limits| limits.semopm))
                .with_remedy("do fewer at once, or raise its third number"),
            Some(libc::ERANGE) => error
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason(match undo {
                    true => "a value, or what would be undone, would be above SEMVMX, 32767",
                    false => "a value would be above SEMVMX, 32767",
                })
                .with_remedy("acquire before giving more"),
            Some(libc::ENOSPC | libc::ENOMEM) if undo => {
                error.with_reason("the kernel has no room for what is to be undone")
            }
            _ => error,
        }
    }

    /// Where one operation would have to wait that is not to.
    pub(super) fn refused(&self) -> Error {
        self.named(Error::from_raw_os_error("semop", libc::EAGAIN))
            .with_reason("an operation would have to wait that is not to (IPC_NOWAIT)")
            .with_remedy("try again later, or let it wait")
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Error {
        self.named(Error::new(ErrorKind::TimedOut, "semop"))
            .with_reason(format!("it could not be done within {timeout:?}"))
    }

    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let done = time::timeout(timeout, work).await?;
        done.unwrap_or_else(|| Err(self.timed_out(timeout)))
    }

    /// Where the helper has failed in what it was asked for.
    pub(super) fn helper_failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused => self.refused(),
            Failure::Call(errno) => self.operation_failed(io::Error::from_raw_os_error(errno), &[]),
            Failure::Timer(errno) => self
                .named(Error::from_raw_os_error("timer_create", errno))
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason("the helper thread gets no timer")
                .with_remedy("raise RLIMIT_SIGPENDING (ulimit -i)"),
        }
    }

    /// Where no helper thread can be started.
    pub(super) fn no_helper(&self, error: io::Error) -> Error {
        let error = self
            .named(Error::from_io("semop", error))
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

    fn set(&self, detail: String, change: impl FnOnce(&mut libc::semid_ds)) -> Result<(), Error> {
        let mut status = self.status()?;
        change(&mut status);
        sys::set_status(self.id, &status)
            .map_err(|error| self.not_owner("change it", error).with_detail(detail))
    }

    fn not_owner(&self, what: &str, error: io::Error) -> Error {
        let error = self.error("semctl", error);
        match error.errno() {
            Some(libc::EPERM) => error.with_reason(format!(
                "only the set's owner, its creator and root may {what}"
            )),
            _ => error,
        }
    }
}

pub(super) fn check_value(value: u16) -> Result<(), Error> {
    if value <= Semaphore::MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "semctl")
        .with_detail(format!("value={value}"))
        .with_reason("SEMVMX is 32767")
        .with_remedy("ask for fewer units"))
}

impl Drop for Opened {
    fn drop(&mut self) {
        watch::close(self.id);
        if self.remove
            && self.home.is_here()
            && let Err(error) = sys::remove(self.id)
            && !is_removed(&error)
        {
            tracing::warn!(set = self.name, %error, "cannot remove the semaphores");
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// How many semaphores a set has, by its id.
pub(super) fn size(id: i32) -> io::Result<u16> {
    sys::status(id).map(|status| count(&status))
}
