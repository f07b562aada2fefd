//! What an end makes of the words that it finds: decisions without memory, clock or futex.
//!
//! The ends call these functions, and so does the exhaustive test in `model.rs`. The table in
//! `docs/protocol/region.md` lists the states and what follows from each.

/// What a sender finds in the channel that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The sender's cursor, without its flags.
    pub(super) published: u64,
    /// The receiver's cursor.
    pub(super) released: u64,
    /// Where the frame ends by which the sender was closed last.
    pub(super) ended: u64,
    /// Where the frame ends that told of a death last.
    pub(super) told: u64,
    /// Whether the predecessor died without having given the end back.
    pub(super) died: bool,
}

/// What a sender does before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    /// `ended` is about a frame that the receiver has not come to yet. Otherwise it is to be zero.
    pub(super) keep_ended: bool,
    /// The same of `told`.
    pub(super) keep_told: bool,
    /// A frame has to tell of the predecessor's death.
    pub(super) tell: bool,
}

impl Found {
    pub(super) fn plan(self) -> Plan {
        let unread = self.released < self.published;
        let ended = self.ended == self.published && self.published > 0;
        let told = self.told == self.published && unread;
        Plan {
            // A frame that was read stands for nobody else. A mark whose frame was never published would be
            // taken for that of another frame which ends there.
            keep_ended: ended && unread,
            keep_told: told,
            tell: self.died && !ended && !told,
        }
    }
}

/// Whether the frame by which an earlier sender was closed also stands for one that is closed now, with its cursor
/// at `position`: nothing was published after it, and the receiver has not come to it.
pub(super) fn end_stands(ended: u64, position: u64, released: u64) -> bool {
    ended == position && released < position
}

/// Whether a sender that is dead had been closed before, as its receiver knows that has consumed all up to `head`.
pub(super) fn was_closed(ended: u64, head: u64) -> bool {
    ended != 0 && ended == head
}

/// Which of two pairs of a cursor and a count is that of `cursor`, and the count; `None` if neither is.
pub(super) fn count_at(pairs: [(u64, u64); 2], cursor: u64) -> Option<(usize, u64)> {
    let current = pairs.iter().position(|pair| pair.0 == cursor)?;
    Some((current, pairs[current].1))
}

/// Whether a sleeper that was not rung has to look: the other end has moved from where it was `seen`, or has died.
pub(super) fn must_look(cursor: u64, seen: u64, other_died: bool) -> bool {
    cursor != seen || other_died
}

/// Whether a message is for the client of the session `mine`, where `label` is the last one before it.
///
/// Zero is of a message that was sent before any client was heard of: it answers nobody, and is for the first that
/// receives it.
pub(super) fn is_addressed(label: u64, mine: u64) -> bool {
    label == 0 || label == mine
}
