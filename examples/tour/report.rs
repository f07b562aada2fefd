//! The table, and the objects.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;

use crate::stage::{Error, Shown, Skipped, Stage};

pub(crate) struct Row {
    pub(crate) stage: &'static Stage,
    pub(crate) outcome: Result<Shown, Error>,
}

impl Row {
    /// Whether it was shown, or could not be shown here.
    pub(crate) fn is_fine(&self) -> bool {
        self.outcome.is_ok() || self.is_skipped()
    }

    fn is_skipped(&self) -> bool {
        matches!(&self.outcome, Err(error) if error.is::<Skipped>())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let nanoseconds = |percent| {
            let time = self.outcome.as_ref().ok()?.percentile(percent)?;
            u64::try_from(time.as_nanos()).ok()
        };
        let shown = self.outcome.as_ref().ok();
        json!({
            "mechanism": self.stage.name,
            "ok": self.outcome.is_ok(),
            "skipped": self.is_skipped(),
            "messages": shown.map_or(0, |shown| shown.messages),
            "rtt_ns_p50": nanoseconds(50),
            "rtt_ns_p99": nanoseconds(99),
            "msgs_per_s": shown.map(|shown| shown.rate.round()),
            "detail": self.detail(),
        })
    }

    fn detail(&self) -> String {
        match &self.outcome {
            Ok(shown) if shown.detail.is_empty() => self.stage.shows.to_owned(),
            Ok(shown) => format!("{}: {}", self.stage.shows, shown.detail),
            Err(error) => error.to_string(),
        }
    }

    fn cells(&self) -> [String; 6] {
        let mechanism = self.stage.name.to_owned();
        match &self.outcome {
            Ok(shown) => [
                mechanism,
                self.detail(),
                shown.messages.to_string(),
                shown.percentile(50).map(time).unwrap_or_default(),
                shown.percentile(99).map(time).unwrap_or_default(),
                rate(shown.rate),
            ],
            Err(error) => {
                let word = if self.is_skipped() {
                    "skipped"
                } else {
                    "FAILED"
                };
                let dash = || "-".to_owned();
                [
                    mechanism,
                    format!("{word}: {error}"),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                ]
            }
        }
    }
}

pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "mechanism",
        "shown",
        "messages",
        "rtt p50",
        "rtt p99",
        "messages/s",
    ];
    let lines: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut table = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Text to the left, figures to the right.
            let _infallible = match column {
                0 => write!(table, "{cell:<width$}"),
                1 => write!(table, "  {cell:<width$}"),
                _ => write!(table, "  {cell:>width$}"),
            };
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    table
}

fn time(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    match microseconds {
        ..1000.0 => format!("{microseconds:.1} µs"),
        _ => format!("{:.1} ms", microseconds / 1e3),
    }
}

fn rate(rate: f64) -> String {
    match rate {
        1e6.. => format!("{:.1} M", rate / 1e6),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}

/// Says on standard error what went wrong in the second process; the first says what it saw of it.
#[allow(clippy::print_stderr)]
pub(crate) fn second_failed(name: &str, error: &Error) {
    eprintln!("{name}, second process: {error}");
}
