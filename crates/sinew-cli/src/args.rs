//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use sinew::{Address, Error, ErrorKind, Scheme};

use crate::failure::Failure;

/// Sends and receives messages between processes, through any mechanism that Sinew can open.
#[derive(Debug, Parser)]
#[command(name = "sinew", version, after_help = AFTER, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Addresses are `scheme:rest?key=value&flag`, such as `shm:/run/app.sock?mode=600` or `shm:@name`. The one
that receives listens and the one that sends connects, unless the address says `listen` or `connect`.

Exit codes: 0 done, 1 failed (one line on standard error says why, and what to do), 2 usage, 128 and the
signal's number when a signal ended it.

RUST_LOG=sinew_shm=debug shows on standard error what happens underneath.

Examples:
  sinew recv shm:@jobs                        in one terminal, and in another:
  sinew send shm:@jobs 'job 1' 'job 2'        two messages
  seq 1000000 | sinew send shm:@jobs          a message a line
  sinew recv 'unix:/tmp/log?peers=many'       the messages of all who come, and whose they are
  sinew recv --raw shm:/tmp/s > copy          a file, byte for byte
  sinew send --raw shm:/tmp/s < original
  sinew bridge tcp:127.0.0.1:9000 shm:@jobs   what comes over the network, into a channel";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Send(SendArgs),
    Recv(RecvArgs),
    Bridge(BridgeArgs),
    /// Prints a script that completes this program's command line in a shell
    ///
    /// For bash, in `~/.bashrc`: source <(sinew completions bash)
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Sends messages: the arguments, or else standard input, a message a line
///
/// Of a line, the newline is left out and everything else is sent, whether it is text or not; the last
/// line counts without a newline too. Lines are sent as they come, and no faster than the receiver takes
/// them.
///
/// It ends once everything is in the channel's memory, where the receiver finds it even after this
/// program has ended; on `unix:`, `unix-seqpacket:` and `tcp:` once the receiver has read
/// everything, and it fails if the receiver has gone before that. If it fails, or is interrupted,
/// the receiver at the other end of `shm:`, `posixshm:`, `sysvshm:`, `mmap:`, `unix:` or `tcp:` is
/// told that the sender died, so that half a file does not look like a whole one, and a program
/// that `exec:` has started is killed. `unix-seqpacket:`, `unix:` with `framing=lines`, other pipes
/// and queues end without saying why.
#[derive(Debug, Parser)]
pub(crate) struct SendArgs {
    /// Where to send to
    #[arg(value_name = "ADDRESS", value_parser = OsStringValueParser::new().try_map(address))]
    pub(crate) address: Address,

    /// Messages; after `--` they may begin with a hyphen
    #[arg(value_name = "PAYLOAD")]
    pub(crate) payloads: Vec<OsString>,

    /// Send standard input as it is, in messages of `--chunk` bytes, of which the last may be shorter
    ///
    /// To `exec:`, `fd:`, `fifo:`, `unix:` and `tcp:`, the bytes go without anything in between
    /// (`framing=none`), unless the address says which framing to use.
    #[arg(long, conflicts_with = "payloads")]
    pub(crate) raw: bool,

    /// Bytes of a message with `--raw`: a number, or one with K, M or G, up to 1G
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = chunk, requires = "raw")]
    pub(crate) chunk: usize,

    /// How long to wait for the other end: a number with us, ms, s, m or h; 0s for one try
    ///
    /// Takes the place of the address's `timeout`. [default: 5s to connect, for ever to listen]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,

    /// Show no progress
    ///
    /// It is shown for what takes longer than a second, where standard error is a terminal.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Receives messages and prints each with a newline
///
/// It ends after `--count` messages, when the sender has closed, or when nobody reads what it prints any
/// more (as with `head`; that is no failure). If the sender dies, everything that it had sent is printed
/// first. Where messages were lost and others may follow (a datagram that was too long, a writer of a
/// FIFO that died within a message), it says so, goes on, and fails at the end. Messages are received no
/// faster than they are printed.
///
/// It takes one peer, unless the address (of `shm:`, `unix:`, `unix-seqpacket:` or `tcp:`) says
/// `peers=many`: then it takes the messages of all that come, up to 128 at a time or as many as
/// `max-peers` says, and prints before each whom it is from, `#1 pid 4711, uid 1000: ` or `#1
/// 127.0.0.1:40000: ` (the number counts connections). A peer that fails is reported on standard
/// error, and the others go on. It ends after `--count` messages or with a signal.
#[derive(Debug, Parser)]
pub(crate) struct RecvArgs {
    /// Where to receive from
    #[arg(value_name = "ADDRESS", value_parser = OsStringValueParser::new().try_map(address))]
    pub(crate) address: Address,

