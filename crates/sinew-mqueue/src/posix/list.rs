use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use sinew_core::{Error, ErrorKind};

/// The names of all POSIX queues of this IPC namespace, sorted.
///
/// They are read from the `mqueue` file system. With `CAP_SYS_ADMIN` it is mounted for the purpose, where
/// nobody sees it (Linux 5.2); otherwise it must be mounted somewhere, usually at `/dev/mqueue`.
///
/// # Errors
///
/// Of kind [`Unsupported`](ErrorKind::Unsupported) where it is not mounted and cannot be.
///
/// # Examples
///
/// ```
/// use sinew_core::ErrorKind;
///
/// match sinew_mqueue::posix::list() {
///     Ok(names) => assert!(names.is_sorted()),
///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
/// }
/// ```
pub fn list() -> Result<Vec<OsString>, Error> {
    let mut names = match unseen() {
        Ok(names) => names,
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => mounted()?,
        Err(errno) => return Err(Error::from_io("fsmount", errno.into())),
    };
    names.sort();
    Ok(names)
}

fn unseen() -> rustix::io::Result<Vec<OsString>> {
    let context = fsopen(c"mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let mut names = Vec::new();
    // The mount is an `O_PATH` descriptor, which cannot be read itself.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(&mount, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(with_slash(OsStr::from_bytes(name)));
        }
    }
    Ok(names)
}

fn mounted() -> Result<Vec<OsString>, Error> {
    let place = mount_point().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "list")
            .with_reason(
                "the mqueue file system is not mounted, and mounting it needs CAP_SYS_ADMIN",
            )
            .with_remedy("as root: mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue")
    })?;
    let failed = |error| Error::from_io("readdir", error).with_address(place.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&place).map_err(failed)? {
        names.push(with_slash(&entry.map_err(failed)?.file_name()));
    }
    Ok(names)
}

fn with_slash(name: &OsStr) -> OsString {
    let mut slashed = OsString::from("/");
    slashed.push(name);
    slashed
}

/// From `/proc/self/mountinfo`, of proc(5): the fifth field is the place, and the first after a lone dash
/// the kind of file system.
fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    mounts.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let place = fields.nth(4)?;
        let kind = fields.skip_while(|field| field != b"-").nth(1)?;
        (kind == b"mqueue").then(|| PathBuf::from(OsString::from_vec(unescaped(place))))
    })
}

/// Spaces, tabs, newlines and backslashes stand as three octal digits there.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| byte == b'\\');
        let value = octal.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(value.unwrap_or(byte));
        rest = &after[if value.is_some() { 3 } else { 0 }..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo() {
        assert_eq!(unescaped(br"/dev/mqueue"), b"/dev/mqueue");
        assert_eq!(unescaped(br"/a\040b\134c\x"), br"/a b\c\x");
        assert_eq!(unescaped(br"\04"), br"\04");
    }
}
