//! One round of one case: two fresh processes, started, watched, heard and waited for.
//!
//! Each side is this program again, by `/proc/self/exe` with a hidden subcommand, so nothing is
//! ever forked out of a process that has threads. The sides share a socket as their standard input;
//! a side writes its [`Record`] to its standard output when it is done.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::Result;
use crate::case::{Case, Suite};
use crate::measure::{Plan, Record};
use crate::session::{Cpus, Session};

/// After this the sides of a round are killed and its case has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// How the sides of a round are to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    pub(crate) cpus: Cpus,
}

/// Which of the two sides a process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    Parent,
    Child,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Child => "child",
        }
    }
}

/// The hidden subcommand's arguments.
#[derive(Args, Debug)]
pub(crate) struct SideArgs {
    #[arg(long)]
    pub(crate) suite: String,
    #[arg(long)]
    subject: String,
    #[arg(long)]
    case: String,
    #[arg(long)]
    part: Part,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    starter: i32,
    #[arg(long)]
    rounds: u32,
    #[arg(long)]
    quick: bool,
    /// The two CPUs; none of them, and the scheduler decides.
    #[arg(long, num_args = 2)]
    cpus: Vec<usize>,
}

/// Runs one round of `case` in `dir`, which it creates and removes.
pub(crate) fn run(
    suite: &Suite,
    case: &Case,
    conditions: Conditions,
    dir: &Path,
) -> Result<Record> {
    fs::create_dir(dir)?;
    let result = run_in(suite, case, conditions, dir);
    fs::remove_dir_all(dir)?;
    result
}

fn run_in(suite: &Suite, case: &Case, conditions: Conditions, dir: &Path) -> Result<Record> {
    let (first, second) = UnixStream::pair()?;
    let mut sides = vec![Running::start(
        suite,
        case,
        conditions,
        dir,
        Part::Parent,
        first,
    )?];
    if case.child.is_some() {
        sides.push(Running::start(
            suite,
            case,
            conditions,
            dir,
            Part::Child,
            second,
        )?);
    }
    let records = watch(&mut sides)?;
    let mut sum = Record::default();
    for record in records {
        sum.cpu_ns += record.cpu_ns;
        sum.messages += record.messages;
        sum.samples.extend(record.samples);
    }
    if sum.samples.is_empty() {
        return Err("nothing was measured".into());
    }
    Ok(sum)
}

/// A side that runs. It is killed and waited for when dropped.
#[derive(Debug)]
struct Running {
    part: Part,
    child: Child,
    output: ChildStdout,
    heard: Vec<u8>,
    ended: bool,
}

impl Running {
    fn start(
        suite: &Suite,
        case: &Case,
        conditions: Conditions,
        dir: &Path,
        part: Part,
        control: UnixStream,
    ) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("side")
            .args(["--suite", suite.name, "--subject", case.subject])
            .args(["--case", &case.name(), "--part", part.name()])
            .args(["--rounds", &conditions.rounds.to_string()])
            .args(["--starter", &std::process::id().to_string()])
            .arg("--dir")
            .arg(dir);
        if conditions.quick {
            command.arg("--quick");
        }
        if let Cpus::Pair(first, second) = conditions.cpus
            && (case.pinned || conditions.cpus.is_one())
        {
            command.args(["--cpus", &first.to_string(), &second.to_string()]);
        }
        let mut child = command
            .stdin(OwnedFd::from(control))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("a side has no standard output")?;
        Ok(Self {
            part,
            child,
            output,
            heard: Vec::new(),
            ended: false,
        })
    }

    /// Reads what there is; at its end, waits for the process and judges it.
    fn hear(&mut self, until: Instant) -> Result<()> {
        let mut chunk = [0; 65536];
        let count = self.output.read(&mut chunk)?;
        if count > 0 {
            self.heard
                .extend_from_slice(chunk.get(..count).unwrap_or_default());
            return Ok(());
        }
        let status = self.wait(until)?;
        self.ended = true;
        if status.success() {
            return Ok(());
        }
        Err(format!("the {} process failed: {status}", self.part.name()).into())
    }

    fn wait(&mut self, until: Instant) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(format!("the {} process does not end", self.part.name()).into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // Both fail only for a process that is gone and was waited for.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Hears all sides to their ends. The first failure ends the others.
fn watch(sides: &mut [Running]) -> Result<Vec<Record>> {
    let until = Instant::now() + DEADLINE;
    while sides.iter().any(|side| !side.ended) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = DEADLINE.as_secs();
            return Err(format!("hung: no answer within {seconds} s").into());
        }
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = sides
                .iter()
                .filter(|side| !side.ended)
                .map(|side| PollFd::from_borrowed_fd(side.output.as_fd(), PollFlags::IN))
                .collect();
            poll(&mut fds, Some(&left.try_into()?))?;
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let open = sides.iter_mut().filter(|side| !side.ended);
        for (side, _) in open.zip(ready).filter(|(_, ready)| *ready) {
            side.hear(until)?;
        }
    }
    sides.iter().map(|side| decode(&side.heard)).collect()
}

/// What a started side does: the case, then its record to standard output.
pub(crate) fn side(suite: &Suite, args: SideArgs) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(args.starter) {
        return Err("the starter of this process has gone".into());
    }
    let case = (suite.cases)()
        .into_iter()
        .find(|case| case.subject == args.subject && case.name() == args.case)
        .ok_or_else(|| format!("no case {} of {}", args.case, args.subject))?;
    let cpus = match *args.cpus {
        [first, second] => Cpus::Pair(first, second),
        _ => Cpus::Any,
    };
    // Before any runtime starts its threads, which inherit the placement.
    match args.part {
        Part::Parent => cpus.pin_first()?,
        Part::Child => cpus.pin_second()?,
    }
    let run = match args.part {
        Part::Parent => case.parent,
        Part::Child => case.child.ok_or("the case has no second process")?,
    };
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let plan = Plan::new(&case, args.rounds, args.quick);
    let record = run(&mut Session::new(case, plan, args.dir, control, cpus))?;
    std::io::stdout().write_all(&encode(&record))?;
    Ok(std::io::stdout().flush()?)
}

fn encode(record: &Record) -> Vec<u8> {
    let head = [record.cpu_ns, record.messages].map(u64::to_ne_bytes);
    let samples = record.samples.iter().map(|sample| sample.to_ne_bytes());
    head.into_iter().chain(samples).flatten().collect()
}

fn decode(bytes: &[u8]) -> Result<Record> {
    let ([cpu_ns, messages, samples @ ..], []) = bytes.as_chunks::<8>() else {
        return Err("a side ended without a record".into());
    };
    Ok(Record {
        cpu_ns: u64::from_ne_bytes(*cpu_ns),
        messages: u64::from_ne_bytes(*messages),
        samples: samples
            .iter()
            .map(|sample| f64::from_ne_bytes(*sample))
            .collect(),
    })
}
