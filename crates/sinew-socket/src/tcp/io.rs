//! Reading bytes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use sinew_core::AdaptiveSpin;
use tokio::io::{AsyncRead, ReadBuf};

use crate::link::Link;
use crate::sys;

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct ReadIo {
    pub(crate) link: Arc<Link>,
    /// Ask the kernel even if the runtime has not heard of bytes.
    pub(crate) at_once: bool,
    pub(crate) spin: AdaptiveSpin,
    /// Nothing is sent the other way, so that its end can say that everything was read.
    pub(crate) answers: bool,
}

impl AsyncRead for ReadIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buffer.remaining();
        let answers = this.answers;
        let mut read = |fd: &OwnedFd| {
            let count = sys::receive_bytes(fd.as_fd(), buffer)?;
            if count == 0 && room > 0 && answers {
                let _gone = rustix::net::shutdown(fd, Shutdown::Write);
            }
            Ok(((), (1..room).contains(&count)))
        };
        let received = if this.at_once {
            match this.link.fd.try_read_with(|fd| read(fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                received => received.map(|((), _)| ()),
            }
        } else {
            ready!(this.link.fd.poll_read_spinning(cx, &mut this.spin, read))
        };
        Poll::Ready(received.map_err(|error| this.link.failed("recv", error).into()))
    }
}
