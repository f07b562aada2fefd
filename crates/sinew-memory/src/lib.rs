//! Memory that processes share, in the two forms that cannot be taken away or changed behind one's
//! back.
//!
//! - [`RingMemory`] is a memfd that its creator writes and its peer can only read: the kernel refuses
//!   the peer a writable mapping (`F_SEAL_FUTURE_WRITE`), and anybody a change of size, so that no
//!   access ever ends in `SIGBUS`. The data part is mapped twice in a row, which makes every range of
//!   a ring contiguous.
//! - [`Frozen`] is a memfd that nobody can change any more (`F_SEAL_WRITE`), and therefore sound to
//!   borrow from, whoever sent it. [`Draft`] is the same before it is frozen.
//!
//! Both are checked before they are mapped: a descriptor from a peer that is not what it should be is
//! an error, never a fault.
//!
//! Linux 5.1 or newer. References: [memfd_create(2)], [fcntl(2)] under *File Sealing*, [mmap(2)],
//! [madvise(2)].
//!
//! [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
//! [fcntl(2)]: https://man7.org/linux/man-pages/man2/F_GET_SEALS.2const.html
//! [mmap(2)]: https://man7.org/linux/man-pages/man2/mmap.2.html
//! [madvise(2)]: https://man7.org/linux/man-pages/man2/madvise.2.html

mod frozen;
mod memfd;
mod region;
mod ring;
mod sys;

pub use frozen::{Draft, Frozen};
pub use region::{Region, View};
pub use ring::{Layout, RingMemory, RingOptions};
pub use sys::Shared;
