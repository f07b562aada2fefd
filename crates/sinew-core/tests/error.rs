//! What errors say, and that they survive the way through `io::Error`.

use std::error::Error as _;
use std::io;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind, TryRecvError, TrySendError};

fn raw(errno: Errno) -> i32 {
    errno.raw_os_error()
}

#[test]
fn is_one_pointer() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
}

#[test]
fn messages() {
    let table = [
        (
            Error::from_raw_os_error("mq_open", raw(Errno::INVAL))
                .with_address("/jobs")
                .with_detail("maxmsg=64")
                .with_reason("fs.mqueue.msg_max is 10")
                .with_remedy("raise it or ask for fewer"),
            r#"mq_open("/jobs") with maxmsg=64: EINVAL: fs.mqueue.msg_max is 10; raise it or ask for fewer"#,
        ),
        (
            Error::from_raw_os_error("pipe2", raw(Errno::MFILE)),
            "pipe2: EMFILE: too many open files; raise RLIMIT_NOFILE (ulimit -n) or close some descriptors",
        ),
        (
            Error::from_raw_os_error("", raw(Errno::IO)),
            "EIO: input/output error",
        ),
        (
            Error::from_raw_os_error("read", 4000),
            "read: errno 4000: unknown error 4000",
        ),
        (Error::new(ErrorKind::Closed, "send"), "send: closed"),
        (Error::new(ErrorKind::Closed, ""), "closed"),
        (
            Error::new(ErrorKind::TimedOut, "connect").with_detail("timeout=5s"),
            "connect with timeout=5s: timed out",
        ),
        (
            Error::new(ErrorKind::InvalidInput, "").with_detail("size=0"),
            "with size=0: invalid argument",
        ),
        (
            Error::new(ErrorKind::Refused, "").with_address("shm:/x"),
            r#"("shm:/x"): refused"#,
        ),
        (Error::new(ErrorKind::Lost, "recv"), "recv: items were lost"),
        (
            Error::new(ErrorKind::Lost, "recv").with_lost(1),
            "recv: 1 item was lost",
        ),
        (
            Error::from_raw_os_error("recvmsg", raw(Errno::NOBUFS)).with_lost(3),
            "recvmsg: ENOBUFS: 3 items were lost; enlarge the buffer, or read faster",
        ),
        (
            Error::new(ErrorKind::Protocol, "open")
                .with_address("a\nb\u{7f}")
                .with_reason("x\ry"),
            r#"open("a\nb\u{7f}"): x\ry"#,
        ),
    ];
    for (error, expected) in table {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn accessors() {
    let error = Error::from_raw_os_error("bind", raw(Errno::ADDRINUSE))
        .with_address("unix:/run/x.sock")
        .with_detail("mode=600");
    assert_eq!(error.kind(), ErrorKind::System);
    assert_eq!(error.operation(), "bind");
    assert_eq!(error.address(), Some("unix:/run/x.sock"));
    assert_eq!(error.detail(), Some("mode=600"));
    assert_eq!(error.errno(), Some(raw(Errno::ADDRINUSE)));
    assert_eq!(error.errno_name(), Some("EADDRINUSE"));
    assert!(error.remedy().is_some());
    assert_eq!(error.lost(), None);
}

#[test]
fn only_loss_is_recoverable() {
    let lost = Error::new(ErrorKind::Lost, "recv").with_lost(7);
    assert!(lost.is_recoverable());
    assert_eq!(lost.lost(), Some(7));
    for kind in [
        ErrorKind::System,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidAddress,
        ErrorKind::Closed,
        ErrorKind::PeerCrashed,
        ErrorKind::Corrupted,
        ErrorKind::Protocol,
        ErrorKind::LimitExceeded,
        ErrorKind::TimedOut,
        ErrorKind::Refused,
        ErrorKind::Unsupported,
    ] {
        let error = Error::new(kind, "recv");
        assert!(!error.is_recoverable(), "{kind:?}");
        assert_eq!(error.is_closed(), kind == ErrorKind::Closed);
        assert_eq!(error.is_peer_crashed(), kind == ErrorKind::PeerCrashed);
        assert_eq!(error.is_corrupted(), kind == ErrorKind::Corrupted);
        assert_eq!(error.is_timed_out(), kind == ErrorKind::TimedOut);
    }
}

#[test]
fn kinds_that_follow_from_the_errno() {
    for (errno, kind) in [
        (Errno::INVAL, ErrorKind::InvalidInput),
        (Errno::PIPE, ErrorKind::Closed),
        (Errno::IDRM, ErrorKind::Closed),
        (Errno::OWNERDEAD, ErrorKind::PeerCrashed),
        (Errno::PROTO, ErrorKind::Protocol),
        (Errno::MFILE, ErrorKind::LimitExceeded),
        (Errno::TIMEDOUT, ErrorKind::TimedOut),
        (Errno::ACCESS, ErrorKind::Refused),
        (Errno::CONNREFUSED, ErrorKind::Refused),
        (Errno::NOSYS, ErrorKind::Unsupported),
        (Errno::NOENT, ErrorKind::NotFound),
        (Errno::EXIST, ErrorKind::AlreadyExists),
        (Errno::IO, ErrorKind::System),
    ] {
        assert_eq!(Error::from_raw_os_error("x", raw(errno)).kind(), kind);
    }
}

#[test]
fn every_errno_of_linux_has_its_name() {
    // The kernel's asm-generic numbers end at 133, with 41 and 58 left out as aliases; a number that is
    // named must be described by the C library too.
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        for errno in 1..=133 {
            let error = Error::from_raw_os_error("x", errno);
            let named = error.errno_name().is_some();
            assert_eq!(named, !matches!(errno, 41 | 58), "{errno}");
            let text = error.to_string();
            assert!(!named || !text.contains("unknown error"), "{text}");
        }
        assert_eq!(
            Error::from_raw_os_error("x", 133).errno_name(),
            Some("EHWPOISON")
        );
        assert_eq!(
            Error::from_raw_os_error("x", 35).errno_name(),
            Some("EDEADLK")
        );
    }
    for errno in [i32::MIN, -1, 0, 134, 70_000, i32::MAX] {
        assert_eq!(Error::from_raw_os_error("x", errno).errno_name(), None);
    }
}

#[test]
fn an_os_error_survives_both_ways() {
    for errno in 1..=133 {
        let error = Error::from(io::Error::from_raw_os_error(errno));
        assert_eq!(error.errno(), Some(errno));
        assert_eq!(io::Error::from(error).raw_os_error(), Some(errno));
    }
}

#[test]
fn an_error_survives_io_error_whole() {
    let original = Error::from_raw_os_error("mq_open", raw(Errno::NOENT))
        .with_address("/jobs")
        .with_detail("prio=3");
    let (text, operation) = (original.to_string(), original.operation().as_ptr());

    let through = io::Error::from(original);
    assert_eq!(through.kind(), io::ErrorKind::NotFound);
    assert_eq!(through.to_string(), text);

    let back = Error::from_io("another", through);
    assert_eq!(back.to_string(), text);
    assert_eq!(back.errno(), Some(raw(Errno::NOENT)));
    assert_eq!(back.operation().as_ptr(), operation);

    let lost = Error::from(io::Error::from(
        Error::new(ErrorKind::Lost, "").with_lost(9),
    ));
    assert_eq!(lost.lost(), Some(9));
    assert!(lost.is_recoverable());
}

#[test]
fn an_io_error_without_errno_is_the_source() {
    let error = Error::from_io(
        "decode",
        io::Error::new(io::ErrorKind::InvalidData, "bad length"),
    );
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.to_string(), "decode: bad length");
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
    );
    assert_eq!(error.clone().to_string(), error.to_string());
    assert!(Error::new(ErrorKind::Closed, "send").source().is_none());
}

