//! What is known about an errno from its number alone.

use std::io;

use rustix::io::Errno;

use super::ErrorKind;

/// The symbolic name, such as `ENOENT`. Numbers differ between architectures, names do not.
pub(super) fn name(errno: i32) -> Option<&'static str> {
    entry(errno).map(|&(_, name)| name)
}

fn known(errno: i32) -> Option<Errno> {
    entry(errno).map(|&(known, _)| known)
}

fn entry(errno: i32) -> Option<&'static (Errno, &'static str)> {
    NAMES
        .iter()
        .find(|(known, _)| known.raw_os_error() == errno)
}

/// The C library's description, lower-case and without the number.
pub(super) fn description(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // An acronym such as "RFS" keeps its capitals.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), &text[first.len_utf8()..])
        }
        _ => text.to_owned(),
    }
}

/// The kind that an errno has where the mechanism knows nothing better.
pub(super) fn kind(errno: i32) -> ErrorKind {
    match known(errno) {
        Some(Errno::NOENT) => ErrorKind::NotFound,
        Some(Errno::EXIST) => ErrorKind::AlreadyExists,
        Some(Errno::INVAL | Errno::NAMETOOLONG | Errno::DESTADDRREQ) => ErrorKind::InvalidInput,
        Some(
            Errno::PIPE
            | Errno::IDRM
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::NOTCONN
            | Errno::SHUTDOWN,
        ) => ErrorKind::Closed,
        Some(Errno::OWNERDEAD) => ErrorKind::PeerCrashed,
        Some(Errno::PROTO | Errno::BADMSG) => ErrorKind::Protocol,
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::NOBUFS
            | Errno::MSGSIZE
            | Errno::FBIG
            | Errno::TOOMANYREFS,
        ) => ErrorKind::LimitExceeded,
        Some(Errno::TIMEDOUT | Errno::TIME) => ErrorKind::TimedOut,
        Some(Errno::CONNREFUSED | Errno::ACCESS | Errno::PERM) => ErrorKind::Refused,
        Some(
            Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::AFNOSUPPORT
            | Errno::PROTONOSUPPORT
            | Errno::SOCKTNOSUPPORT
            | Errno::PFNOSUPPORT,
        ) => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    }
}

/// System calls that sandboxes often refuse, and that have no other reason for `EPERM`.
const SANDBOXED: &[&str] = &[
    "futex_waitv",
    "io_uring_setup",
    "membarrier",
    "memfd_create",
    "pidfd_open",
];

/// Why a system call does not exist here, with the remedy: `ENOSYS`, or `EPERM` of a seccomp
/// filter.
pub(super) fn sandboxed(operation: &str, errno: i32) -> Option<(&'static str, &'static str)> {
    match known(errno)? {
        Errno::PERM if SANDBOXED.contains(&operation) => Some((
            "a sandbox refuses this system call",
            "allow it in the seccomp filter, such as the container's security profile",
        )),
        Errno::NOSYS if !operation.is_empty() => Some((
            "the kernel is older than this system call, or a sandbox refuses it",
            "use a newer kernel, and allow it in the seccomp filter, such as the container's \
             security profile",
        )),
        _ => None,
    }
}

/// What to do about it, where that follows from the number alone.
pub(super) fn remedy(errno: i32) -> Option<&'static str> {
    Some(match known(errno)? {
        Errno::MFILE => "raise RLIMIT_NOFILE (ulimit -n) or close some descriptors",
        Errno::NFILE => "raise fs.file-max",
        Errno::ACCESS => "check the permissions and the owner",
        Errno::PERM => "run as the owner, or with the capability that this needs",
        Errno::NAMETOOLONG => "use a shorter name",
        Errno::ADDRINUSE => "choose another address, or stop the process that holds this one",
        Errno::ADDRNOTAVAIL => "use an address of this machine",
        Errno::CONNREFUSED => "start the listening side first",
        Errno::NOENT => "create it first",
        Errno::EXIST => "remove it first, or open the existing one",
        Errno::NOTDIR => "check each directory of the path",
        Errno::LOOP => "check the path's symbolic links",
        Errno::NOMEM => "free memory, or raise the memory limit",
        Errno::NOSPC => "free space, or raise the limit of this kind of object",
        Errno::DQUOT => "free space, or raise the quota",
        Errno::ROFS => "use a path on a writable file system",
        Errno::FBIG => "raise RLIMIT_FSIZE (ulimit -f), or use less",
        Errno::MSGSIZE => "send less in one message, or raise the limit",
        Errno::NOBUFS => "enlarge the buffer, or read faster",
        Errno::NOSYS => "use a kernel that has this system call, and allow it in the sandbox",
        _ => return None,
    })
}

