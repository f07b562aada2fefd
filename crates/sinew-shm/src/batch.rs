//! Many messages at once.

use bytes::Bytes;
use sinew_ring::{Frames, frame_size};

use crate::wire::FRAME_DATA;

/// Messages that [`Receiver::recv_batch`](crate::Receiver::recv_batch) received: a private copy of a
/// stretch of the ring, which is reused from batch to batch.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sinew_core::Error> {
/// let (left, right) = sinew_shm::pair()?;
/// let (mut sender, _) = left.split();
/// let (_, mut receiver) = right.split();
///
/// sender.send_batch(["one", "two", "three"]).await?;
/// let mut batch = sinew_shm::Batch::new();
/// assert_eq!(receiver.recv_batch(&mut batch).await?, 3);
/// assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    span: Vec<u8>,
    /// Bytes of `span` that hold whole messages of the common kind.
    whole: usize,
    count: usize,
    single: Option<Bytes>,
}

impl Batch {
    /// Bytes copied at a time.
    pub(crate) const SPAN: usize = 8 << 10;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages are in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The messages, in the order in which they were sent.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            frames: Frames::new(self.span.get(..self.whole).unwrap_or_default()),
            single: self.single.as_deref(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.span.clear();
        self.whole = 0;
        self.count = 0;
        self.single = None;
    }

    pub(crate) fn push_memory(&mut self, bytes: Bytes) {
        self.clear();
        self.single = Some(bytes);
        self.count = 1;
    }

    pub(crate) fn span(&mut self) -> &mut Vec<u8> {
        &mut self.span
    }

    /// Finds out what the copied span holds: messages, their bytes, and the space to release.
    pub(crate) fn seal_span(&mut self, max_message: u64) -> (usize, u64, u64) {
        let (mut count, mut bytes, mut size) = (0, 0, 0);
        for (kind, payload) in Frames::new(&self.span) {
            // What lies in memory of its own, or breaks the rules, is received by itself.
            if kind != FRAME_DATA || payload.len() as u64 > max_message {
                break;
            }
            count += 1;
            bytes += payload.len() as u64;
            size += frame_size(payload.len() as u64);
        }
        self.count = count;
        self.whole = usize::try_from(size)
            .unwrap_or(usize::MAX)
            .min(self.span.len());
        (count, bytes, size)
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The messages of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    frames: Frames<'a>,
    single: Option<&'a [u8]>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self.frames.next() {
            Some((_, payload)) => Some(payload),
            None => self.single.take(),
        }
    }
}
