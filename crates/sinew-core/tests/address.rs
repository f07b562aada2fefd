//! Addresses: the round trip in both directions, and what the errors say.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sinew_core::{Address, Endpoint, Error, ErrorKind, Scheme, SysvTarget};

fn parse(text: &str) -> Address {
    text.parse().unwrap()
}

const CANONICAL: &[&str] = &[
    "shm:/run/app.sock",
    "shm:@name",
    "shm:@%00%FF",
    "shm:relative.sock?connect&timeout=5s&mode=600&capacity=1M&threshold=64K&wait=spin&max-message=2G",
    "exec:sort -u",
    "exec:sh -c 'echo a=b & wait; printf \"%25s\" x%3F'?framing=lines",
    "exec: leading and trailing spaces ",
    "fd:0",
    "fd:2147483647?framing=packet",
    "fifo:/tmp/f",
    "fifo:/tmp/a&b=c d#e%3F%25%0A%FF\u{e9}?eof=reopen&create",
    "mq:/jobs?prio=3&maxmsg=10&msgsize=1024&create",
    "sysvmq:0x5e1f?type=7&create",
    "sysvmq:id=3?type=-7",
    "sysvmq:24095?except=7",
    "sysvmq:/etc/hostname?project=7",
    "signal:SIGUSR1,SIGRTMIN+2",
    "signal:4711/SIGRTMIN+2",
    "signal:12",
    "unix:/run/x.sock?listen",
    "unix:@name?framing=length",
    "unix-dgram:/run/x.sock?bind=/run/me%26you%FF",
    "unix-seqpacket:@x?credentials",
    "tcp:127.0.0.1:9000?listen",
    "tcp:[::1]:9000?nodelay&keepalive=30s",
    "tcp:host.example:80",
    "udp:239.1.1.1:5000?multicast",
    "udp:[ff02::1%25eth0]:5000?multicast&ttl=1&loopback=off",
    "netlink:route?groups=link,ipv4-ifaddr",
    "netlink:uevent",
    "netlink:user?group=5",
    "inotify:/etc?recursive",
    "inotify:.?events=create,moved-to&debounce=100ms",
    "fuse:/mnt/point/name",
    "dbus:session?interface=org.example.Jobs&member=Done&path=/a?b=c",
    "dbus:unix:path=/run/bus,guid=1?p2p",
    "sem:/slots?create&value=4",
    "sysvsem:0x5e1f/0",
    "sysvsem:id=3/31999?undo",
    "sysvsem:/etc/hostname/2",
    "futex:/dev/shm/word?offset=0",
    "posixshm:/ring?create&size=1M",
    "sysvshm:0x5e1f",
    "mmap:/var/tmp/ring",
];

#[test]
fn canonical_texts_print_as_they_were() {
    for text in CANONICAL {
        let address: Address = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&address.to_string(), text);
        assert_eq!(format!("{address:?}"), format!("Address(\"{text}\")"));
    }
    let schemes: HashSet<_> = CANONICAL.iter().map(|text| parse(text).scheme()).collect();
    assert_eq!(schemes.len(), Scheme::ALL.len());
}

#[test]
fn other_spellings_become_canonical() {
    for (text, canonical) in [
        ("fifo:%2ftmp%2Ff", "fifo:/tmp/f"),
        ("fifo:/tmp/f\n", "fifo:/tmp/f%0A"),
        ("fifo:/%c3%a9", "fifo:/\u{e9}"),
        ("unix-dgram:a?bind=%2fb%3F", "unix-dgram:a?bind=/b?"),
    ] {
        assert_eq!(parse(text).to_string(), canonical);
        assert_eq!(parse(text), parse(canonical));
    }
}

