//! Both directions in one region.

use sinew_core::{Error, ErrorKind};

use super::block::Block;
use super::options::Options;
use super::{Receiver, Sender};

/// Takes one of the two sides: the sender of one ring and the receiver of the other.
pub(super) fn open(
    there: Block,
    back: Block,
    options: &Options,
) -> Result<(Sender, Receiver), Error> {
    match side(there.clone(), back.clone(), options) {
        Err(error) if error.kind() == ErrorKind::Refused => {
            side(back, there, options).map_err(|error| match error.kind() {
                ErrorKind::Refused => error.with_remedy("end one of the two first"),
                _ => error,
            })
        }
        opened => opened,
    }
}

fn side(there: Block, back: Block, options: &Options) -> Result<(Sender, Receiver), Error> {
    // The receiver first: what is given back for want of the other has told nobody anything.
    let receiver = Receiver::open(back, options)?;
    let sender = Sender::open(there, options)?;
    Ok((sender, receiver))
}
