//! Memory that processes share.
//!
//! Under a name, for processes that meet by it and trust each other:
//!
//! - [`PosixShm`] is POSIX shared memory, [`SysvShm`] a SysV segment, [`MappedFile`] a file. Each opens a [`Region`]:
//!   copies and atomics, and never a slice of what others can write. Memory without a name
//!   ([`Region::anonymous`], [`Region::memfd`]) is a `Region` too.
//! - A file that somebody truncates under its users becomes an error, and not a `SIGBUS`: see [`Region::is_truncated`]
//!   and [`leave_sigbus_alone`].
//!
//! Without one, in the two forms that cannot be taken away or changed behind one's back:
//!
//! - [`RingMemory`] is a memfd with data that its creator writes and its peer can only read: the kernel refuses
//!   the peer a writable mapping (`F_SEAL_FUTURE_WRITE`), and anybody a change of size, so that no
//!   access ever ends in `SIGBUS`. The data is mapped twice in a row, which makes every range of
//!   a ring contiguous. A second memfd has the words through which the two ends speak, which both may write.
//! - [`Frozen`] is a memfd that nobody can change any more (`F_SEAL_WRITE`), and therefore sound to
//!   borrow from, whoever sent it. [`Draft`] is the same before it is frozen.
//! - [`Segment`] is memory for large messages that one process writes again and again, and others
//!   read.
//!
//! All are checked before they are mapped: a descriptor from a peer that is not what it should be
//! is an error, never a fault.
//!
//! Linux 5.1 or newer. References: [shm_overview(7)], [shmget(2)], [memfd_create(2)], [fcntl(2)] under *File Sealing*, [mmap(2)],
//! [madvise(2)].
//!
//! [shm_overview(7)]: https://man7.org/linux/man-pages/man7/shm_overview.7.html
//! [shmget(2)]: https://man7.org/linux/man-pages/man2/shmget.2.html
//! [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
//! [fcntl(2)]: https://man7.org/linux/man-pages/man2/F_GET_SEALS.2const.html
//! [mmap(2)]: https://man7.org/linux/man-pages/man2/mmap.2.html
//! [madvise(2)]: https://man7.org/linux/man-pages/man2/madvise.2.html

mod attachments;
mod file;
mod frozen;
mod guard;
mod memfd;
mod posix;
mod presence;
mod region;
mod ring;
mod segment;
mod sys;
mod sysv;
mod view;

pub use attachments::Attachments;
pub use file::MappedFile;
pub use frozen::{Draft, Frozen};
pub use guard::leave_sigbus_alone;
pub use posix::PosixShm;
pub use presence::{Fate, Presence};
pub use region::Region;
pub use ring::{Layout, RingFds, RingMemory, RingOptions};
pub use segment::Segment;
pub use sinew_core::sysv::Target as SysvTarget;
pub use sys::Shared;
pub use sysv::{SysvShm, SysvStat};
pub use view::{Slot, View};
