//! Both directions in one region.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sinew_core::Error;

use super::block::Block;
use super::label::{Incoming, Outgoing};
use super::options::Options;
use super::{Receiver, Sender};

/// One of the two sides of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// Takes both ends of a side. The client sends into the first ring, and the server into the second.
pub(super) fn open(
    requests: Block,
    answers: Block,
    side: Side,
    options: &Options,
) -> Result<(Sender, Receiver), Error> {
    // The receiver first: what is given back for want of the other has told nobody anything.
    match side {
        Side::Server => {
            let heard = Arc::new(AtomicU64::new(0));
            let incoming = Incoming::Server(heard.clone());
            let receiver = Receiver::open(requests, options, incoming)?;
            let sender = Sender::open(answers, options, Outgoing::Server(heard))?;
            Ok((sender, receiver))
        }
        Side::Client => {
            let nobody = Incoming::Client {
                session: 0,
                since: 0,
            };
            let mut receiver = Receiver::open(answers, options, nobody)?;
            let sender = Sender::open(requests, options, Outgoing::Client)?;
            receiver.begin(sender.session())?;
            Ok((sender, receiver))
        }
    }
}
