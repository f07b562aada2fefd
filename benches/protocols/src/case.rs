//! A case: one protocol over one carrier.

use std::fmt;

use clap::ValueEnum;

/// What the two sides speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Protocol {
    /// `write_all` and `read_exact`.
    Raw,
    /// HTTP/1 between a hyper client and an axum router, on one connection that is kept alive.
    Axum,
    /// tarpc with bincode: a Sinew message for each request, length-delimited frames elsewhere.
    Tarpc,
    /// gRPC over HTTP/2: a unary call.
    Tonic,
}

/// What carries the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Carrier {
    /// A Sinew channel with default options, as a byte stream; for tarpc the channel itself.
    Sinew,
    /// `tokio::net::UnixStream`.
    Unix,
    /// `tokio::io::duplex`, with both sides on one runtime: the limit.
    Duplex,
}

/// A row of the report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Case {
    pub(crate) protocol: Protocol,
    pub(crate) carrier: Carrier,
}

impl Case {
    /// The cases of `protocols`, those of one protocol next to each other.
    pub(crate) fn of(protocols: &[Protocol]) -> Vec<Self> {
        let cases = protocols.iter().flat_map(|protocol| {
            Carrier::value_variants().iter().map(|carrier| Self {
                protocol: *protocol,
                carrier: *carrier,
            })
        });
        cases.collect()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Axum => "axum",
            Self::Tarpc => "tarpc",
            Self::Tonic => "tonic",
        })
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sinew => "sinew",
            Self::Unix => "unix",
            Self::Duplex => "duplex",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.protocol, self.carrier)
    }
}
