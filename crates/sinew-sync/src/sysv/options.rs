use std::io;
use std::time::{Duration, Instant};

use sinew_core::sysv::{Target, ftok};
use sinew_core::time;
use sinew_core::{Error, ErrorKind};

use super::attributes::count;
use super::limits::shown;
use super::semaphore::Semaphore;
use super::set::{Opened, Set, check_value, is_removed, size};
use super::sys::{self, Step};

/// How a set of SysV semaphores is opened.
///
/// | option | default | |
/// |---|---|---|
/// | [`create`](Self::create) | no | make the set where there is none |
/// | [`exclusive`](Self::exclusive) | no | fail where there is one |
/// | [`count`](Self::count) | 1 | semaphores of a set that is made |
/// | [`value`](Self::value) | 0 | units of each semaphore of a set that is made |
/// | [`mode`](Self::mode) | 600 | permissions of a set that is made |
/// | [`read_only`](Self::read_only) | no | permission to read is enough |
/// | [`init_timeout`](Self::init_timeout) | 5 s | for how long to wait until a set is initialised |
/// | [`remove_on_drop`](Self::remove_on_drop) | no | remove the set after use |
///
/// # A set that is not initialised
///
/// The kernel makes a set first, and its values are set after that. So that nobody uses one in between,
/// opening waits until semop(2) was used on it, with which this crate sets the values, or, if it is a set of
/// one, until it has units. A set that stays as it was made is an error: its creator has died, or is a program that does not
/// follow this old custom (ipcmk(1), for example). Opening by [id](Target::Id) does not wait: who
/// knows the id has it from its creator.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// use sinew_sync::sysv::{Options, Target};
///
/// let options = Options::new().count(3).value(1).remove_on_drop(true);
/// let set = options.open(Target::Private).await?;
/// assert_eq!(set.values()?, [1, 1, 1]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    create: bool,
    exclusive: bool,
    count: Option<u16>,
    value: u16,
    mode: u32,
    read_only: bool,
    init_timeout: Option<Duration>,
    remove: bool,
}

