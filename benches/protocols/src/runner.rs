//! A run: every case, in several interleaved rounds.
//!
//! The machine's speed drifts over minutes, so a round runs every case for a short while, and
//! ratios are formed within a round, where both figures are neighbours. Odd rounds go backwards.

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use tokio::runtime::Builder;

use crate::case::{Case, Protocol};
use crate::measure::{Record, median};
use crate::process::{self, Conditions};
use crate::report::Report;
use crate::{Result, cpus};

/// Options of a run.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Run only these protocols.
    #[arg(long, value_delimiter = ',', value_name = "PROTOCOL")]
    only: Vec<Protocol>,
    /// Run every case this many times.
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Measure a fifth of the time, for a first look.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object a line instead of the tables.
    #[arg(long)]
    json: bool,
    /// Hold both processes to one CPU.
    #[arg(long)]
    one_core: bool,
}

/// A case and what its rounds brought.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// Empty once a round has failed.
    rounds: Vec<Record>,
    pub(crate) failure: Option<String>,
}

impl Row {
    /// The median over the rounds; none for a case that failed.
    pub(crate) fn median(&self, figure: impl Fn(&Record) -> f64) -> Option<f64> {
        median(self.rounds.iter().map(figure))
    }

    /// This case's p50 by the other's, round by round; empty if one of them failed.
    pub(crate) fn ratios(&self, other: &Self) -> Vec<f64> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        pairs.map(|(ours, theirs)| ours.p50 / theirs.p50).collect()
    }
}

/// Runs the cases and prints their report. A case that failed is an error, after the report.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let protocols = match &args.only[..] {
        [] => Protocol::value_variants(),
        only => only,
    };
    let mut rows: Vec<Row> = Case::of(protocols)
        .into_iter()
        .map(|case| Row {
            case,
            rounds: Vec::new(),
            failure: None,
        })
        .collect();
    let conditions = Conditions {
        cpus: cpus::choose(args.one_core)?,
        quick: args.quick,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&mut rows, args.rounds, conditions))?;
    let report = Report::new(&rows, args.rounds, conditions);
    let mut out = std::io::stdout().lock();
    if args.json {
        report.json(&mut out)?;
    } else {
        report.table(&mut out)?;
    }
    match rows.iter().filter(|row| row.failure.is_some()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} cases failed", rows.len()).into()),
    }
}

/// Runs every round of every row. A case that failed once is not run again.
async fn measure(rows: &mut [Row], rounds: usize, conditions: Conditions) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix(&format!("sinew-bench-protocols.{}.", std::process::id()))
        .tempdir()?;
    for round in 0..rounds {
        let mut order: Vec<(usize, &mut Row)> = rows.iter_mut().enumerate().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (index, row) in order {
            // A case that hung once may hang in each round, for the whole of the deadline.
            if row.failure.is_some() {
                continue;
            }
            let path = scratch.path().join(format!("{round}-{index}.sock"));
            match process::run(row.case, conditions, &path).await {
                Ok(record) => row.rounds.push(record),
                Err(error) => {
                    row.rounds.clear();
                    row.failure = Some(format!("round {}: {error}", round + 1));
                }
            }
        }
    }
    Ok(scratch.close()?)
}
