//! Starting the second process.

use std::ffi::OsStr;
use std::future::Future;

use tokio::process::{Child, Command};

use crate::stage::{Error, Stage};

/// The command that is the second process of a stage. It is killed with its handle.
pub(crate) fn command(stage: &Stage, argument: impl AsRef<OsStr>) -> Result<Command, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--second")
        .arg(stage.name)
        .arg(argument)
        .kill_on_drop(true);
    Ok(command)
}

/// Waits for something that the second process has a part in, or for its early end.
pub(crate) async fn with<T>(
    child: &mut Child,
    work: impl Future<Output = Result<T, sinew::Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => Ok(done?),
        status = child.wait() => Err(format!("the second process ended: {}", status?).into()),
    }
}

/// Waits for its end, which has to be a good one.
pub(crate) async fn end(mut child: Child) -> Result<(), Error> {
    let status = child.wait().await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the second process ended with {status}").into()),
    }
}
