//! Connections that keep the boundaries of messages: `SOCK_SEQPACKET`.
//!
//! A packet is a message, of up to the size of the send buffer (208 KiB by default), and it can be
//! empty. Order is kept, nothing is lost, and the end is seen.
//!
//! An empty packet and the end of a connection look the same to read(2). Receivers here have
//! `SO_PASSCRED` turned on, with which every packet brings its sender's credentials and the end does not,
//! so that the two are told apart whoever the peer is.

mod connection;
mod listener;
mod options;
mod receiver;
mod sender;

pub use connection::{Connection, connect, pair};
pub use listener::Listener;
pub use options::Options;
pub use receiver::Receiver;
pub use sender::Sender;
