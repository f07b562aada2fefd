use std::fs::OpenOptions;
use std::io::Write;

/// Says that a test cannot run here: on stderr, and in the file that `SINEW_SKIP_LOG` names.
pub fn skip(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    // Not captured by the test harness, unlike what `eprint!` prints.
    let _unseen = std::io::stderr().write_all(line.as_bytes());
    if let Ok(path) = std::env::var("SINEW_SKIP_LOG") {
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("SINEW_SKIP_LOG can be written");
        log.write_all(line.as_bytes())
            .expect("SINEW_SKIP_LOG can be written");
    }
}
