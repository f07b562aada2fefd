use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fault::Fault;
use super::value::is_decimal;

/// How a `sysvmq:`, `sysvsem:` or `sysvshm:` address names its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SysvTarget<'a> {
    /// By a key: `0x5e1f`, or decimal. No address has key 0, `IPC_PRIVATE`, which makes a new
    /// object each time.
    Key(i32),
    /// By the kernel's id: `id=3`.
    Id(i32),
    /// By the key that ftok(3) makes of a path and of the parameter `project`.
    Path(&'a Path),
}

pub(super) fn target(rest: &[u8]) -> Result<SysvTarget<'_>, Fault> {
    let whole = 0..rest.len();
    if rest.starts_with(b"/") {
        return Ok(SysvTarget::Path(Path::new(OsStr::from_bytes(rest))));
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return Err(not_a_key(whole, &String::from_utf8_lossy(rest)));
    };
    if let Some(id) = text.strip_prefix("id=") {
        let number = if is_decimal(id) {
            id.parse().ok()
        } else {
            None
        };
        return number.map(SysvTarget::Id).ok_or_else(|| {
            Fault::new(3..rest.len(), format!("`{id}` is not an id"))
                .remedy("write a number that ipcs(1) lists")
        });
    }
    let key = match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        None if is_decimal(text) => text.parse().ok(),
        _ => None,
    };
    match key {
        None => Err(not_a_key(whole, text)),
        Some(0) => Err(Fault::new(
            whole,
            "key 0 is IPC_PRIVATE, which makes a new object that no other process finds",
        )
        .remedy("write another key, such as 0x5e1f, or `id=` and the number of an object")),
        // A key_t is signed, but written unsigned by ipcs(1) and everyone else.
        Some(key) => Ok(SysvTarget::Key(key.cast_signed())),
    }
}

/// As [`target`], with the index of one semaphore after a slash.
pub(super) fn indexed(rest: &[u8]) -> Result<(SysvTarget<'_>, u16), Fault> {
    let slash = rest.iter().rposition(|&byte| byte == b'/');
    let Some(slash) = slash.filter(|&at| at > 0) else {
        let end = rest.len();
        target(rest)?;
        return Err(
            Fault::new(end..end, "the index of the semaphore is missing")
                .remedy("append it, such as `/0` for the first of the set"),
        );
    };
    let (name, index) = (&rest[..slash], &rest[slash + 1..]);
    let target = target(name)?;
    let index = std::str::from_utf8(index)
        .ok()
        .filter(|text| is_decimal(text))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            let index = String::from_utf8_lossy(index);
            Fault::new(
                slash + 1..rest.len(),
                format!("`{index}` is not the index of a semaphore"),
            )
            .remedy("write a number, 0 for the first of the set")
        })?;
    Ok((target, index))
}

fn not_a_key(range: std::ops::Range<usize>, text: &str) -> Fault {
    Fault::new(range, format!("`{text}` is not a key"))
        .remedy("write a key such as 0x5e1f, `id=` and a number, or an absolute path")
}
