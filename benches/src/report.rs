//! The report: a table for people, or one JSON object a line for programs.

use std::io::Write;

use serde_json::json;

use crate::Result;
use crate::case::{Comparison, Kind, Suite};
use crate::limit;
use crate::measure::median;
use crate::runner::Row;

/// The rows of a run, ready to be printed.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    suite: &'a Suite,
    rows: &'a [Row],
}

impl<'a> Report<'a> {
    pub(crate) fn new(suite: &'a Suite, rows: &'a [Row]) -> Self {
        Self { suite, rows }
    }

    fn find(&self, subject: &str, case: &str) -> Option<&'a Row> {
        self.rows
            .iter()
            .find(|row| row.case.subject == subject && row.case.name() == case)
    }

    fn ratio_to_limit(&self, row: &Row) -> Option<f64> {
        let name = (self.suite.limit)(&row.case)?;
        row.ratio(self.find(limit::SUBJECT, &name)?)
    }

    pub(crate) fn json(&self, out: &mut impl Write) -> Result<()> {
        for row in self.rows {
            let line = json!({
                "suite": self.suite.name,
                "subject": row.case.subject,
                "case": row.case.name(),
                "unit": row.case.unit(),
                "p50": row.percentile(0.5),
                "p99": row.percentile(0.99),
                "p999": row.percentile(0.999),
                "cpu_ns_per_msg": row.cpu_ns_per_message(),
                "ratio_to_limit": self.ratio_to_limit(row),
                "failure": row.failure,
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    pub(crate) fn table(&self, out: &mut impl Write) -> Result<()> {
        let mut heading = None;
        for row in self.rows {
            let case = &row.case;
            if heading != Some((case.kind, case.size, case.is_operation)) {
                heading = Some((case.kind, case.size, case.is_operation));
                let bytes = case.size.bytes();
                let head = match case.kind {
                    _ if case.is_operation => "operation".to_owned(),
                    Kind::RoundTrip => format!("round trip, {bytes} bytes"),
                    Kind::Throughput => format!("throughput, {bytes} bytes"),
                };
                writeln!(out, "\n{head}, {}", case.unit())?;
                writeln!(
                    out,
                    "{:<12} {:<24} {:>12} {:>12} {:>12} {:>12} {:>9}",
                    "subject", "how", "p50", "p99", "p99.9", "cpu ns/msg", "to limit"
                )?;
            }
            if let Some(failure) = &row.failure {
                writeln!(out, "{:<12} {:<24} {failure}", case.subject, case.how)?;
                continue;
            }
            writeln!(
                out,
                "{:<12} {:<24} {:>12} {:>12} {:>12} {:>12} {:>9}",
                case.subject,
                case.how,
                figure(row.percentile(0.5)),
                figure(row.percentile(0.99)),
                figure(row.percentile(0.999)),
                figure(row.cpu_ns_per_message()),
                share(self.ratio_to_limit(row)),
            )?;
        }
        self.comparisons(out)?;
        writeln!(
            out,
            "\nOf round trips a high percentile is a slow sample; of throughput it is a slow slice. \
             A round trip is two messages.\nA ratio is the median over the rounds of one median by \
             the other; below 1 is faster for round trips, slower for throughput."
        )?;
        Ok(())
    }

    fn comparisons(&self, out: &mut impl Write) -> Result<()> {
        let mut headed = false;
        for Comparison { ours, theirs } in self.suite.comparisons {
            let rows = (self.find(ours.0, ours.1), self.find(theirs.0, theirs.1));
            let (Some(row), Some(other)) = rows else {
                continue;
            };
            let ratios = row.ratios(other);
            let least = ratios.iter().copied().reduce(f64::min);
            let most = ratios.iter().copied().reduce(f64::max);
            if !headed {
                writeln!(out, "\nratios, median over the rounds (least to most)")?;
                headed = true;
            }
            writeln!(
                out,
                "{:<44} by {:<44} {:>8} ({} to {})",
                format!("{} {}", ours.0, ours.1),
                format!("{} {}", theirs.0, theirs.1),
                share(median(&ratios)),
                share(least),
                share(most),
            )?;
        }
        Ok(())
    }
}

/// Three significant digits or all of an integer, with thousands set apart.
fn figure(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}
