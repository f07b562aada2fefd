//! Which parameters each scheme takes.

use super::Scheme;
use super::value::Kind;

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const fn flag(name: &'static str) -> Key {
    key(name, Kind::Flag)
}

const FRAMING: Kind = Kind::Choice(&["lines", "length", "none"]);
const PIPE_FRAMING: Kind = Kind::Choice(&["lines", "length", "none", "packet"]);
const PEERS: Kind = Kind::Choice(&["one", "many"]);
const WAIT: Kind = Kind::Choice(&["adaptive", "park", "spin"]);
const EVENTS: Kind = Kind::Choices(&[
    "access",
    "attrib",
    "close-nowrite",
    "close-write",
    "create",
    "delete",
    "delete-self",
    "modify",
    "move-self",
    "moved-from",
    "moved-to",
    "open",
]);

/// Sorted by name.
pub(super) fn of(scheme: Scheme) -> &'static [Key] {
    match scheme {
        Scheme::Shm => SHM,
        Scheme::Exec | Scheme::Fd => PIPE,
        Scheme::Fifo => FIFO,
        Scheme::Mq => MQ,
        Scheme::SysvMq => SYSVMQ,
        Scheme::Signal => SIGNAL,
        Scheme::Unix => UNIX,
        Scheme::UnixDgram => UNIX_DGRAM,
        Scheme::UnixSeqpacket => UNIX_SEQPACKET,
        Scheme::Tcp => TCP,
        Scheme::Udp => UDP,
        Scheme::Netlink => NETLINK,
        Scheme::Inotify => INOTIFY,
        Scheme::Fuse => FUSE,
        Scheme::Dbus => DBUS,
        Scheme::Sem => SEM,
        Scheme::SysvSem => SYSVSEM,
        Scheme::Futex => FUTEX,
        Scheme::PosixShm | Scheme::Mmap => REGION,
        Scheme::SysvShm => SYSVSHM,
    }
}

/// Pairs of which an address can have one.
pub(super) const EXCLUSIVE: &[(&str, &str)] = &[
    ("listen", "connect"),
    ("type", "except"),
    ("group", "groups"),
];

const SHM: &[Key] = &[
    key("capacity", Kind::Size),
    flag("connect"),
    flag("listen"),
    key("max-message", Kind::Size),
    key("max-peers", Kind::Integer(1, 65_535)),
    key("mode", Kind::Mode),
    key("peers", PEERS),
    key("threshold", Kind::Size),
    key("timeout", Kind::Duration),
    key("wait", WAIT),
];

const PIPE: &[Key] = &[key("framing", PIPE_FRAMING), key("max-message", Kind::Size)];

const FIFO: &[Key] = &[
    flag("create"),
    key("eof", Kind::Choice(&["end", "reopen", "hold"])),
    key("framing", PIPE_FRAMING),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
    key("timeout", Kind::Duration),
    flag("unlink"),
];

const MQ: &[Key] = &[
    flag("create"),
    flag("exclusive"),
    key("maxmsg", Kind::Integer(1, 65_536)),
    key("mode", Kind::Mode),
    key("msgsize", Kind::Size),
    key("prio", Kind::Integer(0, 32_767)),
    flag("unlink"),
];

const SYSVMQ: &[Key] = &[
    flag("create"),
    key("except", Kind::Integer(1, i64::MAX)),
    flag("exclusive"),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
    key("project", Kind::Integer(1, 255)),
    flag("remove"),
    key("type", Kind::Integer(-i64::MAX, i64::MAX)),
];

const SIGNAL: &[Key] = &[key("capacity", Kind::Integer(1, 65_536))];

const UNIX: &[Key] = &[
    flag("connect"),
    flag("credentials"),
    key("framing", FRAMING),
    flag("listen"),
    key("max-message", Kind::Size),
    key("max-peers", Kind::Integer(1, 65_535)),
    key("mode", Kind::Mode),
    key("peers", PEERS),
    key("timeout", Kind::Duration),
];

const UNIX_DGRAM: &[Key] = &[
    key("bind", Kind::Path),
    flag("connect"),
    flag("credentials"),
    flag("listen"),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
    key("timeout", Kind::Duration),
];

