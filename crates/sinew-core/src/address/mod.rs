//! The address of anything that Sinew can open.

mod endpoint;
mod error;
mod escape;
mod fault;
mod keys;
mod nearest;
mod parse;
mod rest;
mod scheme;
mod signal;
mod sysv;
mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use error::AddressError;
use fault::Fault;
pub use scheme::Scheme;
pub use sysv::SysvTarget;

/// What to open, as a text: `scheme:rest?key=value&flag`.
///
/// The [scheme](Scheme) says which mechanism. What the rest is depends on it: a path, a name, a command
/// line, a host and port. The parameters are those that the scheme [has](Scheme::keys); each stands at
/// most once.
///
/// An address that exists is valid as far as its text tells. It prints as a text that parses to an equal
/// address, and a text in canonical form prints exactly as it was.
///
/// # Escapes
///
/// `%` and two hexadecimal digits stand for a byte. In canonical form they are upper-case and used
/// for nothing but `%`, control characters, bytes that are not UTF-8, a `?` in the rest and a `&`
/// in a value. Spaces mean themselves. A command, of `exec:`, has no control characters but tabs,
/// which mean themselves, and newlines: `exec:printf %02d 7` is an error, and `%2502d` is what it
/// means.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use sinew_core::{Address, AddressError, Endpoint, Scheme};
///
/// let address: Address = "shm:@jobs?listen&capacity=1M&timeout=500ms".parse()?;
/// assert_eq!(address.scheme(), Scheme::Shm);
/// assert_eq!(address.endpoint(), Some(Endpoint::Abstract(b"jobs")));
/// assert!(address.flag("listen"));
/// assert_eq!(address.size("capacity")?, Some(1 << 20));
/// assert_eq!(address.duration("timeout")?, Some(Duration::from_millis(500)));
///
/// let built = Address::new(Scheme::Fifo, "/tmp/what?")?.with("framing", "lines")?;
/// assert_eq!(built.to_string(), "fifo:/tmp/what%3F?framing=lines");
/// # Ok::<(), AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    rest: OsString,
    parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parameter {
    key: &'static str,
    value: Option<OsString>,
}

impl Address {
    /// An address without parameters. `rest` is meant literally: nothing in it is an escape.
    ///
    /// A path that begins with `@` must be given as `./@…` where the scheme has abstract names.
    ///
    /// # Errors
    ///
    /// If `rest` is nothing that the scheme can have.
    pub fn new(scheme: Scheme, rest: impl AsRef<OsStr>) -> Result<Self, AddressError> {
        Self {
            scheme,
            rest: rest.as_ref().to_owned(),
            parameters: Vec::new(),
        }
        .checked()
    }

    /// Adds a parameter, or replaces its value. `value` is meant literally: nothing in it is an escape.
    ///
    /// # Errors
    ///
    /// If the scheme has no such parameter, or the value is none that it can have.
    pub fn with(self, key: &str, value: impl AsRef<OsStr>) -> Result<Self, AddressError> {
        self.set(key, Some(value.as_ref()))
    }

    /// Adds a parameter that has no value.
    ///
    /// # Errors
    ///
    /// If the scheme has no such parameter, or it needs a value.
    pub fn with_flag(self, key: &str) -> Result<Self, AddressError> {
        self.set(key, None)
    }

    /// Which mechanism it is about.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What stands between the scheme and the parameters, without escapes.
    pub fn rest(&self) -> &OsStr {
        &self.rest
    }

    /// The rest as a path, where it is one. An abstract socket name is none.
    pub fn path(&self) -> Option<&Path> {
        match self.endpoint() {
            Some(Endpoint::Path(path)) => Some(path),
            Some(Endpoint::Abstract(_)) => None,
            None => self.scheme.is_path().then(|| Path::new(&self.rest)),
        }
    }