const NAMES: &[(Errno, &str)] = &[
    (Errno::ACCESS, "EACCES"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::ADV, "EADV"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::ALREADY, "EALREADY"),
    (Errno::BADE, "EBADE"),
    (Errno::BADF, "EBADF"),
    (Errno::BADFD, "EBADFD"),
    (Errno::BADMSG, "EBADMSG"),
    (Errno::BADR, "EBADR"),
    (Errno::BADRQC, "EBADRQC"),
    (Errno::BADSLT, "EBADSLT"),
    (Errno::BFONT, "EBFONT"),
    (Errno::BUSY, "EBUSY"),
    (Errno::CANCELED, "ECANCELED"),
    (Errno::CHILD, "ECHILD"),
    (Errno::CHRNG, "ECHRNG"),
    (Errno::COMM, "ECOMM"),
    (Errno::CONNABORTED, "ECONNABORTED"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::DEADLK, "EDEADLK"),
    (Errno::DESTADDRREQ, "EDESTADDRREQ"),
    (Errno::DOM, "EDOM"),
    (Errno::DOTDOT, "EDOTDOT"),
    (Errno::DQUOT, "EDQUOT"),
    (Errno::EXIST, "EEXIST"),
    (Errno::FAULT, "EFAULT"),
    (Errno::FBIG, "EFBIG"),
    (Errno::HOSTDOWN, "EHOSTDOWN"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::HWPOISON, "EHWPOISON"),
    (Errno::IDRM, "EIDRM"),
    (Errno::ILSEQ, "EILSEQ"),
    (Errno::INPROGRESS, "EINPROGRESS"),
    (Errno::INTR, "EINTR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::IO, "EIO"),
    (Errno::ISCONN, "EISCONN"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::ISNAM, "EISNAM"),
    (Errno::KEYEXPIRED, "EKEYEXPIRED"),
    (Errno::KEYREJECTED, "EKEYREJECTED"),
    (Errno::KEYREVOKED, "EKEYREVOKED"),
    (Errno::L2HLT, "EL2HLT"),
    (Errno::L2NSYNC, "EL2NSYNC"),
    (Errno::L3HLT, "EL3HLT"),
    (Errno::L3RST, "EL3RST"),
    (Errno::LIBACC, "ELIBACC"),
    (Errno::LIBBAD, "ELIBBAD"),
    (Errno::LIBEXEC, "ELIBEXEC"),
    (Errno::LIBMAX, "ELIBMAX"),
    (Errno::LIBSCN, "ELIBSCN"),
    (Errno::LNRNG, "ELNRNG"),
    (Errno::LOOP, "ELOOP"),
    (Errno::MEDIUMTYPE, "EMEDIUMTYPE"),
    (Errno::MFILE, "EMFILE"),
    (Errno::MLINK, "EMLINK"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::MULTIHOP, "EMULTIHOP"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NAVAIL, "ENAVAIL"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETRESET, "ENETRESET"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NFILE, "ENFILE"),
    (Errno::NOANO, "ENOANO"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::NOCSI, "ENOCSI"),
    (Errno::NODATA, "ENODATA"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOENT, "ENOENT"),
    (Errno::NOEXEC, "ENOEXEC"),
    (Errno::NOKEY, "ENOKEY"),
    (Errno::NOLCK, "ENOLCK"),
    (Errno::NOLINK, "ENOLINK"),
    (Errno::NOMEDIUM, "ENOMEDIUM"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::NOMSG, "ENOMSG"),
    (Errno::NONET, "ENONET"),
    (Errno::NOPKG, "ENOPKG"),
    (Errno::NOPROTOOPT, "ENOPROTOOPT"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::NOSR, "ENOSR"),
    (Errno::NOSTR, "ENOSTR"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::NOTBLK, "ENOTBLK"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::NOTEMPTY, "ENOTEMPTY"),
    (Errno::NOTNAM, "ENOTNAM"),
    (Errno::NOTRECOVERABLE, "ENOTRECOVERABLE"),
    (Errno::NOTSOCK, "ENOTSOCK"),
    (Errno::NOTTY, "ENOTTY"),
    (Errno::NOTUNIQ, "ENOTUNIQ"),
    (Errno::NXIO, "ENXIO"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::OVERFLOW, "EOVERFLOW"),
    (Errno::OWNERDEAD, "EOWNERDEAD"),
    (Errno::PERM, "EPERM"),
    (Errno::PFNOSUPPORT, "EPFNOSUPPORT"),
    (Errno::PIPE, "EPIPE"),
    (Errno::PROTO, "EPROTO"),
    (Errno::PROTONOSUPPORT, "EPROTONOSUPPORT"),
    (Errno::PROTOTYPE, "EPROTOTYPE"),
    (Errno::RANGE, "ERANGE"),
    (Errno::REMCHG, "EREMCHG"),
    (Errno::REMOTE, "EREMOTE"),
    (Errno::REMOTEIO, "EREMOTEIO"),
    (Errno::RESTART, "ERESTART"),
    (Errno::RFKILL, "ERFKILL"),
    (Errno::ROFS, "EROFS"),
    (Errno::SHUTDOWN, "ESHUTDOWN"),
    (Errno::SOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
    (Errno::SPIPE, "ESPIPE"),
    (Errno::SRCH, "ESRCH"),
    (Errno::SRMNT, "ESRMNT"),
    (Errno::STALE, "ESTALE"),
    (Errno::STRPIPE, "ESTRPIPE"),
    (Errno::TIME, "ETIME"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::TOOBIG, "E2BIG"),
    (Errno::TOOMANYREFS, "ETOOMANYREFS"),
    (Errno::TXTBSY, "ETXTBSY"),
    (Errno::UCLEAN, "EUCLEAN"),
    (Errno::UNATCH, "EUNATCH"),
    (Errno::USERS, "EUSERS"),
    (Errno::XDEV, "EXDEV"),
    (Errno::XFULL, "EXFULL"),
    (Errno::DEADLOCK, "EDEADLOCK"),
];
