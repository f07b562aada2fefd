//! A run: every case of a suite, in several interleaved rounds.
//!
//! The machine's speed drifts over minutes, so a round runs every case for a short while, and
//! ratios are formed within a round, where both figures are neighbours. Odd rounds go backwards.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs, process};

use clap::Args;

use crate::Result;
use crate::case::{Case, Kind, Suite};
use crate::measure::{Record, median, percentile};
use crate::process::{Conditions, run};
use crate::report::Report;
use crate::session::Cpus;

/// Back to the beginning of a terminal's line, which is cleared.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Options of every suite.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Print one JSON object a line instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// A tenth of the round trips and shorter slices, in three rounds, for a first look.
    #[arg(long)]
    quick: bool,
    /// Let the scheduler place the processes.
    #[arg(long, conflicts_with = "one_core")]
    no_pin: bool,
    /// Hold both processes to one CPU; cases that only spin are skipped.
    #[arg(long)]
    one_core: bool,
    /// Run only the cases whose `subject:case` contains one of these.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
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
    /// The sample, in the case's unit, that a share of `rank` of all is at least as good as.
    pub(crate) fn percentile(&self, rank: f64) -> Option<f64> {
        let all = self.rounds.iter().flat_map(|round| &round.samples);
        self.ranked(all.copied().collect(), rank)
    }

    fn ranked(&self, mut samples: Vec<f64>, rank: f64) -> Option<f64> {
        samples.sort_by(f64::total_cmp);
        if self.case.kind == Kind::Throughput {
            samples.reverse();
        }
        percentile(&samples, rank).map(|sample| sample * self.case.scale())
    }

    /// CPU time of both processes for each message.
    pub(crate) fn cpu_ns_per_message(&self) -> Option<f64> {
        let cpu: u64 = self.rounds.iter().map(|round| round.cpu_ns).sum();
        let messages: u64 = self.rounds.iter().map(|round| round.messages).sum();
        (messages > 0).then(|| cpu as f64 / messages as f64)
    }

    /// This case's median by the other's, round by round.
    pub(crate) fn ratios(&self, other: &Self) -> Vec<f64> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        pairs
            .filter_map(|(ours, theirs)| {
                let ours = self.ranked(ours.samples.clone(), 0.5)?;
                let theirs = other.ranked(theirs.samples.clone(), 0.5)?;
                (theirs > 0.0).then_some(ours / theirs)
            })
            .collect()
    }

    pub(crate) fn ratio(&self, other: &Self) -> Option<f64> {
        median(&self.ratios(other))
    }
}

/// Runs `suite` and prints its report. A case that failed is an error, after the report.
pub(crate) fn run_suite(suite: &Suite, args: &RunArgs) -> Result<()> {
    let conditions = Conditions {
        rounds: if args.quick { 3 } else { 5 },
        quick: args.quick,
        cpus: if args.no_pin {
            Cpus::Any
        } else {
            Cpus::choose(args.one_core)?
        },
    };
    if conditions.cpus.is_one() && !args.one_core {
        eprintln!("only one CPU is allowed: as with --one-core");
    }
    let scratch = Scratch::create()?;
    let mut rows: Vec<Row> = selected(suite, args, conditions)
        .into_iter()
        .map(|case| Row {
            case,
            rounds: Vec::new(),
            failure: None,
        })
        .collect();
    if rows.is_empty() {
        return Err("no case is left to run".into());
    }
    let shows_progress = std::io::stderr().is_terminal();
    let start = Instant::now();
    for round in 0..conditions.rounds {
        let count = rows.len();
        for step in 0..count {
            let index = if round % 2 == 0 {
                step
            } else {
                count - 1 - step
            };
            // A case that hung once may hang in each round, for the whole of the deadline.
            let Some(row) = rows.get_mut(index).filter(|row| row.failure.is_none()) else {
                continue;
            };
            let (subject, name) = (row.case.subject, row.case.name());
            if shows_progress {
                eprint!(
                    "{CLEAR_LINE}round {}/{}: {subject} {name}",
                    round + 1,
                    conditions.rounds
                );
                std::io::stderr().flush()?;
            }
            let dir = scratch.0.join(format!("{round}-{index}"));
            match run(suite, &row.case, conditions, &dir) {
                Ok(record) => row.rounds.push(record),
                Err(error) => {
                    row.rounds.clear();
                    row.failure = Some(format!("round {}: {error}", round + 1));
                }
            }
        }
    }
    eprintln!(
        "{}{} cases in {} rounds took {} s",
        if shows_progress { CLEAR_LINE } else { "" },
        rows.len(),
        conditions.rounds,
        start.elapsed().as_secs()
    );
    let report = Report::new(suite, &rows);
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

/// The cases to run, the limits of those that were asked for included.
fn selected(suite: &Suite, args: &RunArgs, conditions: Conditions) -> Vec<Case> {
    let all = (suite.cases)();
    let asked = |case: &Case| {
        let name = format!("{}:{}", case.subject, case.name());
        args.only.is_empty() || args.only.iter().any(|text| name.contains(text.as_str()))
    };
    let limits: Vec<String> = all
        .iter()
        .filter(|case| asked(case))
        .filter_map(|case| (suite.limit)(case))
        .collect();
    let mut kept = Vec::new();
    for case in all {
        let is_limit = case.subject == crate::limit::SUBJECT && limits.contains(&case.name());
        if !asked(&case) && !is_limit {
            continue;
        }
        if conditions.cpus.is_one() && !case.on_one_core {
            eprintln!(
                "skipped: {} {}: it spins, and there is one CPU",
                case.subject,
                case.name()
            );
            continue;
        }
        kept.push(case);
    }
    kept
}

/// The run's directory, removed at its end together with what a killed side left in shared memory.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self> {
        let dir = env::temp_dir().join(format!("sinew-bench.{}", process::id()));
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        if let Err(error) = removed.and_then(|()| crate::iceoryx2::sweep(&self.0)) {
            eprintln!("{} could not be cleaned up: {error}", self.0.display());
        }
    }
}
