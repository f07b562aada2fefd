//! How the two sides come by the ends of a connection, and which protocol they speak on it.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{UnixListener, UnixStream};

use crate::case::{Carrier, Protocol};
use crate::measure::{Echo, Plan, Record};
use crate::{Result, axum, raw, tarpc, tonic};

/// Bytes that each direction of a duplex stream holds.
const DUPLEX: usize = 1 << 16;

/// Where a server waits for its client.
pub(crate) enum Listener {
    Sinew(Box<sinew_shm::Listener>),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) async fn bind(carrier: Carrier, path: &Path) -> Result<Self> {
        Ok(match carrier {
            Carrier::Sinew => Self::Sinew(Box::new(sinew_shm::Listener::bind(path).await?)),
            Carrier::Unix => Self::Unix(UnixListener::bind(path)?),
            Carrier::Duplex => return Err("a duplex stream has no address".into()),
        })
    }

    pub(crate) async fn accept(&mut self) -> Result<End> {
        Ok(match self {
            Self::Sinew(listener) => End::Sinew(Box::new(listener.accept().await?)),
            Self::Unix(listener) => End::Unix(listener.accept().await?.0),
        })
    }
}

/// One end of a connection.
pub(crate) enum End {
    Sinew(Box<sinew_shm::Channel>),
    Unix(UnixStream),
    Duplex(DuplexStream),
}

impl End {
    pub(crate) async fn connect(carrier: Carrier, path: &Path) -> Result<Self> {
        Ok(match carrier {
            Carrier::Sinew => Self::Sinew(Box::new(sinew_shm::connect(path).await?)),
            Carrier::Unix => Self::Unix(UnixStream::connect(path).await?),
            Carrier::Duplex => return Err("a duplex stream has no address".into()),
        })
    }

    /// Both ends within this process.
    pub(crate) fn pair() -> [Self; 2] {
        let (first, second) = tokio::io::duplex(DUPLEX);
        [Self::Duplex(first), Self::Duplex(second)]
    }

    /// Makes the round trips of `protocol`.
    pub(crate) async fn ask(self, protocol: Protocol, plan: Plan) -> Result<Record> {
        match (protocol, self) {
            (Protocol::Tarpc, Self::Sinew(channel)) => {
                tarpc::ask(tarpc::by_message(*channel), plan).await
            }
            (_, Self::Sinew(channel)) => ask(protocol, channel.into_byte_stream(), plan).await,
            (_, Self::Unix(stream)) => ask(protocol, stream, plan).await,
            (_, Self::Duplex(stream)) => ask(protocol, stream, plan).await,
        }
    }

    /// Serves `protocol` until the connection ends.
    pub(crate) async fn serve(self, protocol: Protocol, echo: Arc<Echo>) -> Result<()> {
        match (protocol, self) {
            (Protocol::Tarpc, Self::Sinew(channel)) => {
                tarpc::serve(tarpc::by_message(*channel), echo).await
            }
            (_, Self::Sinew(channel)) => serve(protocol, channel.into_byte_stream(), echo).await,
            (_, Self::Unix(stream)) => serve(protocol, stream, echo).await,
            (_, Self::Duplex(stream)) => serve(protocol, stream, echo).await,
        }
    }
}

/// What every protocol needs of a stream.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Bytes for S {}

async fn ask(protocol: Protocol, stream: impl Bytes, plan: Plan) -> Result<Record> {
    match protocol {
        Protocol::Raw => raw::ask(stream, plan).await,
        Protocol::Axum => axum::ask(stream, plan).await,
        Protocol::Tarpc => tarpc::ask(tarpc::by_frame(stream), plan).await,
        Protocol::Tonic => tonic::ask(stream, plan).await,
    }
}

async fn serve(protocol: Protocol, stream: impl Bytes, echo: Arc<Echo>) -> Result<()> {
    match protocol {
        Protocol::Raw => raw::serve(stream, echo).await,
        Protocol::Axum => axum::serve(stream, echo).await,
        Protocol::Tarpc => tarpc::serve(tarpc::by_frame(stream), echo).await,
        Protocol::Tonic => tonic::serve(stream, echo).await,
    }
}
