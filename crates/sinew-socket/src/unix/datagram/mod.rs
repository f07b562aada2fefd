//! Datagrams: `SOCK_DGRAM` at a path or an abstract name.
//!
//! Over Unix sockets datagrams are reliable and keep their order. A socket that is bound hears everybody
//! who may write to its path; a connected one hears its peer alone. Each message tells the address of
//! its sender, if that is bound, to which an answer can go. There is no end: a receiver waits for the
//! next sender when the last has gone.
//!
//! A receiver's queue holds 11 messages (net.unix.max_dgram_qlen and one more). A sender that is
//! connected is woken when there is room. One that is not, the kernel does not tell: it looks again, after
//! half a millisecond at first and every 8 ms at last.

mod options;
mod receiver;
mod sender;
mod socket;

pub use options::Options;
pub use receiver::Receiver;
pub use sender::Sender;
pub use socket::{Socket, pair};