    /// Where the socket is, for the schemes on Unix sockets.
    pub fn endpoint(&self) -> Option<Endpoint<'_>> {
        self.scheme
            .is_endpoint()
            .then(|| Endpoint::of(self.rest.as_bytes()))
    }

    /// The host, without the brackets of an IPv6 address, and the port, for `tcp:` and `udp:`. The
    /// zone of a link-local address, an interface, follows the host after a `%`:
    /// `[fe80::1%25eth0]:9` has the host `fe80::1%eth0`.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self.scheme {
            Scheme::Tcp | Scheme::Udp => rest::host_port(self.rest.to_str()?).ok(),
            _ => None,
        }
    }

    /// How the object is named, for the SysV schemes.
    pub fn sysv_target(&self) -> Option<SysvTarget<'_>> {
        let rest = self.rest.as_bytes();
        match self.scheme {
            Scheme::SysvMq | Scheme::SysvShm => sysv::target(rest).ok(),
            Scheme::SysvSem => sysv::indexed(rest).ok().map(|(target, _)| target),
            _ => None,
        }
    }

    /// Which semaphore of the set it is, for `sysvsem:`.
    pub fn semaphore_index(&self) -> Option<u16> {
        match self.scheme {
            Scheme::SysvSem => sysv::indexed(self.rest.as_bytes())
                .ok()
                .map(|(_, index)| index),
            _ => None,
        }
    }

    /// The value of a parameter, without escapes.
    pub fn get(&self, key: &str) -> Option<&OsStr> {
        self.parameter(key)?.value.as_deref()
    }

    /// The value of a parameter, where it is UTF-8. Every value is, but for those that are paths.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.to_str()
    }

    /// Whether a parameter is there, with a value or without.
    pub fn flag(&self, key: &str) -> bool {
        self.parameter(key).is_some()
    }

    /// The parameters, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&OsStr>)> {
        self.parameters
            .iter()
            .map(|parameter| (parameter.key, parameter.value.as_deref()))
    }

    /// The value of a parameter, parsed; `None` if the parameter is not there.
    ///
    /// # Errors
    ///
    /// If the value does not parse as a `T`, or there is no value.
    ///
    /// # Examples
    ///
    /// ```
    /// use sinew_core::{Address, AddressError};
    ///
    /// let address: Address = "mq:/jobs?maxmsg=300".parse()?;
    /// assert_eq!(address.parse_param::<u32>("maxmsg")?, Some(300));
    /// assert_eq!(address.parse_param::<u32>("prio")?, None);
    /// assert!(address.parse_param::<u8>("maxmsg").is_err());
    /// # Ok::<(), AddressError>(())
    /// ```
    pub fn parse_param<T>(&self, key: &str) -> Result<Option<T>, AddressError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.typed(key, |text| {
            text.parse()
                .map_err(|error| Fault::new(0..text.len(), format!("`{text}`: {error}")))
        })
    }

    /// The value of a parameter as a number of bytes: `4096`, `64K`, `1M`, `2G`, `1T`.
    ///
    /// # Errors
    ///
    /// If the value is not a size.
    pub fn size(&self, key: &str) -> Result<Option<u64>, AddressError> {
        self.typed(key, value::size)
    }

    /// The value of a parameter as a duration: a number with `ns`, `us`, `ms`, `s`, `m` or `h`.
    ///
    /// # Errors
    ///
    /// If the value is not a duration.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, AddressError> {
        self.typed(key, value::duration)
    }

    /// The value of a parameter as permission bits, in octal: `600`.
    ///
    /// # Errors
    ///
    /// If the value is not a mode.
    pub fn mode(&self, key: &str) -> Result<Option<u32>, AddressError> {
        self.typed(key, value::mode)
    }

    fn parameter(&self, key: &str) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|parameter| parameter.key == key)
    }

    fn set(mut self, key: &str, value: Option<&OsStr>) -> Result<Self, AddressError> {
        let known = self.scheme.keys().find(|known| *known == key);
        let value = value.map(OsStr::to_owned);
        match known {
            Some(key) => {
                let same = self
                    .parameters
                    .iter_mut()
                    .find(|parameter| parameter.key == key);
                match same {
                    Some(parameter) => parameter.value = value,
                    None => self.parameters.push(Parameter { key, value }),
                }
                self.checked()
            }
            None => {
                let mut text = self.to_string();
                let at = text.len() + 1;
                text.push(if self.parameters.is_empty() { '?' } else { '&' });
                text.push_str(key);
                Err(parse::unknown(self.scheme, key, at..text.len()).into_error(&text))
            }
        }
    }

    /// An address is valid if, and only if, its text is.
    fn checked(self) -> Result<Self, AddressError> {
        self.to_string().parse()
    }

    fn typed<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, AddressError> {
        let Some(parameter) = self.parameter(key) else {
            return Ok(None);
        };
        let fault = match parameter.value.as_deref().map(OsStr::to_str) {
            Some(Some(text)) => match read(text) {
                Ok(value) => return Ok(Some(value)),
                Err(fault) => fault,
            },
            Some(None) => Fault::new(0..0, "not UTF-8"),
            None => Fault::new(0..0, "there is no value"),
        };
        let (at, end) = self.value_range(key);
        let fault = Fault {
            range: at..end,
            reason: format!("`{key}`: {}", fault.reason).into(),
            ..fault
        };
        Err(fault.into_error(&self.to_string()))
    }

    /// Where the value of a parameter stands in the text.
    fn value_range(&self, key: &str) -> (usize, usize) {
        let before = self
            .parameters
            .iter()
            .take_while(|parameter| parameter.key != key)
            .count();
        let until = |count: usize| {
            let mut part = self.clone();
            part.parameters.truncate(count);
            part.to_string().len()
        };
        let end = until(before + 1);
        ((until(before) + 1 + key.len() + 1).min(end), end)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse::parse(text).map_err(|fault| fault.into_error(text))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        match self.scheme {
            // A tab means itself in a command, where `%09` is refused.
            Scheme::Exec => {
                let mut words = self.rest.as_bytes().split(|&byte| byte == b'\t');
                escape::encode(f, words.next().unwrap_or_default(), &['?'])?;
                for word in words {
                    f.write_str("\t")?;
                    escape::encode(f, word, &['?'])?;
                }
            }
            _ => escape::encode(f, self.rest.as_bytes(), &['?'])?,
        }
        let mut separator = '?';
        for parameter in &self.parameters {
            write!(f, "{separator}{}", parameter.key)?;
            if let Some(value) = &parameter.value {
                f.write_str("=")?;
                escape::encode(f, value.as_bytes(), &['&'])?;
            }
            separator = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address(\"{self}\")")
    }
}
