//! `sinew-bench`: Sinew measured side by side with the raw system calls and with its peers.
//!
//! Every subject carries the same payload, written anew by the sender and read to the last byte by the receiver
//! for each message, in one run, between two processes. See `sinew-bench shm --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's report goes to standard output, its progress to standard error"
)]

mod carriers;
mod case;
mod framed;
mod iceoryx2;
mod ipc_channel;
mod limit;
mod measure;
mod operation;
mod payload;
mod process;
mod report;
mod round_trip;
mod rtrb;
mod runner;
mod runtime;
mod session;
mod shm;
mod sinew;
mod sinew_loan;
mod sync;
mod sys;
mod throughput;
mod tokio_pipe;
mod tokio_unix;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::case::Suite;
use crate::process::SideArgs;
use crate::runner::RunArgs;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Every suite, for the processes that are told its name.
const SUITES: [Suite; 3] = [shm::SUITE, carriers::SUITE, sync::SUITE];

/// Measures Sinew side by side with the raw system calls and with its peers.
///
/// Figures hold for the machine and the run that they come from; only ratios within a run compare.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The shared-memory channel: round trips and throughput against limits and peers.
    Shm(RunArgs),
    /// Pipes, queues and sockets, through Sinew and by hand.
    Carriers(RunArgs),
    /// Semaphores, locks and words, against atomic operations and futex(2).
    Sync(RunArgs),
    /// One side of a case; started by the program itself.
    #[command(hide = true)]
    Side(SideArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Shm(args) => runner::run_suite(&shm::SUITE, &args),
        Command::Carriers(args) => runner::run_suite(&carriers::SUITE, &args),
        Command::Sync(args) => runner::run_suite(&sync::SUITE, &args),
        Command::Side(args) => SUITES
            .iter()
            .find(|suite| suite.name == args.suite)
            .ok_or_else(|| "no such suite".into())
            .and_then(|suite| process::side(suite, args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinew-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
