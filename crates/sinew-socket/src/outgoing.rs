use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};

/// What can be sent as a message: anything that is bytes, and the messages of this crate, which can have
/// descriptors (Unix sockets) and an address (datagrams) besides.
///
/// `A` is the kind of address: [`UnixEndpoint`](sinew_core::UnixEndpoint), or
/// [`SocketAddr`](std::net::SocketAddr) for UDP.
pub trait Outgoing<A> {
    /// The payload.
    fn payload(&self) -> &[u8];

    /// The payload, where it can be kept without copying it.
    fn as_bytes(&self) -> Option<&Bytes> {
        None
    }

    /// Descriptors that go with it. The kernel duplicates them; those here are closed with the message.
    fn fds(&self) -> &[OwnedFd] {
        &[]
    }

    /// The same, to be taken out of it; `None` if it never has any.
    fn fds_mut(&mut self) -> Option<&mut Vec<OwnedFd>> {
        None
    }

    /// Where to, instead of the peer that the socket is connected to.
    fn address(&self) -> Option<&A> {
        None
    }
}

impl<A> Outgoing<A> for Bytes {
    fn payload(&self) -> &[u8] {
        self
    }

    fn as_bytes(&self) -> Option<&Bytes> {
        Some(self)
    }
}

impl<A> Outgoing<A> for &Bytes {
    fn payload(&self) -> &[u8] {
        self
    }

    fn as_bytes(&self) -> Option<&Bytes> {
        Some(self)
    }
}

macro_rules! bytes {
    ($($type:ty),+) => {$(
        impl<A> Outgoing<A> for $type {
            fn payload(&self) -> &[u8] {
                self.as_ref()
            }
        }
    )+};
}

bytes!(
    BytesMut,
    Vec<u8>,
    Box<[u8]>,
    String,
    &BytesMut,
    &Vec<u8>,
    &Box<[u8]>,
    &String,
    &[u8],
    &str
);

impl<A, const N: usize> Outgoing<A> for [u8; N] {
    fn payload(&self) -> &[u8] {
        self
    }
}

impl<A, const N: usize> Outgoing<A> for &[u8; N] {
    fn payload(&self) -> &[u8] {
        *self
    }
}
