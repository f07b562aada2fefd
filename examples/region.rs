//! Typed memory that two processes share by name.
//!
//! Both have a table of atomics in the same POSIX shared memory: the child counts in it while the parent looks. What
//! another process can change at any time is never lent as a slice, only as atomics, or copied.
//!
//! Run it with `cargo run --example region`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use sinew::memory::{PosixShm, View};

/// In which the child counts.
type Counters = View<[AtomicU64; 4]>;
/// Where they are, and where a text is.
const COUNTERS: usize = 0;
const TEXT: usize = 1024;

const ROUNDS: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return child(&name);
    }
    let name = format!("/sinew-example-region-{}", std::process::id());
    let region = PosixShm::new(&name)
        .exclusive(true)
        .size(4096)
        .unlink_on_drop(true)
        .open()?;
    let counters: Counters = region.view(COUNTERS)?;

    let mut child = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    while counters[0].load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    println!("both have it mapped: {:?}", region.attachments()?.pids);
    // The child may go on.
    counters[3].store(1, Ordering::Release);
    if !child.wait()?.success() {
        return Err("the child failed".into());
    }

    let counted = counters[1].load(Ordering::Acquire);
    let mut text = [0; 5];
    region.read(TEXT, &mut text)?;
    println!(
        "the child has counted to {counted}, and says {}",
        text.escape_ascii()
    );
    if counted != ROUNDS || &text != b"done!" {
        return Err("it is not the same memory".into());
    }
    Ok(())
}

fn child(name: &str) -> Result<(), Box<dyn Error>> {
    let region = PosixShm::new(name).open()?;
    let counters: Counters = region.view(COUNTERS)?;
    counters[0].store(1, Ordering::Release);
    while counters[3].load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    for _ in 0..ROUNDS {
        counters[1].fetch_add(1, Ordering::Relaxed);
    }
    region.write(TEXT, b"done!")?;
    Ok(())
}
