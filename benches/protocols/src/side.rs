//! What a started process does: one side of one round of one case.
//!
//! It ends with one JSON object on its standard output, before which a server writes a line as
//! soon as it listens.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde_json::json;
use tokio::runtime::Builder;

use crate::carrier::{End, Listener};
use crate::case::{Carrier, Protocol};
use crate::measure::{Echo, Plan};
use crate::{Result, cpus};

/// Which side a process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// It asks; over a duplex stream it answers as well.
    Client,
    /// It answers.
    Server,
}

/// The hidden subcommand's arguments.
#[derive(Args, Debug)]
pub(crate) struct SideArgs {
    part: Part,
    protocol: Protocol,
    carrier: Carrier,
    /// The path of the server's socket.
    path: PathBuf,
    /// The CPU that this process is held to.
    cpu: usize,
    /// The process that started this one.
    starter: i32,
    #[arg(long)]
    quick: bool,
}

/// Runs the side and prints its figures.
pub(crate) fn run(args: &SideArgs) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(args.starter) {
        return Err("the starter of this process has gone".into());
    }
    cpus::pin(args.cpu)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(async {
        match args.part {
            Part::Client => client(args).await,
            Part::Server => server(args).await,
        }
    })?;
    // Closes what tasks in the background still hold, so that the other side sees an orderly end.
    drop(runtime);
    println!("{figures}");
    Ok(())
}

async fn client(args: &SideArgs) -> Result<serde_json::Value> {
    let plan = Plan::new(args.quick);
    let record = if args.carrier == Carrier::Duplex {
        let [ours, theirs] = End::pair();
        let server = tokio::spawn(theirs.serve(args.protocol, Arc::default()));
        let record = ours.ask(args.protocol, plan).await?;
        server.await??;
        record
    } else {
        let end = End::connect(args.carrier, &args.path).await?;
        end.ask(args.protocol, plan).await?
    };
    Ok(json!({
        "p50": record.p50,
        "p99": record.p99,
        "trips": record.trips,
        "cpu_ns": record.cpu_ns,
    }))
}

async fn server(args: &SideArgs) -> Result<serde_json::Value> {
    let mut listener = Listener::bind(args.carrier, &args.path).await?;
    println!("listening");
    let end = listener.accept().await?;
    let echo = Arc::new(Echo::default());
    end.serve(args.protocol, Arc::clone(&echo)).await?;
    Ok(json!({ "cpu_ns": echo.cpu_ns()? }))
}
