//! What a side of a case is given: its place, its peer and its instruments.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;
use crate::case::Case;
use crate::measure::Plan;
use crate::operation::Operations;
use crate::round_trip::{Echo, Trips};
use crate::throughput::{Flow, Meter};

/// Most descriptors that [`Session::send_fds`] passes at once.
const MAX_FDS: usize = 8;

/// One side of one round of a case.
#[derive(Debug)]
pub(crate) struct Session {
    case: Case,
    plan: Plan,
    dir: PathBuf,
    control: UnixStream,
    cpus: Cpus,
}

/// Which CPUs the two sides run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cpus {
    /// Wherever the scheduler puts them.
    Any,
    /// The first side on the first, the second on the second.
    Pair(usize, usize),
}

impl Cpus {
    /// The first two CPUs that this process may use; the first one twice if `one_core`.
    pub(crate) fn choose(one_core: bool) -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let first = cpus.next().ok_or("no CPU is allowed")?;
        match cpus.next() {
            Some(second) if !one_core => Ok(Self::Pair(first, second)),
            _ => Ok(Self::Pair(first, first)),
        }
    }

    /// Whether both sides must share a CPU.
    pub(crate) fn is_one(self) -> bool {
        matches!(self, Self::Pair(first, second) if first == second)
    }

    /// Holds the calling thread, and those that it will start, to the first side's CPU.
    pub(crate) fn pin_first(self) -> Result<()> {
        match self {
            Self::Pair(first, _) => pin(first),
            Self::Any => Ok(()),
        }
    }

    /// The same for the second side.
    pub(crate) fn pin_second(self) -> Result<()> {
        match self {
            Self::Pair(_, second) => pin(second),
            Self::Any => Ok(()),
        }
    }
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

impl Session {
    pub(crate) fn new(
        case: Case,
        plan: Plan,
        dir: PathBuf,
        control: UnixStream,
        cpus: Cpus,
    ) -> Self {
        Self {
            case,
            plan,
            dir,
            control,
            cpus,
        }
    }

    /// Bytes of a payload.
    pub(crate) fn len(&self) -> usize {
        self.case.size.bytes()
    }

    /// Whose case it is.
    pub(crate) fn subject(&self) -> &'static str {
        self.case.subject
    }

    /// The last part of the case's name.
    pub(crate) fn how(&self) -> &'static str {
        self.case.how
    }

    /// A directory of this round that the two sides share.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name in that directory, for a socket.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the sides run, for a case whose sides are threads.
    pub(crate) fn cpus(&self) -> Cpus {
        self.cpus
    }

    /// Waits until the other side has come here too.
    pub(crate) fn barrier(&mut self) -> Result<()> {
        self.control.write_all(&[0])?;
        self.control.read_exact(&mut [0])?;
        Ok(())
    }

    /// Sends a short text to the other side's [`recv_text`](Self::recv_text).
    pub(crate) fn send_text(&mut self, text: &str) -> Result<()> {
        let len = u16::try_from(text.len())?;
        self.control.write_all(&len.to_ne_bytes())?;
        self.control.write_all(text.as_bytes())?;
        Ok(())
    }

    pub(crate) fn recv_text(&mut self) -> Result<String> {
        let mut len = [0; 2];
        self.control.read_exact(&mut len)?;
        let mut text = vec![0; usize::from(u16::from_ne_bytes(len))];
        self.control.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Passes up to eight descriptors to the other side's [`recv_fds`](Self::recv_fds).
    pub(crate) fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err("too many descriptors for one message".into());
        }
        let flags = SendFlags::NOSIGNAL;
        sendmsg(&self.control, &[IoSlice::new(&[0])], &mut control, flags)?;
        Ok(())
    }

    /// Takes the `N` descriptors that the other side passes.
    pub(crate) fn recv_fds<const N: usize>(&mut self) -> Result<[OwnedFd; N]> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(
            &self.control,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            flags,
        )?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        fds.try_into()
            .map_err(|fds: Vec<OwnedFd>| format!("{} descriptors came, not {N}", fds.len()).into())
    }

    /// For a process that is by itself.
    pub(crate) fn operations(&self) -> Operations {
        Operations::new(self.plan)
    }

    /// For the side that asks.
    pub(crate) fn trips(&self) -> Trips {
        Trips::new(self.plan)
    }

    /// For the side that answers.
    pub(crate) fn echo(&self) -> Echo {
        Echo::new(self.plan)
    }

    /// For the side that sends.
    pub(crate) fn flow(&self) -> Flow {
        Flow::new(self.plan)
    }

    /// For the side that receives.
    pub(crate) fn meter(&self) -> Meter {
        Meter::new(self.plan)
    }
}
