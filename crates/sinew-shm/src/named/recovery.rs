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
    /// Where the sender's cursor was when the predecessor was opened.
    pub(super) opened: u64,
    /// Where the frame ends by which a sender was closed last.
    pub(super) ended: u64,
    /// Where the frame ends that told of a death last.
    pub(super) told: u64,
    /// Whether the predecessor died without having given the end back.
    pub(super) died: bool,
}

impl Found {
    /// Whether a frame has to tell of the predecessor's death.
    pub(super) fn must_tell(self) -> bool {
        let closed = was_closed(self.ended, self.opened, self.published);
        // The receiver comes to the last frame after that death, and takes it for the end of all
        // that was before.
        let unread = self.released < self.published;
        let stands = unread && (self.ended == self.published || self.told == self.published);
        self.died && !closed && !stands
    }
}

/// Whether `ended` or `told` is about a frame that was not published, as its sender died before
/// that. It must be cleared, because another frame may end there.
pub(super) fn is_stale(mark: u64, published: u64) -> bool {
    mark > published
}

/// Whether the frame by which an earlier sender was closed also stands for one that is closed now,
/// with its cursor at `position`: nothing was published after it, and the receiver has not come to
/// it.
pub(super) fn end_stands(ended: u64, position: u64, released: u64) -> bool {
    ended == position && released < position
}

/// Whether a sender that is dead, with all of its frames before `cursor`, had been closed itself.
/// One that was opened after the frame of that close was published was not.
pub(super) fn was_closed(ended: u64, opened: u64, cursor: u64) -> bool {
    ended == cursor && ended > opened
}

/// Which of two pairs of a cursor and a count is that of `cursor`, and the count; `None` if neither
/// is.
pub(super) fn count_at(pairs: [(u64, u64); 2], cursor: u64) -> Option<(usize, u64)> {
    let current = pairs.iter().position(|pair| pair.0 == cursor)?;
    Some((current, pairs[current].1))
}

/// Whether a sleeper that was not rung has to look: the other end has moved from where it was
/// `seen`, or has died.
pub(super) fn must_look(cursor: u64, seen: u64, other_died: bool) -> bool {
    cursor != seen || other_died
}

/// Whether a message is for the client of the session `mine`, where `label` is the last one before
/// it.
///
/// Zero is of a message that was sent before any client was heard of: it answers nobody, and is for
/// the first that receives it.
pub(super) fn is_addressed(label: u64, mine: u64) -> bool {
    label == 0 || label == mine
}
