//! No protocol: 64 bytes there, 64 bytes back.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Result;
use crate::carrier::Bytes;
use crate::measure::{self, Echo, Plan, Record};
use crate::payload::LEN;

pub(crate) async fn ask(mut stream: impl Bytes, plan: Plan) -> Result<Record> {
    let record = measure::ask(plan, async |request| {
        stream.write_all(&request).await?;
        let mut reply = [0; LEN];
        stream.read_exact(&mut reply).await?;
        Ok(reply)
    })
    .await?;
    stream.shutdown().await?;
    Ok(record)
}

pub(crate) async fn serve(mut stream: impl Bytes, echo: Arc<Echo>) -> Result<()> {
    let mut request = [0; LEN];
    loop {
        match stream.read_exact(&mut request).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let reply = echo.answer(&request).ok_or("a request is garbled")?;
        stream.write_all(&reply).await?;
    }
}
