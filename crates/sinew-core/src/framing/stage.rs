use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::{make_room, put_chunks};

/// Bytes from which on it is cheaper to keep a payload where it is than to copy it.
const KEPT: usize = 8192;
/// Bytes of memory that there are at least, once there are any.
const LEAST: usize = 1024;
/// Bytes of memory that are kept for the next message.
const RETAINED: usize = 64 << 10;
/// Pieces that are written at once.
const SLICES: usize = 16;

/// Bytes on their way out, where large payloads stay what they are instead of being copied.
#[derive(Debug, Default)]
pub struct Stage {
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    /// What follows the pieces.
    tail: BytesMut,
}

impl Stage {
    /// Bytes that are staged.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    /// Whether nothing is staged.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for that many bytes: once for a frame that is put in pieces, instead of for each.
    #[inline]
    pub fn reserve(&mut self, additional: usize) {
        if additional > self.tail.capacity() - self.tail.len() {
            self.grow(additional);
        }
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        if self.tail.is_empty() {
            make_room(&mut self.tail, additional, LEAST);
        } else {
            self.tail.reserve(additional);
        }
    }

    /// Appends a copy of these bytes.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        put_chunks(&mut self.tail, bytes);
    }

    /// Appends these bytes, without copying them if they are many.
    pub fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < KEPT {
            return self.put_slice(bytes);
        }
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.push(before);
        }
        self.push(bytes.clone());
    }

    /// The buffer at the end, to append to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    fn push(&mut self, piece: Bytes) {
        self.pieces_len += piece.len();
        self.pieces.push_back(piece);
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.pieces_len = 0;
        self.tail.clear();
        self.give_back();
    }

    /// Keeps no more memory than is worth it, once the tail is empty.
    fn give_back(&mut self) {
        if self.tail.is_empty() && self.tail.try_reclaim(RETAINED + 1) {
            self.tail = BytesMut::new();
        }
    }

    /// Writes once. `Ok(0)` does not come.
    #[inline(always)]
    pub(super) fn poll_write<W: AsyncWrite>(
        &mut self,
        io: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.pieces.is_empty() {
            return self.poll_write_pieces(io, cx);
        }
        let written = ready!(io.poll_write(cx, &self.tail))?;
        if written == self.tail.len() && (1..=RETAINED).contains(&self.tail.capacity()) {
            // The next frame is put where this one was.
            self.tail.clear();
            return Poll::Ready(Ok(written));
        }
        self.written(written)
    }

    #[cold]
    fn poll_write_pieces<W: AsyncWrite>(
        &mut self,
        io: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = match self.pieces.front() {
            Some(first) if !io.is_write_vectored() => ready!(io.poll_write(cx, first))?,
            _ => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let pieces = self.pieces.iter().map(|piece| &piece[..]);
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces.chain([&self.tail[..]])) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            }
        };
        self.written(written)
    }

    #[cold]
    fn written(&mut self, count: usize) -> Poll<io::Result<usize>> {
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        if self.tail.is_empty() && self.tail.capacity() > 0 {
            make_room(&mut self.tail, LEAST, LEAST);
        }
        Poll::Ready(Ok(count))
    }

    /// Drops bytes from the front.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                self.pieces_len -= count;
                return;
            }
            count -= first.len();
            self.pieces_len -= first.len();
            self.pieces.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
        self.give_back();
    }
}