#[test]
fn parts() {
    let address = parse("shm:@a%00b?listen&capacity=64K&timeout=1m&mode=640&wait=park");
    assert_eq!(address.scheme(), Scheme::Shm);
    assert_eq!(address.rest(), "@a\0b");
    assert_eq!(address.endpoint(), Some(Endpoint::Abstract(b"a\0b")));
    assert_eq!(address.path(), None);
    assert!(address.flag("listen") && !address.flag("connect"));
    assert_eq!(address.get("listen"), None);
    assert_eq!(address.get("wait"), Some(OsStr::new("park")));
    assert_eq!(address.get_str("wait"), Some("park"));
    assert_eq!(address.size("capacity").unwrap(), Some(64 << 10));
    assert_eq!(address.size("threshold").unwrap(), None);
    assert_eq!(
        address.duration("timeout").unwrap(),
        Some(Duration::from_secs(60))
    );
    assert_eq!(address.mode("mode").unwrap(), Some(0o640));
    let keys: Vec<_> = address.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["listen", "capacity", "timeout", "mode", "wait"]);

    let address = parse("unix:/run/%FF");
    let path = Path::new(OsStr::from_bytes(b"/run/\xff"));
    assert_eq!(address.path(), Some(path));
    assert_eq!(address.endpoint(), Some(Endpoint::Path(path)));
    assert_eq!(parse("inotify:/etc").path(), Some(Path::new("/etc")));
    assert_eq!(parse("mq:/jobs").path(), None);

    assert_eq!(parse("tcp:[::1]:80").host_port(), Some(("::1", 80)));
    assert_eq!(parse("udp:a:0").host_port(), Some(("a", 0)));
    assert_eq!(parse("fd:0").host_port(), None);
    let zone = parse("tcp:[fe80::1%25eth0]:9");
    assert_eq!(zone.host_port(), Some(("fe80::1%eth0", 9)));
    assert_eq!(zone.to_string(), "tcp:[fe80::1%25eth0]:9");
}

#[test]
fn sysv_names() {
    for (text, target, index) in [
        ("sysvmq:0x5e1f", SysvTarget::Key(0x5e1f), None),
        ("sysvmq:0xffffffff", SysvTarget::Key(-1), None),
        ("sysvshm:4294967295", SysvTarget::Key(-1), None),
        ("sysvshm:id=7", SysvTarget::Id(7), None),
        ("sysvsem:id=7/3", SysvTarget::Id(7), Some(3)),
        ("sysvsem:0x10/0", SysvTarget::Key(16), Some(0)),
        (
            "sysvsem:/a/b/9",
            SysvTarget::Path(Path::new("/a/b")),
            Some(9),
        ),
        ("sysvmq:/a/b", SysvTarget::Path(Path::new("/a/b")), None),
    ] {
        assert_eq!(parse(text).sysv_target(), Some(target), "{text}");
        assert_eq!(parse(text).semaphore_index(), index, "{text}");
    }
    assert_eq!(parse("fd:0").sysv_target(), None);
}

