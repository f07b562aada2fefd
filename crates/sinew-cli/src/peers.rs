//! Receiving from all peers that come.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::SelectAll;
use sinew::{Address, BoxStream, Error, Listener, Message, Peer};

use crate::failure::Failure;

/// A message, and where it came from where there are several peers.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) origin: Option<Arc<Origin>>,
}

/// The connection that a message came from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Connections are numbered from 1 on, as they come.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.number, self.peer)
    }
}

/// What all peers of a listener send: a stream that ends with the listener alone.
///
/// The listener bounds the number of peers, and each peer's connection what is on its way.
pub(crate) struct Peers {
    listener: Listener,
    count: u64,
    streams: SelectAll<FromPeer>,
}

impl Peers {
    pub(crate) async fn listen(address: &Address) -> Result<Self, Error> {
        Ok(Self {
            listener: sinew::listen(address).await?,
            count: 0,
            streams: SelectAll::new(),
        })
    }
}

impl Stream for Peers {
    type Item = Result<Received, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let peers = self.get_mut();
        while let Poll::Ready(accepted) = Pin::new(&mut peers.listener).poll_next(cx) {
            match accepted {
                Some(Ok(connection)) => {
                    peers.count += 1;
                    let origin = Origin {
                        number: peers.count,
                        peer: connection.peer(),
                    };
                    peers.streams.push(FromPeer {
                        origin: Arc::new(origin),
                        stream: connection.into_receiver(),
                    });
                }
                // The peer waits, and accepting goes on after a while.
                Some(Err(error)) if error.is_recoverable() => Failure::Error(error).say(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        loop {
            match Pin::new(&mut peers.streams).poll_next(cx) {
                // What was lost is said and counted where all losses are.
                Poll::Ready(Some(Err(error))) if !error.is_recoverable() => {
                    Failure::Error(error).say();
                }
                Poll::Ready(Some(item)) => return Poll::Ready(Some(item)),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What one peer sends.
struct FromPeer {
    origin: Arc<Origin>,
    stream: BoxStream,
}

impl Stream for FromPeer {
    type Item = Result<Received, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.stream.as_mut().poll_next(cx);
        item.map(|item| {
            item.map(|result| match result {
                Ok(message) => Ok(Received {
                    message,
                    origin: Some(self.origin.clone()),
                }),
                Err(error) => Err(error.with_address(&self.origin)),
            })
        })
    }
}
