//! The rest of a `signal:` address: names to receive, or a process and the one to send.

use super::fault::Fault;
use super::nearest;
use super::value::is_decimal;

const NAMES: &[&str] = &[
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
    "SIGRTMIN",
    "SIGRTMAX",
];

/// From SIGRTMIN to SIGRTMAX, as glibc has them: 34 to 64.
const REAL_TIME_SPAN: u32 = 30;

pub(super) fn check(rest: &str) -> Result<(), Fault> {
    let (process, names) = match rest.split_once('/') {
        Some((process, names)) => (Some(process), names),
        None => (None, rest),
    };
    if let Some(process) = process {
        let valid = is_decimal(process) && process.parse::<i32>().is_ok_and(|pid| pid > 0);
        if !valid {
            return Err(Fault::new(
                0..process.len(),
                format!("`{process}` is not a process id"),
            ));
        }
        if let Some(comma) = names.find(',') {
            let at = process.len() + 1 + comma;
            return Err(Fault::new(at..rest.len(), "one signal is sent at a time"));
        }
    }
    let mut at = rest.len() - names.len();
    for name in names.split(',') {
        one(name).map_err(|fault| fault.shifted(at))?;
        if process.is_none() && matches!(name, "SIGKILL" | "SIGSTOP" | "9" | "19") {
            return Err(Fault::new(
                at..at + name.len(),
                format!("`{name}` cannot be received"),
            ));
        }
        at += name.len() + 1;
    }
    Ok(())
}

fn one(name: &str) -> Result<(), Fault> {
    let whole = 0..name.len();
    if NAMES.contains(&name) {
        return Ok(());
    }
    if is_decimal(name) {
        return match name.parse::<u32>() {
            Ok(1..=64) => Ok(()),
            _ => Err(
                Fault::new(whole, format!("`{name}` is not a signal number"))
                    .remedy("write a number from 1 to 64"),
            ),
        };
    }
    let offset = name
        .strip_prefix("SIGRTMIN+")
        .or_else(|| name.strip_prefix("SIGRTMAX-"));
    if let Some(offset) = offset {
        let valid = is_decimal(offset) && offset.parse::<u32>().is_ok_and(|n| n <= REAL_TIME_SPAN);
        return if valid {
            Ok(())
        } else {
            Err(
                Fault::new(whole, format!("`{name}` is not a real-time signal"))
                    .remedy(format!("write an offset from 0 to {REAL_TIME_SPAN}")),
            )
        };
    }
    if name.is_empty() {
        return Err(Fault::new(whole, "a signal's name is missing"));
    }
    let fault = Fault::new(whole, format!("unknown signal `{name}`"));
    // Longer than any name: not worth a copy.
    if name.len() > 16 {
        return Err(fault);
    }
    let upper = name.to_ascii_uppercase();
    let prefixed = format!("SIG{upper}");
    let near = NAMES
        .iter()
        .copied()
        .find(|&known| known == prefixed)
        .or_else(|| nearest::find(&upper, NAMES.iter().copied()));
    Err(match near {
        Some(near) => fault.meant(near),
        None => fault.remedy("write a name such as SIGUSR1, SIGRTMIN+2, or a number"),
    })
}
