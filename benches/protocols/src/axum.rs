//! HTTP/1: a hyper client posts to an axum router, on one connection that is kept alive.

use std::sync::Arc;

use ::axum::Router;
use ::axum::body::Bytes as Body;
use ::axum::extract::State;
use ::axum::http::{Request, StatusCode, header};
use ::axum::routing::post;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

use crate::Result;
use crate::carrier::Bytes;
use crate::measure::{self, Echo, Plan, Record};

pub(crate) async fn ask(stream: impl Bytes, plan: Plan) -> Result<Record> {
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let record = measure::ask(plan, async |payload| {
        let request = Request::post("/echo")
            .header(header::HOST, "localhost")
            .body(Full::new(Body::copy_from_slice(&payload)))?;
        client.ready().await?;
        let response = client.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server answered {}", response.status()).into());
        }
        Ok(response.into_body().collect().await?.to_bytes())
    })
    .await?;
    drop(client);
    connection.await??;
    Ok(record)
}

pub(crate) async fn serve(stream: impl Bytes, echo: Arc<Echo>) -> Result<()> {
    let router = Router::new().route("/echo", post(answer)).with_state(echo);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    Ok(connection.await?)
}

async fn answer(
    State(echo): State<Arc<Echo>>,
    request: Body,
) -> std::result::Result<Body, StatusCode> {
    let reply = echo.answer(&request).ok_or(StatusCode::BAD_REQUEST)?;
    Ok(Body::copy_from_slice(&reply))
}