    /// End after this many messages
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Print the payloads alone, with nothing in between
    ///
    /// From `exec:`, `fd:`, `fifo:`, `unix:` and `tcp:`, the bytes are taken as they come
    /// (`framing=none`), unless the address says which framing to use.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,

    /// Print a JSON object for each message, in a line of its own
    ///
    /// "payload" is the payload as a string; where it is not UTF-8, there is "payload_base64" instead, in
    /// the standard alphabet with padding. Where the mechanism has them, there are "priority" and "kind"
    /// (numbers), "credentials" (an object of "pid", "uid" and "gid"), and "fds" (how many file
    /// descriptors came with it; they are closed). With `peers=many` there is "peer": an object of
    /// "number", and "pid", "uid" and "gid" or "address".
    #[arg(long)]
    pub(crate) json: bool,

    /// How long to wait for the other end: a number with us, ms, s, m or h; 0s for one try
    ///
    /// Takes the place of the address's `timeout`. [default: 5s to connect, for ever to listen]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,

    /// Show no progress
    ///
    /// It is shown for what takes longer than a second, where standard error is a terminal and standard
    /// output is not.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Carries messages from one address to another, and back where both are connections
///
/// The first listens and the second connects, unless their addresses say otherwise. Messages are received no
/// faster than they can be sent on. It ends when the sources have ended.
///
/// Attributes that cannot cross, such as file descriptors into a FIFO, are taken off; standard error says at the
/// end how many messages went without. A message that cannot cross at all ends it with exit code 1.
#[derive(Debug, Parser)]
pub(crate) struct BridgeArgs {
    /// Where messages come from
    #[arg(value_name = "SOURCE", value_parser = OsStringValueParser::new().try_map(address))]
    pub(crate) source: Address,

    /// Where they go to
    #[arg(value_name = "DESTINATION", value_parser = OsStringValueParser::new().try_map(address))]
    pub(crate) destination: Address,
}

impl SendArgs {
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        within(&unframed(&self.address, self.raw)?, self.timeout.as_deref())
    }
}

impl RecvArgs {
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        within(&unframed(&self.address, self.raw)?, self.timeout.as_deref())
    }
}

/// With `--raw`, bytes go to and come from other programs as they are.
fn unframed(address: &Address, raw: bool) -> Result<Address, Failure> {
    let is_stream = matches!(
        address.scheme(),
        Scheme::Exec | Scheme::Fd | Scheme::Fifo | Scheme::Unix | Scheme::Tcp
    );
    if raw && is_stream && address.get_str("framing").is_none() {
        return Ok(address.clone().with("framing", "none")?);
    }
    Ok(address.clone())
}

fn within(address: &Address, timeout: Option<&str>) -> Result<Address, Failure> {
    let Some(timeout) = timeout else {
        return Ok(address.clone());
    };
    // The error of the address would point at a place that nobody wrote.
    let usage = |reason: &str, remedy: &str| {
        let error = Error::new(ErrorKind::InvalidInput, format!("--timeout {timeout}"));
        Failure::Usage(
            error
                .with_reason(reason.to_owned())
                .with_remedy(remedy.to_owned()),
        )
    };
    if !address.scheme().keys().any(|key| key == "timeout") {
        return Err(usage(
            &format!("opening `{}:` waits for nobody", address.scheme()),
            "leave it out",
        ));
    }
    let set = address.clone().with("timeout", timeout);
    set.map_err(|error| {
        usage(
            &format!("`{timeout}` is not a duration"),
            error.remedy().unwrap_or("write one such as 500ms or 5s"),
        )
    })
}

/// An address is UTF-8, in which other bytes are escaped.
fn address(text: OsString) -> Result<Address, Error> {
    match text.into_string() {
        Ok(text) => Ok(text.parse()?),
        Err(text) => Err(Error::new(ErrorKind::InvalidAddress, "parse")
            .with_address(text.display())
            .with_reason("it has bytes that are not UTF-8")
            .with_remedy("escape each with a percent sign, such as `%FF`")),
    }
}

fn chunk(text: &str) -> Result<usize, String> {
    const LIMITS: RangeInclusive<usize> = 1..=1 << 30;
    const UNITS: [(char, u32); 3] = [('K', 10), ('M', 20), ('G', 30)];
    let (digits, shift) = UNITS
        .iter()
        .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| LIMITS.contains(bytes))
        .ok_or_else(|| "write a number of bytes from 1 to 1G, such as 4096, 64K or 1M".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line() {
        Args::command().debug_assert();
    }

    #[test]
    fn chunks() {
        for (text, expected) in [
            ("1", Some(1)),
            ("64K", Some(64 << 10)),
            ("1M", Some(1 << 20)),
            ("1G", Some(1 << 30)),
            ("2G", None),
            ("0", None),
            ("18446744073709551615G", None),
            ("64k", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(chunk(text).ok(), expected, "{text}");
        }
    }
}
