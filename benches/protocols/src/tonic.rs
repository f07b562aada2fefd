//! gRPC: a unary call through tonic, with messages of prost.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tonic::transport::server::Connected;
use ::tonic::transport::{Endpoint, Server};
use ::tonic::{Request, Response, Status};
use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::generated::Payload;
use self::generated::echo_client::EchoClient;
use self::generated::echo_server::{self, EchoServer};
use crate::Result;
use crate::carrier::Bytes;
use crate::measure::{self, Echo, Plan, Record};

mod generated {
    #![allow(clippy::all, missing_docs, unreachable_pub, reason = "generated")]
    ::tonic::include_proto!("sinew.bench");
}

pub(crate) async fn ask(stream: impl Bytes, plan: Plan) -> Result<Record> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // tonic wants a name for the `:authority` header; the connector needs none.
    let endpoint = Endpoint::from_static("http://localhost");
    let mut client = EchoClient::new(endpoint.connect_with_connector(connector).await?);
    measure::ask(plan, async |payload| {
        let request = Payload {
            bytes: payload.to_vec(),
        };
        Ok(client.echo(request).await?.into_inner().bytes)
    })
    .await
}

pub(crate) async fn serve(stream: impl Bytes, echo: Arc<Echo>) -> Result<()> {
    // No second connection will come; the last request, not the end of this stream, ends the
    // server.
    let connections =
        stream::iter([Ok::<_, io::Error>(Connection(stream))]).chain(stream::pending());
    let ended = Arc::clone(&echo);
    Server::builder()
        .add_service(EchoServer::new(Service(echo)))
        .serve_with_incoming_shutdown(connections, async move { ended.ended().await })
        .await?;
    Ok(())
}

struct Service(Arc<Echo>);

#[::tonic::async_trait]
impl echo_server::Echo for Service {
    async fn echo(
        &self,
        request: Request<Payload>,
    ) -> std::result::Result<Response<Payload>, Status> {
        let reply = self.0.answer(&request.into_inner().bytes);
        let reply = reply.ok_or_else(|| Status::invalid_argument("a request is garbled"))?;
        Ok(Response::new(Payload {
            bytes: reply.to_vec(),
        }))
    }
}

/// A stream of which tonic knows no address.
struct Connection<S>(S);

impl<S> Connected for Connection<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
