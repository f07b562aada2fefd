use std::io::{self, Write};

use sinew::{Bridge, BridgeReport};

use crate::args::BridgeArgs;
use crate::blocking::Blocking;
use crate::failure::Failure;
use crate::signal::Signals;

/// `sinew bridge`.
pub(crate) async fn run(args: BridgeArgs) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let opened = async { Ok(Bridge::open(&args.source, &args.destination).await?) };
    let mut bridge = signals.unless(opened).await?;
    let carried = async { Ok(bridge.run().await?) };
    let carried = signals.unless(carried).await;
    report(&args, &bridge.report());
    carried.map(drop)
}

/// Says what did not cross, if something did not.
fn report(args: &BridgeArgs, report: &BridgeReport) {
    let lanes = [
        (&report.there, &args.source, &args.destination),
        (&report.back, &args.destination, &args.source),
    ];
    for (lane, from, to) in lanes {
        let losses = lane.losses();
        if !losses.is_empty() {
            let _nobody_to_tell = writeln!(
                Blocking(io::stderr()),
                "sinew: of {} messages from {from} to {to}: {}",
                lane.messages,
                losses.join(", ")
            );
        }
    }
}
