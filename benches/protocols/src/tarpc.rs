//! tarpc with bincode.
//!
//! A Sinew channel keeps messages apart, so that bincode is all that it needs. On a stream of bytes
//! tarpc's own transport puts a length before each message.

use std::io;
use std::sync::Arc;

use ::tarpc::server::{BaseChannel, Channel as _};
use ::tarpc::{ClientMessage, Response, Transport, client, context, serde_transport};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_serde::formats::Bincode;
use tokio_util::codec::LengthDelimitedCodec;

use crate::Result;
use crate::carrier::Bytes;
use crate::measure::{self, Echo, Plan, Record};

#[::tarpc::service]
pub(crate) trait Service {
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
}

/// Sends and receives each `Out` and `In` as one message of `channel`.
pub(crate) fn by_message<In, Out>(
    channel: sinew_shm::Channel,
) -> impl Transport<Out, In, Error = io::Error, TransportError = io::Error> + Send + 'static
where
    In: for<'a> Deserialize<'a> + Send + Unpin + 'static,
    Out: Serialize + Send + Unpin + 'static,
{
    let messages = channel
        .sink_err_into::<io::Error>()
        .err_into::<io::Error>()
        .map_ok(BytesMut::from);
    tokio_serde::Framed::<_, In, Out, _>::new(messages, Bincode::<In, Out>::default())
}

/// Sends and receives each `Out` and `In` as a frame of `stream`.
pub(crate) fn by_frame<In, Out>(
    stream: impl Bytes,
) -> impl Transport<Out, In, Error = io::Error, TransportError = io::Error> + Send + 'static
where
    In: for<'a> Deserialize<'a> + Send + Unpin + 'static,
    Out: Serialize + Send + Unpin + 'static,
{
    let frames = LengthDelimitedCodec::builder().new_framed(stream);
    serde_transport::new(frames, Bincode::<In, Out>::default())
}

pub(crate) async fn ask<T>(transport: T, plan: Plan) -> Result<Record>
where
    T: Transport<ClientMessage<ServiceRequest>, Response<ServiceResponse>> + Send + 'static,
{
    let client::NewClient { client, dispatch } =
        ServiceClient::new(client::Config::default(), transport);
    let dispatch = tokio::spawn(dispatch);
    let record = measure::ask(plan, async |payload| {
        Ok(client.echo(context::current(), payload.to_vec()).await?)
    })
    .await?;
    drop(client);
    dispatch.await?.map_err(|error| error.to_string())?;
    Ok(record)
}

pub(crate) async fn serve<T>(transport: T, echo: Arc<Echo>) -> Result<()>
where
    T: Transport<Response<ServiceResponse>, ClientMessage<ServiceRequest>> + Send + 'static,
{
    BaseChannel::with_defaults(transport)
        .execute(Server(echo).serve())
        .for_each(|response| async {
            tokio::spawn(response);
        })
        .await;
    Ok(())
}

#[derive(Clone)]
struct Server(Arc<Echo>);

impl Service for Server {
    async fn echo(self, _: context::Context, request: Vec<u8>) -> Vec<u8> {
        // The client refuses an empty reply.
        self.0.answer(&request).map(Vec::from).unwrap_or_default()
    }
}
