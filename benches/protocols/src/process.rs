//! One round of one case: fresh processes, started, heard, and always waited for.
//!
//! Each side is this program again, by `/proc/self/exe` with a hidden subcommand.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::Result;
use crate::case::{Carrier, Case};
use crate::measure::Record;

/// After this the processes of a round are killed.
const DEADLINE: Duration = Duration::from_secs(20);

/// How the sides of every round are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// The CPUs of the client and of the server.
    pub(crate) cpus: [usize; 2],
    pub(crate) quick: bool,
}

/// Runs one round of `case`, with the server's socket at `path`.
pub(crate) async fn run(case: Case, conditions: Conditions, path: &Path) -> Result<Record> {
    let mut sides = [None, None];
    let outcome = timeout(DEADLINE, talk(&mut sides, case, conditions, path)).await;
    for side in sides.iter_mut().flatten() {
        // Fails only for a process that ended and was waited for.
        let _ = side.process.kill().await;
    }
    outcome
        .unwrap_or_else(|_| Err(format!("hung: no answer within {} s", DEADLINE.as_secs()).into()))
}

async fn talk(
    [server, client]: &mut [Option<Side>; 2],
    case: Case,
    conditions: Conditions,
    path: &Path,
) -> Result<Record> {
    let start = |part, cpu| Side::start(part, cpu, case, conditions.quick, path);
    let [client_cpu, server_cpu] = conditions.cpus;
    if case.carrier != Carrier::Duplex {
        let server = server.insert(start("server", server_cpu)?);
        if server.lines.next_line().await?.is_none() {
            server.figures().await?;
        }
    }
    let client = client.insert(start("client", client_cpu)?);
    let (asked, answered) = tokio::try_join!(client.figures(), async {
        match server {
            Some(server) => server.figures().await.map(Some),
            None => Ok(None),
        }
    })?;
    let server_cpu_ns = answered.map_or(Ok(0), |figures| integer(&figures, "cpu_ns"))?;
    Ok(Record {
        p50: number(&asked, "p50")?,
        p99: number(&asked, "p99")?,
        trips: integer(&asked, "trips")?,
        cpu_ns: integer(&asked, "cpu_ns")? + server_cpu_ns,
    })
}

/// A started process. It is killed if it is dropped before its end.
#[derive(Debug)]
struct Side {
    part: &'static str,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Side {
    fn start(part: &'static str, cpu: usize, case: Case, quick: bool, path: &Path) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["side", part])
            .args([case.protocol.to_string(), case.carrier.to_string()])
            .arg(path)
            .args([cpu.to_string(), std::process::id().to_string()])
            .args(quick.then_some("--quick"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let output = process.stdout.take().ok_or("no standard output")?;
        Ok(Self {
            part,
            process,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The line that the process ends with, if it succeeds.
    async fn figures(&mut self) -> Result<Value> {
        let line = self.lines.next_line().await?;
        let status = self.process.wait().await?;
        match line {
            Some(line) if status.success() => Ok(serde_json::from_str(&line)?),
            _ => Err(format!("the {} failed: {status}", self.part).into()),
        }
    }
}

fn number(figures: &Value, name: &str) -> Result<f64> {
    let value = figures.get(name).and_then(Value::as_f64);
    value.ok_or_else(|| format!("a side did not report {name}").into())
}

fn integer(figures: &Value, name: &str) -> Result<u64> {
    let value = figures.get(name).and_then(Value::as_u64);
    value.ok_or_else(|| format!("a side did not report {name}").into())
}
