//! `sinew`: sends and receives messages through any mechanism that Sinew can open.

mod args;
mod base64;
mod blocking;
mod bridge;
mod completions;
mod failure;
mod input;
mod json;
mod limits;
mod output;
mod peers;
mod progress;
mod recv;
mod send;
mod signal;
mod sys;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut filter = EnvFilter::from_default_env();
    // Which port was chosen where an address says 0: nobody could connect without it.
    if let Ok(directive) = "sinew::listening=info".parse() {
        filter = filter.add_directive(directive);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    if let Command::Completions { shell } = command {
        return completions::print(shell);
    }
    limits::check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("epoll_create1", error))?;
    runtime.block_on(async {
        match command {
            Command::Send(args) => send::run(args).await,
            Command::Recv(args) => recv::run(args).await,
            Command::Bridge(args) => bridge::run(args).await,
            Command::Completions { .. } => Ok(()),
        }
    })
}
