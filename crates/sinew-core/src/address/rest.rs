//! What each scheme asks of the rest. All offsets are in the decoded bytes.

use super::fault::Fault;
use super::value::is_decimal;
use super::{Scheme, endpoint, nearest, signal, sysv};

const NETLINK: &[&str] = &["generic", "route", "uevent", "user"];
const BUSES: &[&str] = &["session", "system"];

/// The longest path that a system call takes, without its NUL.
const PATH_LONGEST: usize = 4095;

pub(super) fn check(scheme: Scheme, rest: &[u8]) -> Result<(), Fault> {
    if rest.is_empty() {
        return Err(Fault::new(0..0, format!("nothing follows `{scheme}:`"))
            .remedy(format!("for example `{}`", scheme.example())));
    }
    let is_abstract = scheme.is_endpoint() && rest.starts_with(b"@");
    if let Some(at) = rest.iter().position(|&byte| byte == 0)
        && !is_abstract
    {
        return Err(Fault::new(at..at + 1, "there cannot be a NUL here"));
    }
    match scheme {
        Scheme::Shm | Scheme::Unix | Scheme::UnixDgram | Scheme::UnixSeqpacket => {
            endpoint::check(rest)
        }
        Scheme::Fifo | Scheme::Inotify | Scheme::Fuse | Scheme::Futex | Scheme::Mmap => path(rest),
        Scheme::Exec => command(rest),
        Scheme::Fd => descriptor(text(rest)?),
        // The limits of mq_overview(7), shm_overview(7) and sem_overview(7), slash included.
        Scheme::Mq | Scheme::PosixShm => name(rest, 255),
        Scheme::Sem => name(rest, 251),
        Scheme::SysvMq | Scheme::SysvShm => sysv::target(rest).map(drop),
        Scheme::SysvSem => sysv::indexed(rest).map(drop),
        Scheme::Signal => signal::check(text(rest)?),
        Scheme::Tcp | Scheme::Udp => host_port(text(rest)?).map(drop),
        Scheme::Netlink => one_of(text(rest)?, "protocol", NETLINK),
        Scheme::Dbus => bus(text(rest)?),
    }
}

/// Refuses a `%` of a command, such as that of `printf %02d`, that begins the escape of a control
/// character. `%0A` is a newline.
pub(super) fn check_escapes(encoded: &str) -> Result<(), Fault> {
    for (at, _) in encoded.match_indices('%') {
        let byte = encoded
            .get(at + 1..at + 3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte.filter(|&byte| byte.is_ascii_control() && byte != b'\n') {
            let range = at..at + 3;
            let escape = &encoded[range.clone()];
            return Err(Fault::new(
                range,
                format!("`{escape}` stands for the control character {byte:#04x}"),
            )
            .meant(format!("%25{}", &escape[1..])));
        }
    }
    Ok(())
}

/// Refuses a `%` that is meant to begin the zone of an IPv6 address, and begins an escape.
pub(super) fn check_zone(encoded: &str) -> Result<(), Fault> {
    let host = encoded.split_once(']').map_or(encoded, |(host, _)| host);
    let percent = host
        .match_indices('%')
        .find(|(at, _)| !host[at + 1..].starts_with("25"));
    match percent {
        Some((at, _)) if host.starts_with('[') => Err(Fault::new(
            at..at + 1,
            "the `%` before the zone of an IPv6 address is written `%25`, as RFC 6874 has it",
        )
        .meant("%25")),
        _ => Ok(()),
    }
}

/// The host, without the brackets of an IPv6 address, and the port.
pub(super) fn host_port(rest: &str) -> Result<(&str, u16), Fault> {
    const EXAMPLE: &str = "write `host:port`, such as `127.0.0.1:9000` or `[::1]:9000`";
    let Some((host, port)) = rest.rsplit_once(':') else {
        let end = rest.len();
        return Err(Fault::new(end..end, "the port is missing").remedy(EXAMPLE));
    };
    let port_range = rest.len() - port.len()..rest.len();
    let host_range = 0..host.len();
    let (bare, bracketed) = match host.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => (inner, true),
            None => {
                return Err(Fault::new(host_range, "a `]` is missing").remedy(EXAMPLE));
            }
        },
        None => (host, false),
    };
    if bare.is_empty() {
        return Err(Fault::new(host_range, "the host is missing")
            .remedy("write `0.0.0.0` or `[::]` for every address of this machine"));
    }
    if !bracketed && bare.contains(':') {
        return Err(Fault::new(
            host_range,
            format!("`{host}` has colons and no brackets around it"),
        )
        .remedy(EXAMPLE));
    }
    if bracketed && bare.ends_with('%') {
        return Err(Fault::new(host_range, "the zone after the `%` is missing")
            .remedy("write the name of the interface, as in `[fe80::1%25eth0]:9000`"));
    }
    if let Some(at) = bare.find(|c: char| c.is_whitespace() || "/[]@".contains(c)) {
        let at = at + usize::from(bracketed);
        return Err(Fault::new(at..host.len(), format!("`{bare}` is not a host")).remedy(EXAMPLE));
    }
    if bracketed && !bare.contains(':') {
        return Err(
            Fault::new(host_range, format!("`{bare}` is not an IPv6 address"))
                .remedy("leave the brackets away"),
        );
    }
    if port.is_empty() {
        return Err(Fault::new(port_range, "the port is missing").remedy(EXAMPLE));
    }
    match port.parse() {
        Ok(number) if is_decimal(port) => Ok((bare, number)),
        _ => Err(Fault::new(port_range, format!("`{port}` is not a port"))
            .remedy("write a number from 0 to 65535")),
    }
}