const UNIX_SEQPACKET: &[Key] = &[
    flag("connect"),
    flag("credentials"),
    flag("listen"),
    key("max-message", Kind::Size),
    key("max-peers", Kind::Integer(1, 65_535)),
    key("mode", Kind::Mode),
    key("peers", PEERS),
    key("timeout", Kind::Duration),
];

const TCP: &[Key] = &[
    key("backlog", Kind::Integer(1, 65_535)),
    flag("connect"),
    key("framing", FRAMING),
    key("keepalive", Kind::Duration),
    key("linger", Kind::Duration),
    flag("listen"),
    key("max-message", Kind::Size),
    key("max-peers", Kind::Integer(1, 65_535)),
    flag("nodelay"),
    key("peers", PEERS),
    flag("reuse-port"),
    key("timeout", Kind::Duration),
];

const UDP: &[Key] = &[
    key("bind", Kind::Text),
    flag("broadcast"),
    flag("connect"),
    key("interface", Kind::Text),
    flag("listen"),
    key("loopback", Kind::Choice(&["on", "off"])),
    key("max-message", Kind::Size),
    flag("multicast"),
    flag("reuse-port"),
    key("ttl", Kind::Integer(0, 255)),
];

const NETLINK: &[Key] = &[
    key("buffer", Kind::Size),
    key("family", Kind::Text),
    key("group", Kind::Integer(1, u32::MAX as i64)),
    key("groups", Kind::Text),
    key("namespace", Kind::Path),
];

const INOTIFY: &[Key] = &[
    key("debounce", Kind::Duration),
    key("events", EVENTS),
    flag("recursive"),
];

const FUSE: &[Key] = &[
    flag("allow-other"),
    key("framing", FRAMING),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
];

const DBUS: &[Key] = &[
    key("arg0", Kind::Text),
    key("arg0namespace", Kind::Text),
    key("capacity", Kind::Integer(1, 65_536)),
    key("destination", Kind::Text),
    key("interface", Kind::Text),
    key("member", Kind::Text),
    flag("p2p"),
    key("path", Kind::Text),
    key("path-namespace", Kind::Text),
    key("sender", Kind::Text),
    key(
        "type",
        Kind::Choice(&["signal", "method-call", "method-return", "error"]),
    ),
];

const SEM: &[Key] = &[
    flag("create"),
    flag("exclusive"),
    key("mode", Kind::Mode),
    flag("unlink"),
    key("value", Kind::Integer(0, i32::MAX as i64)),
];

const SYSVSEM: &[Key] = &[
    key("count", Kind::Integer(1, 32_000)),
    flag("create"),
    flag("exclusive"),
    key("mode", Kind::Mode),
    key("project", Kind::Integer(1, 255)),
    flag("remove"),
    key("timeout", Kind::Duration),
    flag("undo"),
    key("value", Kind::Integer(0, 32_767)),
];

const FUTEX: &[Key] = &[
    flag("create"),
    key("mode", Kind::Mode),
    key("offset", Kind::MultipleOf(4)),
];

const REGION: &[Key] = &[
    key("allow-uid", Kind::Integer(0, u32::MAX as i64 - 1)),
    flag("create"),
    flag("exclusive"),
    flag("listen"),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
    key("size", Kind::Size),
    key("timeout", Kind::Duration),
    flag("unlink"),
    key("wait", WAIT),
];

const SYSVSHM: &[Key] = &[
    key("allow-uid", Kind::Integer(0, u32::MAX as i64 - 1)),
    flag("create"),
    flag("exclusive"),
    flag("listen"),
    key("max-message", Kind::Size),
    key("mode", Kind::Mode),
    key("project", Kind::Integer(1, 255)),
    flag("remove"),
    key("size", Kind::Size),
    key("timeout", Kind::Duration),
    key("wait", WAIT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_without_duplicates() {
        for scheme in Scheme::ALL {
            let names: Vec<_> = scheme.keys().collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{scheme}: {names:?}");
        }
    }
}
