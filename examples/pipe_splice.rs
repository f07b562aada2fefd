//! Forwarding without copying: bytes go from one program to another, with a copy to a third.
//!
//! `tee` and `splice` pass the pages of one pipe on to another; nothing of the 64 MiB comes into the
//! memory of this process. The programs check that all of it arrived, twice.
//!
//! Run it with `cargo run --example pipe_splice`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Instant;

use sinew::pipe::{Options, Tee};

const BYTES: u64 = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::new().size(1 << 18);
    let (from, theirs) = options.receiver()?;
    let mut producer = Command::new("sh");
    producer.args(["-c", &format!("yes sinew | head -c {BYTES}")]);
    let mut producing = producer.stdout(theirs).spawn()?;
    drop(producer);

    let count = || -> Result<_, Box<dyn Error>> {
        let (to, theirs) = options.sender()?;
        let mut consumer = Command::new("wc");
        let consuming = consumer.arg("-c").stdin(theirs).stdout(Stdio::piped());
        Ok((to.into_inner(), consuming.spawn()?))
    };
    let (mut to, first) = count()?;
    let (mut copy, second) = count()?;

    let mut from = from.into_parts().0;
    let begun = Instant::now();
    let moved = Tee::new(&mut from, &mut to, &mut copy).run().await?;
    println!("moved {moved} bytes in {:.0?}", begun.elapsed());
    drop((to, copy));
    producing.wait()?;
    for counted in [first, second] {
        let output = counted.wait_with_output()?;
        println!(
            "wc counted {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(())
}
