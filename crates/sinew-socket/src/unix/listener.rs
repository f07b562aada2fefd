//! Admitting peers: what the listeners of streams and of packets share.

use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::SocketType;
use sinew_core::{BoundPath, Credentials, Error, UnixEndpoint, bind_unix};

use super::policy::Policy;
use super::refusal;
use super::socket::{self, Setup};
use crate::acceptor::Acceptor;
use crate::sys;

#[derive(Debug)]
pub(crate) struct Admission {
    /// Before the socket, which guards it.
    _path: Option<BoundPath>,
    pub(crate) acceptor: Acceptor,
    pub(crate) endpoint: Option<UnixEndpoint>,
    policy: Policy,
    pub(crate) rejected: u64,
}

impl Admission {
    pub(crate) async fn bind(
        endpoint: UnixEndpoint,
        kind: SocketType,
        setup: Setup,
        mode: Option<u32>,
        backlog: i32,
        policy: Policy,
    ) -> Result<Self, Error> {
        let (socket, path) = bind_unix(&endpoint, mode, Some(backlog), || setup.socket(kind))?;
        Ok(Self {
            _path: path,
            acceptor: Acceptor::new(socket, endpoint.to_string())?,
            endpoint: Some(endpoint),
            policy,
            rejected: 0,
        })
    }

    /// Of a socket that listens already; its path stays.
    pub(crate) fn adopt(
        socket: OwnedFd,
        kind: SocketType,
        setup: Setup,
        policy: Policy,
    ) -> Result<Self, Error> {
        socket::check(&socket, kind, Some(true), "listen")?;
        setup.apply(&socket)?;
        let endpoint = rustix::net::getsockname(&socket)
            .ok()
            .and_then(|address| rustix::net::SocketAddrUnix::try_from(address).ok())
            .and_then(|address| super::endpoint_of(&address));
        let name = match &endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => "inherited".to_owned(),
        };
        Ok(Self {
            _path: None,
            acceptor: Acceptor::new(socket, name)?,
            endpoint,
            policy,
            rejected: 0,
        })
    }

    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(OwnedFd, Credentials), Error>> {
        loop {
            let (socket, _) = ready!(self.acceptor.poll_accept(cx))?;
            let peer = match sys::peer_credentials(socket.as_fd()) {
                Ok(peer) => peer,
                Err(error) => {
                    let error = Error::from_io("getsockopt(SO_PEERCRED)", error);
                    return Poll::Ready(Err(error.with_address(&self.acceptor.address)));
                }
            };
            if self.policy.admits(&peer, self.endpoint.as_ref()) {
                return Poll::Ready(Ok((socket, peer)));
            }
            refusal::tell(&socket);
            self.rejected += 1;
            let Credentials { pid, uid, gid, .. } = peer;
            tracing::warn!(
                address = &*self.acceptor.address,
                pid,
                uid,
                gid,
                "peer was turned away"
            );
        }
    }
}
