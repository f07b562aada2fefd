//! Listeners that the process was started with.

use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::SocketType;
use sinew_core::{Error, ErrorKind, is_taken, take_inherited};

/// The first descriptor that is passed: `SD_LISTEN_FDS_START`.
const START: RawFd = 3;
/// More than any service has.
const MOST: i32 = 4096;

/// A socket that the process was started with, by systemd or whatever speaks its protocol.
///
/// Give it to the `listen_on` of the options of its kind: those of
/// [`stream`](super::stream::Options::listen_on), [`seqpacket`](super::seqpacket::Options::listen_on),
/// [`datagram`](super::datagram::Options::socket_on), [`tcp`](crate::tcp::Options::listen_on) or
/// [`udp`](crate::udp::Options::socket_on).
#[derive(Debug)]
pub struct Inherited {
    fd: OwnedFd,
    name: String,
}

impl Inherited {
    /// Its name, from `LISTEN_FDNAMES`; `unknown` where there is none, as sd_listen_fds(3) has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a stream socket that listens, of whatever family.
    pub fn is_listener(&self) -> bool {
        let socket = self.fd.as_fd();
        rustix::net::sockopt::socket_type(socket) == Ok(SocketType::STREAM)
            && rustix::net::sockopt::socket_acceptconn(socket) == Ok(true)
    }
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> Self {
        inherited.fd
    }
}

/// The sockets that this process was started with, by the protocol of [sd_listen_fds(3)]: `LISTEN_FDS`
/// of them from descriptor 3 on, meant for the process `LISTEN_PID`, with the names `LISTEN_FDNAMES`.
///
/// Each is taken once, by [`take_inherited`]: a second call gives those that are left, which is
/// none. They are made close-on-exec. The variables stay as they are, as changing them is not sound
/// beside other threads; their `LISTEN_PID` keeps children from taking them for theirs.
///
/// Without the variables, or if they are meant for another process, there are none.
///
/// # Errors
///
/// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if the variables make no sense, or a descriptor
/// that they promise is not open, is no socket, or is one that the program has opened itself.
///
/// # Examples
///
/// ```
/// use sinew_socket::unix::{inherited_listeners, stream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// for inherited in inherited_listeners()? {
///     println!("activated for {}", inherited.name());
///     let _listener = stream::Options::new().listen_on(inherited)?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// [sd_listen_fds(3)]: https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html
pub fn inherited_listeners() -> Result<Vec<Inherited>, Error> {
    let variable = |name| env::var(name).ok();
    let passed = plan(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
        std::process::id(),
    )?;
    let mut listeners = Vec::new();
    for (fd, name) in passed {
        if is_taken(fd) {
            continue;
        }
        let is_socket = |fd: BorrowedFd<'_>| rustix::net::sockopt::socket_type(fd).is_ok();
        let fd = take_inherited(fd, is_socket).map_err(|error| {
            error
                .with_detail(format!("LISTEN_FDS promises the socket {fd}"))
                .with_remedy("check how the process is started: see sd_listen_fds(3)")
        })?;
        listeners.push(Inherited { fd, name });
    }
    Ok(listeners)
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "listen_fds")
        .with_reason(reason)
        .with_remedy("check how the process is started: see sd_listen_fds(3)")
}

/// Which descriptors are passed, with their names.
fn plan(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    us: u32,
) -> Result<Vec<(RawFd, String)>, Error> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(Vec::new());
    };
    let pid: u32 = pid
        .parse()
        .map_err(|_| invalid(format!("LISTEN_PID={pid} is no process number")))?;
    if pid != us {
        return Ok(Vec::new());
    }
    let count = match count.parse::<i32>() {
        Ok(count @ 0..=MOST) => count,
        _ => {
            return Err(invalid(format!(
                "LISTEN_FDS={count} is no number of sockets"
            )));
        }
    };
    let mut names = names.unwrap_or_default().split(':');
    let name = |_| match names.next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "unknown".to_owned(),
    };
    let names: Vec<_> = (0..count).map(name).collect();
    Ok((START..).zip(names).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables() {
        let none = Vec::new();
        assert_eq!(plan(None, None, None, 7).unwrap(), none);
        assert_eq!(plan(Some("8"), Some("2"), None, 7).unwrap(), none);
        assert_eq!(plan(Some("7"), Some("0"), None, 7).unwrap(), none);
        let named = |fd, name: &str| (fd, name.to_owned());
        assert_eq!(
            plan(Some("7"), Some("3"), Some("http:"), 7).unwrap(),
            [named(3, "http"), named(4, "unknown"), named(5, "unknown")]
        );
        for (pid, count) in [("x", "1"), ("7", "-1"), ("7", "many"), ("7", "99999")] {
            let error = plan(Some(pid), Some(count), None, 7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
