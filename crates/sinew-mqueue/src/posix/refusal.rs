//! What an errno means on a POSIX queue, and what to do about it.

use std::fs::File;
use std::io;

use sinew_core::{Error, ErrorKind};

use super::limits::{self, Limits};
use crate::sysctl;

/// What was asked of a queue that was to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) max_messages: usize,
    pub(super) message_size: usize,
}

/// mq_open(3) has failed; `asked` is there if it was to make the queue.
pub(super) fn open(error: io::Error, name: &str, asked: Option<Asked>) -> Error {
    let error = Error::from_io("mq_open", error).with_address(name);
    match (error.errno(), asked) {
        (Some(libc::ENOENT), _) => error
            .with_reason("there is no such queue")
            .with_remedy("start the process that makes it, or open it with `create`"),
        (Some(libc::EEXIST), _) => error
            .with_reason("there is such a queue, and it was to be new")
            .with_remedy("open it without `exclusive`, or unlink it"),
        (Some(libc::EACCES), _) => error
            .with_reason("the queue's mode forbids it to this user")
            .with_remedy("its owner can change the mode"),
        (Some(libc::EINVAL), Some(asked)) => invalid(error, asked),
        (Some(libc::EMFILE), Some(asked)) => bytes(error, asked),
        (Some(libc::ENOSPC), _) => error
            .with_reason(sysctl::shown("fs.mqueue.queues_max"))
            .with_remedy("raise it, or unlink queues that nobody needs (they are in /dev/mqueue)"),
        _ => error,
    }
}

fn invalid(error: Error, asked: Asked) -> Error {
    let limits = Limits::current();
    let Asked {
        max_messages,
        message_size,
    } = asked;
    // Those with CAP_SYS_RESOURCE have limits of the kernel's own.
    for (what, value, sysctl, limit, hard) in [
        (
            "maxmsg",
            max_messages,
            "fs.mqueue.msg_max",
            limits.msg_max,
            65_536,
        ),
        (
            "msgsize",
            message_size,
            "fs.mqueue.msgsize_max",
            limits.msgsize_max,
            16 << 20,
        ),
    ] {
        let error = error.clone().with_detail(format!("{what}={value}"));
        let fewer = if what == "maxmsg" { "fewer" } else { "less" };
        if value == 0 {
            return error
                .with_reason("it is zero")
                .with_remedy("ask for one or more");
        }
        if value as u64 > hard {
            return error
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason(format!("the kernel's limit is {hard}"))
                .with_remedy(format!("ask for {fewer}"));
        }
        if limit.is_some_and(|limit| value as u64 > limit) {
            return error
                .with_kind(ErrorKind::LimitExceeded)
                .with_reason(sysctl::shown(sysctl))
                .with_remedy(format!("raise it or ask for {fewer}"));
        }
    }
    error.with_detail(format!("maxmsg={max_messages} msgsize={message_size}"))
}

/// `EMFILE` is for too many descriptors, and for too many bytes in the queues of a user.
fn bytes(error: Error, asked: Asked) -> Error {
    if File::open("/").is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)) {
        return error;
    }
    let Asked {
        max_messages,
        message_size,
    } = asked;
    let limit = match Limits::current().rlimit_msgqueue {
        Some(limit) => format!("RLIMIT_MSGQUEUE is {limit} bytes for all queues of this user"),
        None => "RLIMIT_MSGQUEUE is exceeded".to_owned(),
    };
    let accounted = limits::accounted(max_messages, message_size);
    error
        .with_kind(ErrorKind::LimitExceeded)
        .with_detail(format!("maxmsg={max_messages} msgsize={message_size}"))
        .with_reason(format!("{limit}, and this one takes about {accounted}"))
        .with_remedy(
            "raise it (ulimit -q), ask for fewer or shorter messages, or unlink queues that nobody needs",
        )
}

/// A message is longer than those of the queue.
pub(super) fn too_long(name: &str, len: usize, message_size: usize) -> Error {
    Error::from_raw_os_error("mq_send", libc::EMSGSIZE)
        .with_address(name)
        .with_detail(format!("{len} bytes"))
        .with_reason(format!("msgsize of this queue is {message_size}"))
        .with_remedy("send it in parts, or make the queue with a larger msgsize")
}

/// A priority is none that the kernel has.
pub(super) fn priority(name: &str, priority: u32) -> Error {
    Error::new(ErrorKind::InvalidInput, "mq_send")
        .with_address(name)
        .with_detail(format!("priority={priority}"))
        .with_reason(format!("the highest priority is {}", super::MAX_PRIORITY))
        .with_remedy("use a lower one")
}
