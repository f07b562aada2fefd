//! What the addresses of several schemes have in common.

use std::fmt::Display;

#[cfg(any(feature = "shm", feature = "socket"))]
use sinew_core::Endpoint;
use sinew_core::{Address, Error, ErrorKind};
#[cfg(any(feature = "mqueue", feature = "shm", feature = "sync"))]
use sinew_core::{SysvTarget, sysv::Target};

/// The key, id or file by which a SysV object is named; `what` it is.
#[cfg(any(feature = "mqueue", feature = "shm", feature = "sync"))]
pub(super) fn target(address: &Address, what: &str) -> Result<Target, Error> {
    let project = address.parse_param::<u8>("project")?;
    let target = match address.sysv_target() {
        Some(SysvTarget::Path(path)) => return Ok(Target::path(path, project.unwrap_or(1))),
        Some(SysvTarget::Key(key)) => Target::Key(key),
        Some(SysvTarget::Id(id)) => Target::Id(id),
        _ => {
            return Err(invalid(
                address,
                format!("it names no {what}"),
                format!(
                    "write {}: and a key such as 0x5e1f, `id=` and a number, or an absolute path",
                    address.scheme()
                ),
            ));
        }
    };
    match project {
        None => Ok(target),
        Some(_) => Err(invalid(
            address,
            "`project` is for a path, and this is none",
            "leave it out",
        )),
    }
}

#[cfg(any(feature = "mqueue", feature = "shm", feature = "sync"))]
pub(super) fn exclusive(address: &Address) -> Result<bool, Error> {
    if address.flag("exclusive") && !address.flag("create") {
        return Err(invalid(
            address,
            "`exclusive` is for what is made, and this is opened",
            "add `create`, or leave it out",
        ));
    }
    Ok(address.flag("exclusive"))
}

#[cfg(any(
    feature = "mqueue",
    feature = "shm",
    feature = "socket",
    feature = "sync"
))]
pub(super) fn mode(address: &Address) -> Result<Option<u32>, Error> {
    let mode = address.mode("mode")?;
    match mode.filter(|mode| mode & !0o777 != 0) {
        None => Ok(mode),
        Some(mode) => Err(invalid(
            address,
            format!("the mode {mode:o} has more than permission bits"),
            format!("write {:o}", mode & 0o777),
        )),
    }
}

/// The mode of a socket's path.
#[cfg(any(feature = "shm", feature = "socket"))]
pub(super) fn endpoint_mode(address: &Address) -> Result<Option<u32>, Error> {
    let mode = mode(address)?;
    match (mode, address.endpoint()) {
        (Some(_), Some(Endpoint::Abstract(_))) => Err(invalid(
            address,
            "an abstract name has no permissions, so there is no `mode`",
            "leave it out, or use a path",
        )),
        _ => Ok(mode),
    }
}

pub(super) fn invalid(address: &Address, reason: impl Display, remedy: impl Display) -> Error {
    Error::new(ErrorKind::InvalidAddress, "open")
        .with_address(address)
        .with_reason(reason.to_string())
        .with_remedy(remedy.to_string())
}

/// Names the address in errors that know only themselves.
pub(super) fn named(error: Error, address: &Address) -> Error {
    match error.address() {
        Some(_) => error,
        None => error.with_address(address),
    }
}
