//! `sinew`: sends and receives messages through any mechanism that Sinew can open.

mod args;
mod base64;
mod bridge;
mod failure;
mod input;
mod json;
mod output;
mod peers;
mod progress;
mod recv;
mod send;
mod signal;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::io("epoll_create1", error).report(),
    };
    let done = runtime.block_on(async {
        match args.command {
            Command::Send(args) => send::run(args).await,
            Command::Recv(args) => recv::run(args).await,
            Command::Bridge(args) => bridge::run(args).await,
        }
    });
    // The thread that reads standard input may sit in its system call for as long as it likes.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
