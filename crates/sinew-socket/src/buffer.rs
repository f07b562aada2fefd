//! Memory that packets are received into, and which they share.

use bytes::{Bytes, BytesMut};
use sinew_core::make_room;

/// Bytes of a block beyond the longest packet: so many go to packets before there is a new block.
const BLOCK: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: BytesMut,
    limit: usize,
}

impl Buffer {
    /// For packets of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// An empty buffer with room for a packet. Where the earlier packets are gone, it is the old block.
    ///
    /// Called again it may give other memory, where somebody dropped a packet meanwhile.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.bytes.clear();
        let block = self.limit.saturating_add(BLOCK);
        make_room(&mut self.bytes, self.limit, block);
        &mut self.bytes
    }

    /// The buffer with the room that it was given last.
    pub(crate) fn as_given(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// What was received.
    pub(crate) fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As another thread may do while a system call fills the room.
    #[test]
    fn a_packet_that_is_dropped_moves_no_room_that_was_given() {
        let mut buffer = Buffer::new(512);
        buffer.room().extend_from_slice(&[7; 512]);
        let held = buffer.take();
        let given = buffer.room().as_ptr();
        drop(held);
        assert_eq!(buffer.as_given().as_ptr(), given);
        assert_ne!(
            buffer.room().as_ptr(),
            given,
            "the block is used from its front again"
        );
    }
}
