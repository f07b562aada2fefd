//! Where Unix sockets are, and how their paths are bound: what every adapter on them shares.

mod bind;
mod endpoint;
mod lock;

pub use bind::{BoundPath, bind_unix};
pub use endpoint::UnixEndpoint;
