//! The report: tables for people, or one JSON object a line for programs.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::Result;
use crate::case::{Carrier, Protocol};
use crate::measure::median;
use crate::process::Conditions;
use crate::runner::Row;

/// The rows of a run, ready to be printed.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    rows: &'a [Row],
    rounds: usize,
    conditions: Conditions,
}

/// A row's p50 by another's, over the rounds.
struct Ratio {
    protocol: Protocol,
    by: Carrier,
    median: Option<f64>,
    least: Option<f64>,
    most: Option<f64>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(rows: &'a [Row], rounds: usize, conditions: Conditions) -> Self {
        Self {
            rows,
            rounds,
            conditions,
        }
    }

    /// Sinew by each other carrier.
    fn ratios(&self) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        for ours in self
            .rows
            .iter()
            .filter(|row| row.case.carrier == Carrier::Sinew)
        {
            let protocol = ours.case.protocol;
            let others = self.rows.iter().filter(|row| row.case.protocol == protocol);
            for other in others.filter(|row| row.case.carrier != Carrier::Sinew) {
                let rounds = ours.ratios(other);
                ratios.push(Ratio {
                    protocol,
                    by: other.case.carrier,
                    least: rounds.iter().copied().reduce(f64::min),
                    most: rounds.iter().copied().reduce(f64::max),
                    median: median(rounds),
                });
            }
        }
        ratios
    }

    pub(crate) fn json(&self, out: &mut impl Write) -> Result<()> {
        let head = json!({
            "processor": processor(),
            "kernel": kernel(),
            "cpus": self.conditions.cpus,
            "rounds": self.rounds,
            "quick": self.conditions.quick,
        });
        writeln!(out, "{head}")?;
        for row in self.rows {
            let [p50, p99, cpu] = figures(row);
            let line = json!({
                "protocol": row.case.protocol.to_string(),
                "carrier": row.case.carrier.to_string(),
                "p50_ns": p50,
                "p99_ns": p99,
                "cpu_ns_per_trip": cpu,
                "failure": row.failure,
            });
            writeln!(out, "{line}")?;
        }
        for ratio in self.ratios() {
            let line = json!({
                "protocol": ratio.protocol.to_string(),
                "ratio": format!("sinew/{}", ratio.by),
                "median": ratio.median,
                "least": ratio.least,
                "most": ratio.most,
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    pub(crate) fn table(&self, out: &mut impl Write) -> Result<()> {
        let [client, server] = self.conditions.cpus;
        writeln!(out, "processor: {}", processor())?;
        writeln!(out, "kernel: Linux {}", kernel())?;
        writeln!(
            out,
            "round trips of 64 bytes in µs, medians of {} rounds{}; client on CPU {client}, server on CPU {server}",
            self.rounds,
            if self.conditions.quick { ", quick" } else { "" },
        )?;
        let mut protocol = None;
        for row in self.rows {
            if protocol.replace(row.case.protocol) != Some(row.case.protocol) {
                writeln!(
                    out,
                    "\n{:<8} {:>9} {:>9} {:>9}",
                    row.case.protocol, "p50", "p99", "cpu"
                )?;
            }
            write!(out, "{:<8}", row.case.carrier)?;
            match &row.failure {
                Some(failure) => writeln!(out, " {failure}")?,
                None => {
                    let [p50, p99, cpu] = figures(row).map(micros);
                    writeln!(out, " {p50:>9} {p99:>9} {cpu:>9}")?;
                }
            }
        }
        writeln!(
            out,
            "\nratios of p50, median over the rounds (least to most); below 1 is faster"
        )?;
        for ratio in self.ratios() {
            writeln!(
                out,
                "{:<8} sinew/{:<8} {:>6} ({} to {})",
                ratio.protocol,
                ratio.by,
                share(ratio.median),
                share(ratio.least),
                share(ratio.most)
            )?;
        }
        writeln!(
            out,
            "\ncpu is the CPU time of both processes for each round trip. duplex is one process: no \
             other\ncore, no system call for a message."
        )?;
        Ok(())
    }
}

/// The row's p50, p99 and CPU time for each round trip, in nanoseconds.
fn figures(row: &Row) -> [Option<f64>; 3] {
    [
        row.median(|round| round.p50),
        row.median(|round| round.p99),
        row.median(|round| round.cpu_ns as f64 / round.trips as f64),
    ]
}

fn micros(nanos: Option<f64>) -> String {
    nanos.map_or_else(|| "-".into(), |nanos| format!("{:.2}", nanos / 1e3))
}

fn share(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

/// The first processor's name.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| "unknown".into())
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |release| release.trim().to_owned())
}