fn text(rest: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(rest).map_err(|error| {
        let at = error.valid_up_to();
        Fault::new(at..at + 1, "this is not UTF-8")
    })
}

/// Refuses `~/`, which a shell leaves as it is behind a scheme.
pub(super) fn home(rest: &[u8]) -> Result<(), Fault> {
    if rest.starts_with(b"~/") || rest == b"~" {
        return Err(Fault::new(
            0..1,
            "`~` is the home directory at the beginning of a word of the shell alone",
        )
        .remedy("write `$HOME` in a shell, or the whole path; `./~` is a directory of that name"));
    }
    Ok(())
}

fn path(rest: &[u8]) -> Result<(), Fault> {
    home(rest)?;
    if rest.len() > PATH_LONGEST {
        return Err(Fault::new(
            0..rest.len(),
            format!(
                "the path has {} bytes, a path can have {PATH_LONGEST}",
                rest.len()
            ),
        ));
    }
    Ok(())
}

fn command(rest: &[u8]) -> Result<(), Fault> {
    home(rest)?;
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\n\t".contains(byte);
    if let Some(at) = rest.iter().position(is_control) {
        return Err(
            Fault::new(at..at + 1, "there cannot be a control character here")
                .remedy("have the program make it, as with `printf`"),
        );
    }
    if rest.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::new(0..rest.len(), "the command is missing"));
    }
    Ok(())
}

fn descriptor(rest: &str) -> Result<(), Fault> {
    if is_decimal(rest) && rest.parse::<i32>().is_ok() {
        return Ok(());
    }
    Err(
        Fault::new(0..rest.len(), format!("`{rest}` is not a descriptor"))
            .remedy("write its number, such as 0 for the standard input"),
    )
}

fn name(rest: &[u8], longest: usize) -> Result<(), Fault> {
    let shown = String::from_utf8_lossy(rest);
    let Some(name) = rest.strip_prefix(b"/") else {
        return Err(
            Fault::new(0..rest.len(), "the name must begin with a slash")
                .meant(format!("/{shown}")),
        );
    };
    if let Some(at) = name.iter().position(|&byte| byte == b'/') {
        return Err(Fault::new(at + 1..at + 2, "the name has a second slash").remedy("replace it"));
    }
    if matches!(name, b"" | b"." | b"..") {
        return Err(
            Fault::new(0..rest.len(), format!("`{shown}` is not a name"))
                .remedy("write a name after the slash"),
        );
    }
    if rest.len() > longest {
        return Err(Fault::new(
            0..rest.len(),
            format!("the name has {} bytes, it can have {longest}", rest.len()),
        )
        .remedy("use a shorter one"));
    }
    Ok(())
}

fn bus(rest: &str) -> Result<(), Fault> {
    // A D-Bus server address, such as `unix:path=/run/bus`.
    match rest.split_once(':') {
        Some((transport, _)) if !transport.is_empty() => Ok(()),
        Some(_) => Err(Fault::new(0..rest.len(), "the transport is missing")
            .remedy("write a D-Bus address such as `unix:path=/run/bus`")),
        None => one_of(rest, "bus", BUSES),
    }
}

fn one_of(rest: &str, what: &str, known: &'static [&'static str]) -> Result<(), Fault> {
    if known.contains(&rest) {
        return Ok(());
    }
    let fault = Fault::new(0..rest.len(), format!("unknown {what} `{rest}`"));
    Err(match nearest::find(rest, known.iter().copied()) {
        Some(near) => fault.meant(near),
        None => fault.remedy(format!("it can be {}", known.join(", "))),
    })
}