#[test]
fn try_errors() {
    let full = TrySendError::Full(3).map(|n| n + 1);
    assert!(full.is_full() && full.error().is_none());
    assert_eq!(full.into_inner(), 4);

    let closed = TrySendError::closed("job", Error::new(ErrorKind::PeerCrashed, "send"));
    assert!(closed.error().is_some_and(Error::is_peer_crashed));
    assert_eq!(closed.to_string(), "send: the peer died without closing");
    assert_eq!(closed.map(str::len).into_inner(), 3);

    // About the value, or about the sink.
    let kinds = [
        (ErrorKind::InvalidInput, true),
        (ErrorKind::LimitExceeded, true),
        (ErrorKind::Lost, true),
        (ErrorKind::Closed, false),
        (ErrorKind::PeerCrashed, false),
        (ErrorKind::Corrupted, false),
        (ErrorKind::System, false),
    ];
    for (kind, is_rejected) in kinds {
        let failed = TrySendError::failed("job", Error::new(kind, "send"));
        assert_eq!(failed.is_rejected(), is_rejected, "{kind:?}");
        assert!(failed.error().is_some(), "{kind:?}");
        assert_eq!(failed.map(str::len).into_inner(), 3);
    }
    let no_memory = Error::from_raw_os_error("send", raw(Errno::NOMEM));
    assert!(!TrySendError::failed((), no_memory).is_rejected());
    let too_long = Error::from_raw_os_error("send", raw(Errno::MSGSIZE));
    assert!(TrySendError::failed((), too_long).is_rejected());

    assert!(TryRecvError::Empty.is_empty());
    assert!(TryRecvError::Closed.is_closed());
    let failed = TryRecvError::from(Error::new(ErrorKind::Corrupted, "recv"));
    assert_eq!(failed.to_string(), "recv: shared memory is corrupted");
}

/// What a seccomp filter refuses is not a matter of owners and capabilities.
#[test]
fn a_sandbox_is_named() {
    for operation in [
        "memfd_create",
        "pidfd_open",
        "io_uring_setup",
        "futex_waitv",
    ] {
        for errno in [Errno::PERM, Errno::NOSYS] {
            let error = Error::from_raw_os_error(operation, errno.raw_os_error());
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("sandbox refuses"), "{error}");
            assert!(error.remedy().unwrap().contains("seccomp"), "{error}");
        }
    }
    let error = Error::from_raw_os_error("open", Errno::PERM.raw_os_error());
    assert!(!error.to_string().contains("sandbox"), "{error}");
}

#[test]
fn kinds_of_io_errors_follow() {
    let pairs = [
        (ErrorKind::NotFound, io::ErrorKind::NotFound),
        (ErrorKind::AlreadyExists, io::ErrorKind::AlreadyExists),
        (ErrorKind::TimedOut, io::ErrorKind::TimedOut),
    ];
    for (kind, io_kind) in pairs {
        let error = io::Error::from(Error::new(kind, "open"));
        assert_eq!(error.kind(), io_kind);
        let text_only = io::Error::new(io_kind, "text");
        assert_eq!(Error::from(text_only).kind(), kind);
    }
    // An errno of which the mechanism knows better.
    let error =
        Error::from_raw_os_error("msgctl", raw(Errno::INVAL)).with_kind(ErrorKind::NotFound);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_address_error_is_readable_where_main_prints_it() {
    let error = "mq:jobs".parse::<sinew_core::Address>().unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        format!("AddressError {{ message: {error} }}")
    );
}
