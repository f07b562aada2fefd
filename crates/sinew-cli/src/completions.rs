use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use sinew::Error;

use crate::args::Args;
use crate::failure::Failure;

/// `sinew completions`.
pub(crate) fn print(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sinew", &mut script);
    match io::stdout().write_all(&script) {
        // As with `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| {
            Failure::Error(Error::from_io("write", error).with_address("standard output"))
        }),
    }
}
