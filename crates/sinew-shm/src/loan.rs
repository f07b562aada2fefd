//! Space to write a message in place.

use std::fmt;
use std::ops::{Deref, DerefMut};

use sinew_core::{Error, ErrorKind};
use sinew_memory::Draft;
use sinew_ring::PushError;

use crate::sender::Sender;
use crate::sys::Lent;

/// Space that a [`Sender`] lends for a message to be written in place: see [`Sender::reserve`].
///
/// Dropped, it sends nothing.
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
/// let mut loan = sender.reserve(1024).await?;
/// loan[..5].copy_from_slice(b"hello");
/// loan.commit(5).await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Loan<'a> {
    sender: &'a mut Sender,
    space: Space,
}

enum Space {
    Ring(Lent),
    /// Of the sender's pool.
    Segment {
        at: usize,
        len: usize,
    },
    Memory(Draft),
}

impl<'a> Loan<'a> {
    /// Space in the ring, which has room for it.
    #[inline]
    pub(crate) fn ring(sender: &'a mut Sender, len: usize) -> Result<Self, Error> {
        match Lent::new(sender.producer(), len) {
            Ok(Some(space)) => Ok(Self {
                sender,
                space: Space::Ring(space),
            }),
            Err(PushError::Corrupted(corruption)) => Err(sender.corrupted(corruption)),
            // `reserve` waited for the room, and the threshold is below what the ring can hold.
            Ok(None) | Err(_) => Err(sender
                .link()
                .error(Error::new(ErrorKind::LimitExceeded, "reserve"))),
        }
    }

    /// The first `len` bytes of a segment.
    pub(crate) fn segment(sender: &'a mut Sender, at: usize, len: usize) -> Self {
        Self {
            sender,
            space: Space::Segment { at, len },
        }
    }

    /// Memory of its own.
    pub(crate) fn draft(sender: &'a mut Sender, len: usize) -> Result<Self, Error> {
        let draft = Draft::new(len).map_err(|error| sender.link().error(error))?;
        Ok(Self {
            sender,
            space: Space::Memory(draft),
        })
    }

    /// Makes a message of the first `len` bytes, to be published with those that follow it: by
    /// [`Sender::flush`], or by any other use of the sender that publishes.
    ///
    /// A loan in sealed memory of its own is sent at once.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// As for [`commit`](Self::commit).
    #[inline]
    pub async fn stage(self, len: usize) -> Result<(), Error> {
        match self.space {
            Space::Ring(_) if len <= self.len() => self.sender.stage_ring(len),
            Space::Segment { at, .. } if len <= self.len() => {
                self.sender.stage_segment_frame(at, len)
            }
            _ => self.commit(len).await,
        }
    }

    /// Sends the first `len` bytes as a message.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if `len` is more than was lent, otherwise as
    /// for [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is ready, it has sent nothing, and the loan is gone. For space
    /// in the ring it is ready at once.
    #[inline]
    pub async fn commit(self, len: usize) -> Result<(), Error> {
        if len > self.len() {
            return Err(Error::new(ErrorKind::InvalidInput, "commit")
                .with_detail(format!("{len} bytes"))
                .with_reason(format!("only {} were lent", self.len()))
                .with_remedy("reserve as many as the longest message may need"));
        }
        match self.space {
            Space::Ring(_) => self.sender.commit_ring(len),
            Space::Segment { at, .. } => {
                self.sender.stage_segment_frame(at, len)?;
                self.sender.publish();
                Ok(())
            }
            Space::Memory(draft) => {
                let memory = draft
                    .freeze(len)
                    .map_err(|error| self.sender.link().error(error))?;
                self.sender.commit_memory(&memory).await
            }
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.space {
            Space::Ring(space) => space.as_slice(),
            Space::Segment { at, len } => self.sender.segment(*at, *len),
            Space::Memory(draft) => draft,
        }
    }
}

impl DerefMut for Loan<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.space {
            Space::Ring(space) => space.as_mut_slice(),
            Space::Segment { at, len } => self.sender.segment_mut(*at, *len),
            Space::Memory(draft) => draft,
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
