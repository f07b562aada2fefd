//! How the two sides of a case come by their ends: the same for both subjects.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Result;
use crate::session::Session;

/// Where a side reads, and where it writes.
pub(crate) struct Ends {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
}

/// Descriptors for a case, of which both sides have theirs.
pub(crate) fn ends(session: &mut Session, first: bool) -> Result<Ends> {
    let ends = if first {
        make(session)?
    } else {
        take(session)?
    };
    session.barrier()?;
    Ok(ends)
}

fn take(session: &mut Session) -> Result<Ends> {
    let [read, write] = session.recv_fds()?;
    Ok(Ends { read, write })
}

fn make(session: &mut Session) -> Result<Ends> {
    let (ours, theirs) = match session.how() {
        "pipe" => pipes(PipeFlags::empty())?,
        "pipe-packet" => pipes(PipeFlags::DIRECT)?,
        "unix" => sockets(SocketType::STREAM)?,
        "unix-dgram" => sockets(SocketType::DGRAM)?,
        "unix-seqpacket" => sockets(SocketType::SEQPACKET)?,
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let ours = TcpStream::connect(listener.local_addr()?)?;
            let theirs = listener.accept()?.0;
            for socket in [&ours, &theirs] {
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
            }
            (both(ours.into())?, both(theirs.into())?)
        }
        "udp" => {
            let (ours, theirs) = (
                UdpSocket::bind("127.0.0.1:0")?,
                UdpSocket::bind("127.0.0.1:0")?,
            );
            ours.connect(theirs.local_addr()?)?;
            theirs.connect(ours.local_addr()?)?;
            for socket in [&ours, &theirs] {
                socket.set_nonblocking(true)?;
            }
            (both(ours.into())?, both(theirs.into())?)
        }
        other => return Err(format!("{other} has no descriptors").into()),
    };
    session.send_fds(&[theirs.read.as_fd(), theirs.write.as_fd()])?;
    Ok(ours)
}

fn pipes(flags: PipeFlags) -> Result<(Ends, Ends)> {
    let flags = flags | PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (read_here, write_there) = pipe_with(flags)?;
    let (read_there, write_here) = pipe_with(flags)?;
    Ok((
        Ends {
            read: read_here,
            write: write_here,
        },
        Ends {
            read: read_there,
            write: write_there,
        },
    ))
}

fn sockets(kind: SocketType) -> Result<(Ends, Ends)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
    Ok((both(ours)?, both(theirs)?))
}

fn both(socket: OwnedFd) -> Result<Ends> {
    Ok(Ends {
        read: socket.try_clone()?,
        write: socket,
    })
}

/// Two FIFOs: where this side reads, and where it writes.
pub(crate) fn fifos(session: &mut Session, first: bool) -> Result<[PathBuf; 2]> {
    let paths = [session.path("there"), session.path("back")];
    if first {
        for path in &paths {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
    }
    session.barrier()?;
    let [there, back] = paths;
    Ok(if first { [back, there] } else { [there, back] })
}

/// The number by which both sides know their queues: the first's process.
pub(crate) fn number(session: &mut Session, first: bool) -> Result<u32> {
    if first {
        let number = std::process::id();
        session.send_text(&number.to_string())?;
        return Ok(number);
    }
    Ok(session.recv_text()?.parse()?)
}
