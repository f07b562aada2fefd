//! Whose process this is.

use std::sync::OnceLock;

/// Whether a user id, such as that of a peer or of a file's owner, is the effective user of this
/// process.
///
/// In a user namespace all users that it does not map look like one, the *overflow uid* (65534,
/// nobody), this process's own user included. That one is never equal, because it may be anybody:
/// user_namespaces(7), under *Unmapped user and group IDs*.
pub fn is_own_uid(uid: u32) -> bool {
    equals(rustix::process::geteuid().as_raw(), uid, unmapped_uid())
}

fn equals(own: u32, uid: u32, unmapped: Option<u32>) -> bool {
    uid == own && Some(uid) != unmapped
}

/// The uid that stands for all that have none in this user namespace; `None` where all have one.
fn unmapped_uid() -> Option<u32> {
    static UNMAPPED: OnceLock<Option<u32>> = OnceLock::new();
    *UNMAPPED.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        let overflow = overflow.ok().and_then(|uid| uid.trim().parse().ok());
        (!maps_all(&map)).then(|| overflow.unwrap_or(65534))
    })
}

/// Whether a `/proc/PID/uid_map` maps every uid, as that of the initial namespace does.
fn maps_all(map: &str) -> bool {
    let lengths = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    lengths.sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_that_stands_for_many_is_nobodys_own() {
        assert!(equals(1000, 1000, Some(65534)) && equals(65534, 65534, None));
        assert!(!equals(65534, 65534, Some(65534)) && !equals(1, 2, None));
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("0 1000 1\n1 100000 65536\n") && !maps_all(""));
    }
}
