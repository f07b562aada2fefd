use bytes::{Buf, BufMut, BytesMut};

const PAGE: usize = 4096;
/// Where in a page a read does not begin: see [`make_room`].
const MARGIN: usize = 128;

/// Bytes that are copied at once by [`put_chunks`].
const CHUNK: usize = 1024;

/// Makes room at the end of `buffer` for a read of `least` bytes or more, in blocks of `block` bytes that
/// the messages received into them share.
///
/// Where nothing is in the buffer, and nobody holds a message of its block any more, the room is the whole
/// block again, whose memory the caches still have. So the room is for the next read alone: called again,
/// it may be elsewhere, since another thread may have dropped a message meanwhile.
///
/// An empty buffer does not begin in the first bytes of a page. The kernel keeps what it passes on at the
/// beginning of pages (pipes, sockets) or behind a header of 48 bytes (queues), and copies it with
/// `rep movsb`, which AMD's Zen 3 and 4 do a byte at a time if the target lies up to 31 bytes behind the
/// source modulo 4 KiB: 1,400 ns for 4 KiB instead of 50. Memory that malloc has mapped begins at 16.
///
/// # Examples
///
/// ```
/// use bytes::BytesMut;
/// use sinew_core::make_room;
///
/// let mut buffer = BytesMut::new();
/// make_room(&mut buffer, 512, 8192);
/// assert!(buffer.capacity() - buffer.len() >= 512);
/// ```
pub fn make_room(buffer: &mut BytesMut, least: usize, block: usize) {
    let block = block.max(least);
    let went_back = buffer.is_empty() && buffer.try_reclaim(block);
    if !went_back && buffer.capacity() - buffer.len() < least {
        buffer.reserve(block + MARGIN);
    }
    if buffer.is_empty() {
        let into_page = buffer.as_ptr().addr() % PAGE;
        let skipped = MARGIN.saturating_sub(into_page);
        if skipped > 0 && buffer.capacity() >= skipped + least {
            buffer.resize(skipped, 0);
            buffer.advance(skipped);
        }
    }
}

/// Appends `bytes` to `buffer`, a kilobyte at a time.
///
/// A copy of more than about 2 KiB at once is one `rep movsb`, with the trap of [`make_room`].
#[inline]
pub fn put_chunks(buffer: &mut impl BufMut, bytes: &[u8]) {
    if bytes.len() <= CHUNK {
        return buffer.put_slice(bytes);
    }
    for chunk in bytes.chunks(CHUNK) {
        buffer.put_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 8192;

    fn receive(buffer: &mut BytesMut, bytes: &[u8]) -> bytes::Bytes {
        make_room(buffer, bytes.len(), BLOCK);
        buffer.extend_from_slice(bytes);
        buffer.split().freeze()
    }

    #[test]
    fn gives_the_same_room_until_something_is_received() {
        let mut buffer = BytesMut::new();
        make_room(&mut buffer, 100, BLOCK);
        let (at, room) = (buffer.as_ptr(), buffer.capacity());
        make_room(&mut buffer, 100, BLOCK);
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (at, room));
    }

    #[test]
    fn goes_back_to_the_front_when_the_messages_are_gone() {
        let mut buffer = BytesMut::new();
        let first = receive(&mut buffer, &[1; 1000]);
        let at = first.as_ptr();
        let second = receive(&mut buffer, &[2; 1000]);
        assert_eq!(second.as_ptr(), at.wrapping_add(1000));
        drop((first, second));
        assert_eq!(receive(&mut buffer, &[3; 1000]).as_ptr(), at);
    }

    #[test]
    fn leaves_messages_that_are_kept_alone() {
        let mut buffer = BytesMut::new();
        let kept: Vec<_> = (0..100)
            .map(|number| receive(&mut buffer, &[number; 777]))
            .collect();
        for (number, message) in (0..).zip(&kept) {
            assert_eq!(message[..], [number; 777]);
        }
    }

    #[test]
    fn keeps_what_is_in_the_buffer() {
        let mut buffer = BytesMut::from(&b"half a mess"[..]);
        make_room(&mut buffer, 100, BLOCK);
        assert_eq!(buffer, "half a mess");
        assert!(buffer.capacity() - buffer.len() >= 100);
    }

    #[test]
    fn does_not_begin_in_the_first_bytes_of_a_page() {
        for block in [BLOCK, 64 << 10, 256 << 10, 1 << 20] {
            let mut buffer = BytesMut::new();
            make_room(&mut buffer, 4096, block);
            assert!(buffer.as_ptr().addr() % PAGE >= MARGIN);
            assert!(buffer.capacity() >= block);
        }
    }

    #[test]
    fn what_is_put_in_chunks_is_whole() {
        let bytes: Vec<u8> = (0_u32..5000).map(|index| index.to_le_bytes()[0]).collect();
        let mut buffer = vec![1, 2];
        put_chunks(&mut buffer, &bytes);
        assert_eq!(buffer[..2], [1, 2]);
        assert_eq!(buffer[2..], bytes);
    }
}
