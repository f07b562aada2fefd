//! Every mechanism at work, each between two processes, with what was measured.
//!
//! For each row a second process is started, messages go to and fro, and every byte of them is checked at
//! both ends. A row that fails, or takes longer than it may, says why, and the tour fails with it; one that
//! cannot run here says `skipped`, and why. All figures are of this run: they depend on the machine and on
//! what else it does.
//!
//! Run it with `cargo run --release --example tour`; with `-- --json` it prints an object for each row.
#![allow(clippy::print_stdout)]

mod address;
mod mqueue;
mod payload;
mod pipe;
mod region;
mod report;
mod second;
mod shm;
mod socket;
mod stage;
mod sync;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::report::Row;
use crate::stage::{Outcome, Stage};

/// For how long a row may take. Each takes about a second.
const WATCHDOG: Duration = Duration::from_secs(20);

/// Shows every mechanism at work, with a second process.
#[derive(Debug, Parser)]
struct Args {
    /// Print an object for each row.
    #[arg(long)]
    json: bool,

    /// Be the second process of a stage.
    #[arg(long, hide = true, num_args = 2, value_names = ["STAGE", "ARGUMENT"])]
    second: Option<Vec<String>>,
}

fn stages() -> impl Iterator<Item = &'static Stage> {
    shm::STAGES
        .iter()
        .chain(address::STAGES)
        .chain(mqueue::STAGES)
        .chain(pipe::STAGES)
        .chain(socket::STAGES)
        .chain(sync::STAGES)
        .chain(region::STAGES)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some([name, argument]) = args.second.as_deref() {
        return second(name, argument).await;
    }
    let mut rows = Vec::new();
    for stage in stages() {
        let row = Row {
            stage,
            outcome: bounded((stage.first)(stage)).await,
        };
        if args.json {
            println!("{}", row.json());
        }
        rows.push(row);
    }
    if !args.json {
        print!("{}", report::table(&rows));
    }
    match rows.iter().all(Row::is_fine) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn second(name: &str, argument: &str) -> ExitCode {
    let done = match stages().find(|stage| stage.name == name) {
        Some(stage) => bounded((stage.second)(argument.to_owned())).await,
        None => Err("there is no such stage".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::second_failed(name, &error);
            ExitCode::FAILURE
        }
    }
}

async fn bounded<T>(work: Outcome<T>) -> Result<T, stage::Error> {
    match tokio::time::timeout(WATCHDOG, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("it took longer than {WATCHDOG:?}").into()),
    }
}
