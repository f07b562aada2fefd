use std::fmt;
use std::str::FromStr;

use super::fault::Fault;
use super::{AddressError, keys, nearest};

/// The first part of an [`Address`](crate::Address): which mechanism it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// `shm:`, a shared-memory channel with a Unix socket as its meeting point.
    Shm,
    /// `exec:`, the standard input and output of a command.
    Exec,
    /// `fd:`, an inherited descriptor.
    Fd,
    /// `fifo:`, a named pipe.
    Fifo,
    /// `mq:`, a POSIX message queue.
    Mq,
    /// `sysvmq:`, a SysV message queue.
    SysvMq,
    /// `signal:`, signals received, or sent to one process.
    Signal,
    /// `unix:`, a Unix stream socket.
    Unix,
    /// `unix-dgram:`, a Unix datagram socket.
    UnixDgram,
    /// `unix-seqpacket:`, a Unix packet socket.
    UnixSeqpacket,
    /// `tcp:`, a TCP socket.
    Tcp,
    /// `udp:`, a UDP socket.
    Udp,
    /// `netlink:`, events of the kernel, and multicast between programs.
    Netlink,
    /// `inotify:`, changes of files.
    Inotify,
    /// `fuse:`, one file of a mounted directory.
    Fuse,
    /// `dbus:`, signals on a D-Bus.
    Dbus,
    /// `sem:`, a POSIX semaphore.
    Sem,
    /// `sysvsem:`, one semaphore of a SysV set.
    SysvSem,
    /// `futex:`, a word in a file.
    Futex,
    /// `posixshm:`, a channel in POSIX shared memory.
    PosixShm,
    /// `sysvshm:`, a channel in SysV shared memory.
    SysvShm,
    /// `mmap:`, a channel in a mapped file.
    Mmap,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: &'static [Self] = &[
        Self::Shm,
        Self::Exec,
        Self::Fd,
        Self::Fifo,
        Self::Mq,
        Self::SysvMq,
        Self::Signal,
        Self::Unix,
        Self::UnixDgram,
        Self::UnixSeqpacket,
        Self::Tcp,
        Self::Udp,
        Self::Netlink,
        Self::Inotify,
        Self::Fuse,
        Self::Dbus,
        Self::Sem,
        Self::SysvSem,
        Self::Futex,
        Self::PosixShm,
        Self::SysvShm,
        Self::Mmap,
    ];

    /// The name, without the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Exec => "exec",
            Self::Fd => "fd",
            Self::Fifo => "fifo",
            Self::Mq => "mq",
            Self::SysvMq => "sysvmq",
            Self::Signal => "signal",
            Self::Unix => "unix",
            Self::UnixDgram => "unix-dgram",
            Self::UnixSeqpacket => "unix-seqpacket",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Netlink => "netlink",
            Self::Inotify => "inotify",
            Self::Fuse => "fuse",
            Self::Dbus => "dbus",
            Self::Sem => "sem",
            Self::SysvSem => "sysvsem",
            Self::Futex => "futex",
            Self::PosixShm => "posixshm",
            Self::SysvShm => "sysvshm",
            Self::Mmap => "mmap",
        }
    }

    /// An address of this scheme, for messages and help texts.
    ///
    /// # Examples
    ///
    /// ```
    /// use sinew_core::{Address, Scheme};
    ///
    /// for scheme in Scheme::ALL {
    ///     let address: Address = scheme.example().parse()?;
    ///     assert_eq!(address.scheme(), *scheme);
    /// }
    /// # Ok::<(), sinew_core::AddressError>(())
    /// ```
    pub const fn example(self) -> &'static str {
        match self {
            Self::Shm => "shm:/run/app.sock",
            Self::Exec => "exec:sort -u",
            Self::Fd => "fd:0",
            Self::Fifo => "fifo:/tmp/f",
            Self::Mq => "mq:/jobs?prio=3&maxmsg=10&msgsize=1024&create",
            Self::SysvMq => "sysvmq:0x5e1f?type=7&create",
            Self::Signal => "signal:SIGUSR1,SIGRTMIN+2",
            Self::Unix => "unix:/run/x.sock?listen",
            Self::UnixDgram => "unix-dgram:@name",
            Self::UnixSeqpacket => "unix-seqpacket:/run/x.sock",
            Self::Tcp => "tcp:127.0.0.1:9000?listen",
            Self::Udp => "udp:239.1.1.1:5000?multicast",
            Self::Netlink => "netlink:route?groups=link,ipv4-ifaddr",
            Self::Inotify => "inotify:/etc?recursive",
            Self::Fuse => "fuse:/mnt/point/name",
            Self::Dbus => "dbus:session?interface=org.example.Jobs&member=Done",
            Self::Sem => "sem:/slots?create&value=4",
            Self::SysvSem => "sysvsem:0x5e1f/0",
            Self::Futex => "futex:/dev/shm/word?offset=0",
            Self::PosixShm => "posixshm:/ring?create&size=1M",
            Self::SysvShm => "sysvshm:0x5e1f",
            Self::Mmap => "mmap:/var/tmp/ring",
        }
    }

    /// The keys of the parameters that this scheme takes, sorted.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        keys::of(self).iter().map(|key| key.name)
    }

    /// Whether the rest is a path or, after an `@`, an abstract socket name.
    pub(super) fn is_endpoint(self) -> bool {
        matches!(
            self,
            Self::Shm | Self::Unix | Self::UnixDgram | Self::UnixSeqpacket
        )
    }

    /// Whether the rest is a path and nothing else.
    pub(super) fn is_path(self) -> bool {
        matches!(
            self,
            Self::Fifo | Self::Inotify | Self::Fuse | Self::Futex | Self::Mmap
        )
    }

    pub(super) fn find(name: &str) -> Result<Self, Fault> {
        if let Some(scheme) = Self::ALL.iter().find(|scheme| scheme.as_str() == name) {
            return Ok(*scheme);
        }
        let names = || Self::ALL.iter().map(|scheme| scheme.as_str());
        let fault = Fault::new(0..name.len(), format!("unknown scheme `{name}`"));
        Err(match nearest::find(name, names()) {
            Some(near) => fault.meant(near),
            None => fault.remedy(format!(
                "the schemes are {}",
                names().collect::<Vec<_>>().join(", ")
            )),
        })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = AddressError;

    fn from_str(name: &str) -> Result<Self, AddressError> {
        Self::find(name).map_err(|fault| fault.into_error(name))
    }
}