const READ: u32 = 0o400;
const BOTH: u32 = 0o600;
/// Between a create that finds a set and an open that finds none, somebody has removed it. Whoever does that
/// so often does not want it to be opened.
const ATTEMPTS: u32 = 16;
/// Between two looks whether a set is initialised.
const INTERVAL: Duration = Duration::from_millis(2);

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
            count: None,
            value: 0,
            mode: BOTH,
            read_only: false,
            init_timeout: Some(Duration::from_secs(5)),
            remove: false,
        }
    }

    /// Whether to make the set where there is none.
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

    /// How many semaphores a set that is made has, up to `SEMMSL`, 32,000; one that exists must have as many
    /// at least.
    #[must_use]
    pub fn count(mut self, count: u16) -> Self {
        self.count = Some(count);
        self
    }

    /// Units of each semaphore of a set that is made, up to [`Semaphore::MAX`].
    #[must_use]
    pub fn value(mut self, value: u16) -> Self {
        self.value = value;
        self
    }

    /// The permissions of a set that is made: who may read, may see values and wait for zero; who may write, may
    /// change them. The umask has no part in it.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Whether permission to read is enough to open a set that exists.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// For how long to wait until a set that exists is [initialised](Self#a-set-that-is-not-initialised).
    /// `None` takes it as it is.
    #[must_use]
    pub fn init_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.init_timeout = timeout;
        self
    }

    /// Whether to remove the set when the last of the handles that came of this open is dropped. A process
    /// that is killed leaves it.
    #[must_use]
    pub fn remove_on_drop(mut self, remove: bool) -> Self {
        self.remove = remove;
        self
    }

    /// Opens a set.
    ///
    /// # Errors
    ///
    /// Those of semget(2) and ftok(3): `ENOENT` where there is none and it was not to be created, `EEXIST`
    /// where there is one and it was to be new, `EACCES` without permission to read and write, `ENOSPC`
    /// where `SEMMNI` sets or `SEMMNS` semaphores exist. Of kind
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a count or a value that cannot be, and
    /// [`TimedOut`](ErrorKind::TimedOut) for a set that is not initialised in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a set is made in the poll that returns it.
    pub async fn open(&self, target: impl Into<Target>) -> Result<Set, Error> {
        let target = target.into();
        let mut opening = Opening::new(self, &target)?;
        loop {
            if let Some(set) = opening.look()? {
                return Ok(set);
            }
            time::sleep(INTERVAL)?.await;
        }
    }

    /// As [`open`](Self::open), for a thread that is not part of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn blocking_open(&self, target: impl Into<Target>) -> Result<Set, Error> {
        let target = target.into();
        let mut opening = Opening::new(self, &target)?;
        loop {
            if let Some(set) = opening.look()? {
                return Ok(set);
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// An open under way.
struct Opening<'a> {
    options: &'a Options,
    name: String,
    key: Option<i32>,
    /// One that was found, and is not known to be initialised.
    found: Option<i32>,
    attempts: u32,
    since: Instant,
}

impl<'a> Opening<'a> {
    fn new(options: &'a Options, target: &Target) -> Result<Self, Error> {
        let name = target.to_string();
        if options.count == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "semget")
                .with_address(&name)
                .with_detail("count=0")
                .with_reason("a set has one semaphore at least")
                .with_remedy("ask for one"));
        }
        check_value(options.value).map_err(|error| error.with_address(&name))?;
        let (key, found) = match target {
            Target::Id(id) => (None, Some(*id)),
            Target::Private => (Some(libc::IPC_PRIVATE), None),
            Target::Key(key) => (Some(*key), None),
            Target::Path { path, project } => {
                let key = ftok(path, *project).map_err(|error| error.with_address(&name))?;
                (Some(key), None)
            }
        };
        Ok(Self {
            options,
            name,
            key,
            found,
            attempts: 0,
            since: Instant::now(),
        })
    }

    /// The set, if it is there and initialised.
    fn look(&mut self) -> Result<Option<Set>, Error> {
        let Some(key) = self.key else {
            return self.by_id().map(Some);
        };
        loop {
            let id = match self.found {
                Some(id) => id,
                None => match self.get(key)? {
                    Got::Made(id, count) => return Ok(Some(self.set(id, count))),
                    Got::Found(id) => *self.found.insert(id),
                    Got::Gone => continue,
                },
            };
            match self.is_initialised(id) {
                Ok(Some(count)) => {
                    self.check_count(count)?;
                    return Ok(Some(self.set(id, count)));
                }
                Ok(None) => return self.late(id).map(|()| None),
                // Whoever made it has failed in that, and removed it.
                Err(error) if is_removed(&error) && self.attempts < ATTEMPTS => {
                    self.attempts += 1;
                    self.found = None;
                }
                Err(error) => return Err(self.refused("semctl", error)),
            }
        }
    }

    fn by_id(&self) -> Result<Set, Error> {
        let id = self.found.unwrap_or(-1);
        match size(id) {
            Ok(count) => {
                self.check_count(count)?;
                Ok(self.set(id, count))
            }
            Err(error) if is_removed(&error) => Err(Error::from_io("semctl", error)
                .with_kind(ErrorKind::NotFound)
                .with_address(&self.name)
                .with_reason("no set has this id")
                .with_remedy("see `ipcs -s`")),
            Err(error) => Err(self.refused("semctl", error)),
        }
    }

    fn set(&self, id: i32, count: u16) -> Set {
        Set::new(Opened::new(
            id,
            count,
            self.name.clone(),
            self.options.remove,
        ))
    }

    fn get(&mut self, key: i32) -> Result<Got, Error> {
        let options = self.options;
        let access = match options.read_only {
            true => READ,
            false => BOTH,
        };
        let makes = options.create || options.exclusive || key == libc::IPC_PRIVATE;
        if makes {
            // In two steps, because with `IPC_CREAT` alone the mode of the new set would be demanded of one
            // that exists.
            let flags = options.mode.cast_signed() | libc::IPC_CREAT | libc::IPC_EXCL;
            let count = options.count.unwrap_or(1);
            match sys::get(key, count, flags) {
                Ok(id) => return self.initialise(id, count),
                Err(error) if is(&error, libc::EEXIST) && !options.exclusive => {}
                Err(error) => return Err(self.refused("semget", error)),
            }
        }
        match sys::get(key, 0, access.cast_signed()) {
            Ok(id) => Ok(Got::Found(id)),
            Err(error) if makes && is(&error, libc::ENOENT) && self.attempts < ATTEMPTS => {
                self.attempts += 1;
                Ok(Got::Gone)
            }
            Err(error) => Err(self.refused("semget", error)),
        }
    }

    /// Sets the values of a set that was made, and has `sem_otime` say so.
    fn initialise(&self, id: i32, count: u16) -> Result<Got, Error> {
        // Removed again if this fails.
        let made = Opened::new(id, count, self.name.clone(), true);
        let values = vec![self.options.value; usize::from(count)];
        let step = |value| Step::new(0, value).nowait(true);
        let touch = match self.options.value {
            0 => [step(1), step(-1)],
            _ => [step(-1), step(1)],
        };
        sys::set_values(id, &values)
            .and_then(|()| sys::operate(id, &touch))
            .map_err(|error| made.error("semop", error))?;
        // The set stays, whatever becomes of this handle.
        std::mem::forget(made);
        Ok(Got::Made(id, count))
    }

    /// Its number of semaphores, if it is initialised.
    fn is_initialised(&self, id: i32) -> io::Result<Option<u16>> {
        let status = sys::status(id)?;
        let count = count(&status);
        let done = self.options.init_timeout.is_none()
            || status.sem_otime != 0
            || count == 1 && sys::number(id, 0, libc::GETVAL)? != 0;
        Ok(done.then_some(count))
    }

    fn check_count(&self, has: u16) -> Result<(), Error> {
        match self.options.count {
            Some(count) if count > has => Err(Error::new(ErrorKind::InvalidInput, "semget")
                .with_address(&self.name)
                .with_detail(format!("count={count}"))
                .with_reason(format!("the set exists, and has {has}"))
                .with_remedy(
                    "ask for no more than those, or remove it (`ipcrm`) and make it anew",
                )),
            _ => Ok(()),
        }
    }

    /// Fails once the set has not been initialised for too long.
    fn late(&self, id: i32) -> Result<(), Error> {
        let Some(timeout) = self.options.init_timeout else {
            return Ok(());
        };
        if self.since.elapsed() < timeout {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TimedOut, "semget")
            .with_address(&self.name)
            .with_reason(format!(
                "the set was made, and not initialised with semop within {timeout:?}: its creator died before, or never does it"
            ))
            .with_remedy(format!(
                "remove it (`ipcrm -s {id}`) and make it anew, or take it as it is (init_timeout, or open it by its id)"
            )))
    }

    fn refused(&self, operation: &'static str, error: io::Error) -> Error {
        let count = self.options.count.unwrap_or(1);
        let error = Error::from_io(operation, error).with_address(&self.name);
        match error.errno() {
            Some(libc::ENOSPC) => error
                .with_detail(format!("count={count}"))
                .with_reason(format!(
                    "{}; {}",
                    shown("SEMMNI", |limits| limits.semmni),
                    shown("SEMMNS", |limits| limits.semmns)
                ))
                .with_remedy("raise it, or remove sets that nobody needs (`ipcs -s`, `ipcrm -s`)"),
            Some(libc::EINVAL) => error
                .with_kind(ErrorKind::LimitExceeded)
                .with_detail(format!("count={count}"))
                .with_reason(shown("SEMMSL", |limits| limits.semmsl))
                .with_remedy("ask for fewer semaphores, or raise its first number"),
            Some(libc::ENOENT) => error
                .with_reason("there is no such set")
                .with_remedy("start the process that makes it, or open it with `create`"),
            Some(libc::EEXIST) => error
                .with_reason("there is such a set, and it was to be new")
                .with_remedy("open it without `exclusive`, or remove it (`ipcrm`)"),
            Some(libc::EACCES) => error
                .with_reason("the set's mode forbids it to this user")
                .with_remedy("see `ipcs -s -i ID`; its owner can change the mode"),
            _ => error,
        }
    }
}

/// What semget(2) has given.
enum Got {
    Made(i32, u16),
    Found(i32),
    Gone,
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}

const _: () = assert!(Semaphore::MAX == i16::MAX.unsigned_abs());
