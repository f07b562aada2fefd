//! What the halves of a channel count.

/// What a [`Sender`](crate::Sender) has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SenderStats {
    /// Messages staged.
    pub messages: u64,
    /// Payload bytes staged.
    pub bytes: u64,
    /// Of the messages, those in memory of their own.
    pub memories: u64,
    /// Times that it went to sleep for want of room.
    pub parks: u64,
    /// Times that it rang the receiver.
    pub rings: u64,
    /// Active waits that paid off.
    pub spins: u64,
    /// Active waits that ended in a park.
    pub spin_misses: u64,
}

/// What a [`Receiver`](crate::Receiver) has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Messages received.
    pub messages: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Of the messages, those in memory of their own.
    pub memories: u64,
    /// Times that it went to sleep for want of a message.
    pub parks: u64,
    /// Times that it rang the sender.
    pub rings: u64,
    /// Active waits that paid off.
    pub spins: u64,
    /// Active waits that ended in a park.
    pub spin_misses: u64,
}
