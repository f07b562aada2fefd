//! `sinew-bench-protocols`: round trips of HTTP, gRPC and tarpc over Sinew and over UNIX sockets.
//!
//! Each protocol's client and server run in a process of their own, each with a current-thread
//! Tokio runtime. The same pair within one process, over [`tokio::io::duplex`], is the limit.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report goes to standard output, its errors to standard error"
)]

mod axum;
mod carrier;
mod case;
mod cpus;
mod measure;
mod payload;
mod process;
mod raw;
mod report;
mod runner;
mod side;
mod tarpc;
mod tonic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::runner::RunArgs;
use crate::side::SideArgs;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Measures round trips of 64 bytes through protocols that run on a stream or on a channel.
///
/// Figures hold for the machine and the run that they come from; only ratios within a run compare.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One side of a case; started by the program itself.
    #[command(hide = true)]
    Side(SideArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => runner::run(&cli.run),
        Some(Command::Side(args)) => side::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinew-bench-protocols: {error}");
            ExitCode::FAILURE
        }
    }
}