#[test]
fn built_addresses() {
    let address = Address::new(Scheme::Mq, "/jobs")
        .and_then(|address| address.with("prio", "3"))
        .and_then(|address| address.with_flag("create"))
        .and_then(|address| address.with("prio", "4"))
        .unwrap();
    assert_eq!(address.to_string(), "mq:/jobs?prio=4&create");
    assert_eq!(address, parse("mq:/jobs?prio=4&create"));

    for (result, expected) in [
        (
            Address::new(Scheme::Mq, "jobs"),
            r#"parse("mq:jobs"): at byte 3: the name must begin with a slash; did you mean `/jobs`?"#,
        ),
        (
            parse("mq:/jobs?create").with("pri", "3"),
            r#"parse("mq:/jobs?create&pri"): at byte 16: `mq` has no parameter `pri`; did you mean `prio`?"#,
        ),
        (
            parse("mq:/jobs").with_flag("prio"),
            r#"parse("mq:/jobs?prio"): at byte 9: `prio` needs a value; write `prio=` and the value"#,
        ),
        (
            parse("mq:/jobs").with("create", "yes"),
            r#"parse("mq:/jobs?create=yes"): at byte 15: `create` takes no value; write `create` alone"#,
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn typed_values_that_do_not_fit() {
    let address = parse("mq:/j%0A?create&maxmsg=300&prio=1");
    let error = address.parse_param::<u8>("maxmsg").unwrap_err();
    assert_eq!(error.offending(), "300");
    assert_eq!(
        error.to_string(),
        r#"parse("mq:/j%0A?create&maxmsg=300&prio=1"): at byte 23: `maxmsg`: `300`: number too large to fit in target type"#
    );
    let error = address.size("create").unwrap_err();
    assert_eq!(error.offending(), "");
    assert!(error.to_string().ends_with("`create`: there is no value"));
    assert_eq!(address.parse_param::<u8>("prio").unwrap(), Some(1));
}

/// The text, the position, the offending part, and what is said about it.
const BAD: &[(&str, usize, &str, &str)] = &[
    (
        "",
        0,
        "",
        "there is no scheme; an address is `scheme:rest?key=value`, for example `tcp:127.0.0.1:9000`",
    ),
    (
        "/run/x.sock",
        0,
        "",
        "there is no scheme; an address is `scheme:rest?key=value`, for example `unix:/run/x.sock`",
    ),
    (
        "/a:b",
        0,
        "",
        "there is no scheme; an address is `scheme:rest?key=value`, for example `unix:/run/x.sock`",
    ),
    (
        "shmm:/x",
        0,
        "shmm",
        "unknown scheme `shmm`; did you mean `shm`?",
    ),
    (
        "SHM:/x",
        0,
        "SHM",
        "unknown scheme `SHM`; the schemes are shm, exec, fd, fifo, mq, sysvmq, signal, unix, unix-dgram, unix-seqpacket, tcp, udp, netlink, inotify, fuse, dbus, sem, sysvsem, futex, posixshm, sysvshm, mmap",
    ),
    (
        "unix-datagram:/x",
        0,
        "unix-datagram",
        "unknown scheme `unix-datagram`; did you mean `unix-dgram`?",
    ),
    (
        "mq:/jobs?maxmgs=10",
        9,
        "maxmgs",
        "`mq` has no parameter `maxmgs`; did you mean `maxmsg`?",
    ),
    (
        "exec:sort -u?recursive",
        13,
        "recursive",
        "`exec` has no parameter `recursive`; it has framing, max-message; write `%3F` for a question mark that means itself",
    ),
    (
        "mq:/jobs?",
        9,
        "",
        "the name of a parameter is missing; write `%3F` for a question mark and `%26` for an ampersand that mean themselves",
    ),
    (
        "mq:/jobs?create&&prio=1",
        16,
        "",
        "the name of a parameter is missing; write `%3F` for a question mark and `%26` for an ampersand that mean themselves",
    ),
    (
        "mq:/jobs?create&create",
        16,
        "create",
        "`create` is given twice; keep one",
    ),
    (
        "shm:/x?listen&connect",
        14,
        "connect",
        "`connect` and `listen` exclude each other; keep one",
    ),
    (
        "sysvmq:1?except=3&type=4",
        18,
        "type=4",
        "`type` and `except` exclude each other; keep one",
    ),
    (
        "mq:/jobs?prio=99999",
        14,
        "99999",
        "`prio`: `99999` is out of range; write a number from 0 to 32767",
    ),
    (
        "mq:/jobs?prio=+3",
        14,
        "+3",
        "`prio`: `+3` is not a number; write a number from 0 to 32767",
    ),
    ("mq:/jobs?prio=", 14, "", "`prio`: the value is empty"),
    (
        "shm:/x?wait=adpative",
        12,
        "adpative",
        "`wait`: unknown value `adpative`; did you mean `adaptive`?",
    ),
    (
        "shm:/x?wait=no",
        12,
        "no",
        "`wait`: unknown value `no`; it can be adaptive, park, spin",
    ),
    (
        "shm:/x?capacity=1Q",
        16,
        "1Q",
        "`capacity`: `1Q` is not a size; write a number of bytes, or a number with K, M, G or T (powers of 1024)",
    ),
    (
        "shm:/x?timeout=5",
        15,
        "5",
        "`timeout`: `5` is not a duration; write a number with ns, us, ms, s, m or h",
    ),
    (
        "shm:/x?mode=rw",
        12,
        "rw",
        "`mode`: `rw` is not a mode; write permission bits in octal, such as 600",
    ),
    (
        "inotify:/etc?events=create,delte",
        27,
        "delte",
        "`events`: unknown value `delte`; did you mean `delete`?",
    ),
    (
        "futex:/x?offset=6",
        16,
        "6",
        "`offset`: `6` is not a multiple of 4",
    ),
    ("udp:a:1?interface=%FF", 18, "%FF", "`interface`: not UTF-8"),
    (
        "unix-dgram:/x?bind=a%00",
        20,
        "%00",
        "`bind`: a path cannot contain a NUL",
    ),
    (
        "fifo:/a%zz",
        7,
        "%",
        "a `%` without two hexadecimal digits; write `%25` for a percent sign",
    ),
    (
        "unix-dgram:/x?bind=%4",
        19,
        "%",
        "a `%` without two hexadecimal digits; write `%25` for a percent sign",
    ),
    (
        "fifo:",
        5,
        "",
        "nothing follows `fifo:`; for example `fifo:/tmp/f`",
    ),
    (
        "fifo:?create",
        5,
        "",
        "nothing follows `fifo:`; for example `fifo:/tmp/f`",
    ),
    ("fifo:/%41%00b", 9, "%00", "there cannot be a NUL here"),
    (
        "shm:@",
        5,
        "",
        "the abstract name is missing; write it after the `@`, or `./@` for a path",
    ),
    ("exec:  ", 5, "  ", "the command is missing"),
    (
        "fd:-1",
        3,
        "-1",
        "`-1` is not a descriptor; write its number, such as 0 for the standard input",
    ),
    (
        "fd:2147483648",
        3,
        "2147483648",
        "`2147483648` is not a descriptor; write its number, such as 0 for the standard input",
    ),
    (
        "mq:jobs",
        3,
        "jobs",
        "the name must begin with a slash; did you mean `/jobs`?",
    ),
    (
        "mq:/a%2Fb",
        5,
        "%2F",
        "the name has a second slash; replace it",
    ),
    (
        "sem:/..",
        4,
        "/..",
        "`/..` is not a name; write a name after the slash",
    ),
    (
        "posixshm:/",
        9,
        "/",
        "`/` is not a name; write a name after the slash",
    ),
    (
        "sysvmq:jobs",
        7,
        "jobs",
        "`jobs` is not a key; write a key such as 0x5e1f, `id=` and a number, or an absolute path",
    ),
    (
        "sysvmq:0x",
        7,
        "0x",
        "`0x` is not a key; write a key such as 0x5e1f, `id=` and a number, or an absolute path",
    ),
    (
        "sysvmq:0x123456789",
        7,
        "0x123456789",
        "`0x123456789` is not a key; write a key such as 0x5e1f, `id=` and a number, or an absolute path",
    ),
    (
        "sysvshm:id=x",
        11,
        "x",
        "`x` is not an id; write a number that ipcs(1) lists",
    ),
    (
        "sysvsem:0x5e1f",
        14,
        "",
        "the index of the semaphore is missing; append it, such as `/0` for the first of the set",
    ),
    (
        "sysvsem:0x5e1f/first",
        15,
        "first",
        "`first` is not the index of a semaphore; write a number, 0 for the first of the set",
    ),
    (
        "signal:SIGUSR1,SIGUSR3",
        15,
        "SIGUSR3",
        "unknown signal `SIGUSR3`; did you mean `SIGUSR1`?",
    ),
    (
        "signal:usr1",
        7,
        "usr1",
        "unknown signal `usr1`; did you mean `SIGUSR1`?",
    ),
    ("signal:SIGUSR1,", 15, "", "a signal's name is missing"),
    (
        "signal:SIGRTMIN+31",
        7,
        "SIGRTMIN+31",
        "`SIGRTMIN+31` is not a real-time signal; write an offset from 0 to 30",
    ),
    (
        "signal:65",
        7,
        "65",
        "`65` is not a signal number; write a number from 1 to 64",
    ),
    (
        "signal:SIGKILL",
        7,
        "SIGKILL",
        "`SIGKILL` cannot be received",
    ),
    ("signal:me/SIGUSR1", 7, "me", "`me` is not a process id"),
    ("signal:0/SIGUSR1", 7, "0", "`0` is not a process id"),
    (
        "signal:7/SIGUSR1,SIGUSR2",
        16,
        ",SIGUSR2",
        "one signal is sent at a time",
    ),
    (
        "tcp:localhost",
        13,
        "",
        "the port is missing; write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`",
    ),
    (
        "tcp:localhost:",
        14,
        "",
        "the port is missing; write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`",
    ),
    (
        "tcp::9000",
        4,
        "",
        "the host is missing; write `0.0.0.0` or `[::]` for every address of this machine",
    ),
    (
        "tcp:::1:9000",
        4,
        "::1",
        "`::1` has colons and no brackets around it; write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`",
    ),
    (
        "tcp:[::1:9000",
        4,
        "[::1",
        "a `]` is missing; write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`",
    ),
    (
        "tcp:[a]:1",
        4,
        "[a]",
        "`a` is not an IPv6 address; leave the brackets away",
    ),
    (
        "udp:a b:1",
        5,
        " b",
        "`a b` is not a host; write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`",
    ),
    (
        "udp:a:65536",
        6,
        "65536",
        "`65536` is not a port; write a number from 0 to 65535",
    ),
    (
        "netlink:rout",
        8,
        "rout",
        "unknown protocol `rout`; did you mean `route`?",
    ),
    (
        "netlink:wifi",
        8,
        "wifi",
        "unknown protocol `wifi`; it can be generic, route, uevent, user",
    ),
    (
        "dbus:sesion",
        5,
        "sesion",
        "unknown bus `sesion`; did you mean `session`?",
    ),
    (
        "sysvmq:0?create",
        7,
        "0",
        "key 0 is IPC_PRIVATE, which makes a new object that no other process finds; write another key, such as 0x5e1f, or `id=` and the number of an object",
    ),
    (
        "sysvsem:0x0/0",
        8,
        "0x0",
        "key 0 is IPC_PRIVATE, which makes a new object that no other process finds; write another key, such as 0x5e1f, or `id=` and the number of an object",
    ),
    (
        "tcp:[fe80::1%eth0]:9",
        12,
        "%",
        "the `%` before the zone of an IPv6 address is written `%25`, as RFC 6874 has it; did you mean `%25`?",
    ),
    (
        "udp:[ff02::1%4]:9",
        12,
        "%",
        "the `%` before the zone of an IPv6 address is written `%25`, as RFC 6874 has it; did you mean `%25`?",
    ),
    (
        "tcp:[fe80::1%25]:9",
        4,
        "[fe80::1%25]",
        "the zone after the `%` is missing; write the name of the interface, as in `[fe80::1%25eth0]:9000`",
    ),
    (
        "exec:printf %02d 7",
        12,
        "%02",
        "`%02` stands for the control character 0x02; did you mean `%2502`?",
    ),
    (
        "exec:printf %09d 7",
        12,
        "%09",
        "`%09` stands for the control character 0x09; did you mean `%2509`?",
    ),
    (
        "unix:~/app.sock",
        5,
        "~",
        "`~` is the home directory at the beginning of a word of the shell alone; write `$HOME` in a shell, or the whole path; `./~` is a directory of that name",
    ),
    (
        "fifo:~",
        5,
        "~",
        "`~` is the home directory at the beginning of a word of the shell alone; write `$HOME` in a shell, or the whole path; `./~` is a directory of that name",
    ),
    (
        "exec:~/bin/program",
        5,
        "~",
        "`~` is the home directory at the beginning of a word of the shell alone; write `$HOME` in a shell, or the whole path; `./~` is a directory of that name",
    ),
    (
        "dbus::path=/x",
        5,
        ":path=/x",
        "the transport is missing; write a D-Bus address such as `unix:path=/run/bus`",
    ),
];

#[test]
fn errors_say_where_what_and_what_instead() {
    for &(text, position, offending, said) in BAD {
        let error = text.parse::<Address>().unwrap_err();
        assert_eq!(error.position(), position, "{error}");
        assert_eq!(error.offending(), offending, "{error}");
        assert_eq!(error.input(), text);
        let expected = format!("parse(\"{text}\"): at byte {position}: {said}");
        assert_eq!(error.to_string(), expected);
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        assert_eq!(error.to_string(), expected);
    }
}

/// Other control characters than tabs and newlines would not print as a text that parses.
#[test]
fn control_characters_in_a_command() {
    for byte in [1_u8, 13, 27, 127] {
        let command = format!("printf a{}", byte as char);
        let error = Address::new(Scheme::Exec, &command).unwrap_err();
        assert!(error.to_string().contains("control character"), "{error}");
    }
    let script = "sh -c 'a\n\tb'";
    let address = Address::new(Scheme::Exec, script).unwrap();
    assert_eq!(address.to_string(), "exec:sh -c 'a%0A\tb'");
    assert_eq!(parse(&address.to_string()).rest(), script);
    assert_eq!(parse(&format!("exec:{script}")), address);
}

#[test]
fn suggestions_are_right() {
    for &(text, ..) in BAD {
        let error = text.parse::<Address>().unwrap_err();
        if let Some(suggestion) = error.suggestion() {
            let end = error.position() + error.offending().len();
            let better = format!("{}{suggestion}{}", &text[..error.position()], &text[end..]);
            assert!(better.parse::<Address>().is_ok(), "{better}");
        }
    }
    assert_eq!(
        "fifoo".parse::<Scheme>().unwrap_err().suggestion(),
        Some("fifo")
    );
}

#[test]
fn lengths() {
    let name = |n: usize| "n".repeat(n);
    for (scheme, prefix, longest) in [
        (Scheme::Unix, "/", 107),
        (Scheme::Shm, "@", 108),
        (Scheme::Mq, "/", 255),
        (Scheme::PosixShm, "/", 255),
        (Scheme::Sem, "/", 251),
        (Scheme::Fifo, "/", 4095),
    ] {
        let rest = |length: usize| format!("{prefix}{}", name(length - prefix.len()));
        assert!(Address::new(scheme, rest(longest)).is_ok(), "{scheme}");
        let error = Address::new(scheme, rest(longest + 1)).unwrap_err();
        assert!(error.to_string().contains("bytes"), "{error}");
    }
}

fn bytes_without_nul(lengths: std::ops::Range<usize>) -> impl Strategy<Value = OsString> {
    vec(
        prop_oneof![1..=255u8, select(b"?&%=@/ \n".as_slice())],
        lengths,
    )
    .prop_map(OsString::from_vec)
}

/// A path that does not begin with the home directory of a shell.
fn not_home(path: OsString) -> OsString {
    match path.as_bytes() {
        b"~" | [b'~', b'/', ..] => OsString::from_vec([b"./", path.as_bytes()].concat()),
        _ => path,
    }
}

fn text() -> impl Strategy<Value = OsString> {
    vec(any::<char>(), 1..12).prop_map(|chars| chars.into_iter().collect::<String>().into())
}

/// A rest that the scheme can have.
fn rest(scheme: Scheme) -> BoxedStrategy<OsString> {
    let name = || {
        bytes_without_nul(1..40).prop_filter_map("not a name", |name| {
            let bytes = name.as_bytes();
            let bad = bytes.contains(&b'/') || matches!(bytes, b"." | b"..");
            (!bad).then(|| OsString::from_vec([b"/", bytes].concat()))
        })
    };
    let sysv = || {
        prop_oneof![
            (1..=u32::MAX).prop_map(|key| format!("0x{key:x}").into()),
            (1..=u32::MAX).prop_map(|key| key.to_string().into()),
            (0..i32::MAX).prop_map(|id| format!("id={id}").into()),
            bytes_without_nul(0..40)
                .prop_map(|path| OsString::from_vec([b"/a", path.as_bytes()].concat())),
        ]
    };
    match scheme {
        Scheme::Shm | Scheme::Unix | Scheme::UnixDgram | Scheme::UnixSeqpacket => prop_oneof![
            bytes_without_nul(2..100).prop_map(not_home),
            vec(any::<u8>(), 1..100).prop_map(|name| OsString::from_vec([b"@", &*name].concat())),
        ]
        .boxed(),
        Scheme::Fifo | Scheme::Inotify | Scheme::Fuse | Scheme::Futex | Scheme::Mmap => {
            bytes_without_nul(1..200).prop_map(not_home).boxed()
        }
        Scheme::Exec => bytes_without_nul(0..100)
            .prop_map(|rest| {
                let printable = |byte: &u8| !byte.is_ascii_control() || b"\n\t".contains(byte);
                let rest = rest.as_bytes().iter().copied().filter(printable);
                OsString::from_vec(std::iter::once(b'x').chain(rest).collect())
            })
            .boxed(),
        Scheme::Fd => (0..i32::MAX).prop_map(|fd| fd.to_string().into()).boxed(),
        Scheme::Mq | Scheme::PosixShm | Scheme::Sem => name().boxed(),
        Scheme::SysvMq | Scheme::SysvShm => sysv().boxed(),
        Scheme::SysvSem => (sysv(), any::<u16>())
            .prop_map(|(mut rest, index)| {
                rest.push(format!("/{index}"));
                rest
            })
            .boxed(),
        Scheme::Signal => prop_oneof![
            (1..i32::MAX, 1..65).prop_map(|(pid, n)| format!("{pid}/{n}").into()),
            (0..31, 0..31).prop_map(|(a, b)| format!("SIGRTMIN+{a},SIGRTMAX-{b}").into()),
        ]
        .boxed(),
        Scheme::Tcp | Scheme::Udp => prop_oneof![
            ("[a-z.%?&]{1,20}", any::<u16>())
                .prop_map(|(host, port)| format!("{host}:{port}").into()),
            any::<(std::net::Ipv6Addr, u16)>()
                .prop_map(|(ip, port)| format!("[{ip}]:{port}").into()),
        ]
        .boxed(),
        Scheme::Netlink => select(vec!["route", "uevent", "user", "generic"])
            .prop_map(Into::into)
            .boxed(),
        Scheme::Dbus => prop_oneof![
            Just(OsString::from("session")),
            "unix:path=/[a-z?&%]{1,20}".prop_map(Into::into),
        ]
        .boxed(),
        _ => unreachable!("a scheme without a strategy"),
    }
}

/// Values of all kinds; a key takes those that it can have.
fn value() -> impl Strategy<Value = Option<OsString>> {
    prop_oneof![
        Just(None),
        (1..300u32).prop_map(|n| Some((4 * n).to_string().into())),
        Just(Some("500ms".into())),
        Just(Some("600".into())),
        select(vec![
            "lines",
            "packet",
            "park",
            "hold",
            "signal",
            "create,open",
            "on"
        ])
        .prop_map(|word| Some(word.into())),
        text().prop_map(Some),
        bytes_without_nul(1..20).prop_map(Some),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    select(Scheme::ALL).prop_flat_map(|scheme| {
        let keys: Vec<_> = scheme.keys().collect();
        let count = keys.len();
        (
            rest(scheme),
            subsequence(keys, 0..=count).prop_shuffle(),
            vec(vec(value(), 8), count),
        )
            .prop_map(move |(rest, keys, values)| {
                let mut address = Address::new(scheme, &rest).unwrap();
                assert_eq!(address.rest(), rest);
                for (key, values) in keys.into_iter().zip(values) {
                    for value in values {
                        let tried = match &value {
                            Some(value) => address.clone().with(key, value),
                            None => address.clone().with_flag(key),
                        };
                        if let Ok(accepted) = tried {
                            assert_eq!(accepted.get(key), value.as_deref());
                            address = accepted;
                            break;
                        }
                    }
                }
                address
            })
    })
}

/// Texts that are nearly addresses.
fn near_address() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(Scheme::ALL).prop_map(|scheme| scheme.as_str().to_owned()),
        select(CANONICAL).prop_map(str::to_owned),
        select(Scheme::ALL)
            .prop_flat_map(|scheme| select(scheme.keys().collect::<Vec<_>>()))
            .prop_map(str::to_owned),
        "[:/?&=@%,+0-9\\[\\]a-fx]{1,4}",
        any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_round_trips(address in address()) {
        let text = address.to_string();
        let parsed: Address = text.parse().unwrap();
        prop_assert_eq!(&parsed, &address);
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn what_parses_round_trips(text in near_address()) {
        if let Ok(address) = text.parse::<Address>() {
            let canonical = address.to_string();
            let again: Address = canonical.parse().unwrap();
            prop_assert_eq!(&again, &address);
            prop_assert_eq!(again.to_string(), canonical);
        }
    }

    #[test]
    fn errors_point_into_the_text(text in prop_oneof![near_address(), any::<String>()]) {
        if let Err(error) = text.parse::<Address>() {
            prop_assert!(text[error.position()..].starts_with(error.offending()));
            prop_assert!(!error.to_string().contains(char::is_control));
        }
    }
}
