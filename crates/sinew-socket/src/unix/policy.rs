//! Who may connect.

use std::fmt;
use std::sync::Arc;

use sinew_core::{Credentials, UnixEndpoint, is_own_uid};

type Decide = Arc<dyn Fn(&Credentials) -> bool + Send + Sync>;

/// Who may connect. Nothing set: whoever the permissions of the path admit.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
    pub(crate) decide: Option<Decide>,
}

impl Policy {
    pub(crate) fn admits(&self, peer: &Credentials, endpoint: Option<&UnixEndpoint>) -> bool {
        let listed = !self.uids.is_empty() || !self.gids.is_empty();
        if listed && !self.uids.contains(&peer.uid) && !self.gids.contains(&peer.gid) {
            return false;
        }
        match (&self.decide, endpoint) {
            (Some(decide), _) => decide(peer),
            // An abstract name has no permissions.
            (None, Some(UnixEndpoint::Abstract(_))) if !listed => {
                peer.uid == 0 || is_own_uid(peer.uid)
            }
            _ => true,
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("uids", &self.uids)
            .field("gids", &self.gids)
            .field("decide", &self.decide.as_ref().map(|_| ".."))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_closures() {
        let peer = Credentials::new(1, 1000, 100);
        let path = UnixEndpoint::from("/x");
        let name = UnixEndpoint::from("@x");
        let any = Policy::default();
        assert!(any.admits(&peer, Some(&path)));
        let us = rustix::process::geteuid().as_raw();
        assert_eq!(any.admits(&peer, Some(&name)), us == 1000);
        assert!(any.admits(&Credentials::new(1, us, 7), Some(&name)));
        let listed = Policy {
            uids: vec![3],
            gids: vec![100],
            decide: None,
        };
        assert!(listed.admits(&peer, Some(&name)));
        assert!(listed.admits(&Credentials::new(1, 3, 9), Some(&path)));
        assert!(!listed.admits(&Credentials::new(1, 4, 9), Some(&path)));
        let decided = Policy {
            decide: Some(Arc::new(|peer| peer.pid == 2)),
            ..listed
        };
        assert!(!decided.admits(&peer, Some(&path)));
        assert!(decided.admits(&Credentials::new(2, 3, 9), Some(&path)));
        assert!(!decided.admits(&Credentials::new(2, 4, 9), Some(&path)));
    }
}
