//! Whose memory a channel may lie in.

use sinew_core::{Error, ErrorKind, is_own_uid};
use sinew_memory::Region;

/// Refuses memory that belongs to a user other than this process's, root and those in `allowed`.
///
/// The owner of a file can always make it writable, and so can the owner and the creator of a SysV
/// segment.
pub(super) fn check(region: &Region, allowed: &[u32]) -> Result<(), Error> {
    let Some(owner) = region.owner_uid().filter(|_| !region.was_created()) else {
        return Ok(());
    };
    // It fails for all that is no SysV segment, and for a segment that cannot be read.
    let creator = region.sysv_stat().map_or(owner, |stat| stat.creator_uid);
    match stranger(&[owner, creator], is_own_uid, allowed) {
        None => Ok(()),
        Some(uid) => Err(Error::new(ErrorKind::Refused, "open")
            .with_address(region.name())
            .with_reason(format!(
                "the memory belongs to uid {uid}, who can change what is sent through it"
            ))
            .with_remedy(
                "trust that user with `allow_uid` (`allow-uid` in an address), or choose another name",
            )),
    }
}

/// The first of `owners` that is not trusted.
fn stranger(owners: &[u32], is_own: impl Fn(u32) -> bool, allowed: &[u32]) -> Option<u32> {
    let is_trusted = |uid| uid == 0 || is_own(uid) || allowed.contains(&uid);
    owners.iter().copied().find(|uid| !is_trusted(*uid))
}

#[cfg(test)]
mod tests {
    use super::stranger;

    #[test]
    fn root_oneself_and_those_who_are_allowed() {
        assert_eq!(stranger(&[0, 1000], |uid| uid == 1000, &[]), None);
        assert_eq!(stranger(&[1001, 1000], |uid| uid == 1000, &[]), Some(1001));
        assert_eq!(stranger(&[1000, 1001], |uid| uid == 1000, &[]), Some(1001));
        assert_eq!(
            stranger(&[1001, 1002], |uid| uid == 1000, &[1002, 1001]),
            None
        );
        assert_eq!(stranger(&[1000], |uid| uid == 0, &[]), Some(1000));
    }
}
